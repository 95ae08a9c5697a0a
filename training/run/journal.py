"""The record of a run: a log line, a JSON line and TensorBoard scalars for every epoch.

It knows nothing of how the numbers are computed.
"""

import json
import logging
import math
from pathlib import Path
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter

from breadcrumbs.models.files import write_whole
from breadcrumbs.models.groups import GROUPS
from breadcrumbs.training.metrics import Metrics

log = logging.getLogger("breadcrumbs.training")


class Journal:
    """The record of one run, appended to `log.jsonl` and `tensorboard/` in its folder; a context manager.

    Without `write` it does nothing: of several processes only one writes.
    """

    def __init__(self, folder: Path, epochs: int, first: int, *, write: bool = True) -> None:
        self._file, self._epochs = folder / "log.jsonl", epochs
        self._board: SummaryWriter | None = None
        if write:
            folder.mkdir(parents=True, exist_ok=True)
            self._forget_from(first)
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first)

    def _forget_from(self, epoch: int) -> None:
        """Remove lines of epochs that a resumed run will repeat, and an incomplete last line."""
        if self._file.exists():
            whole = (line for line in self._file.read_text().splitlines() if line.endswith("}"))
            kept = [line for line in whole if json.loads(line)["epoch"] < epoch]
            write_whole(self._file, "".join(line + "\n" for line in kept).encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()

    def epoch(
        self, epoch: int, scalars: dict[str, float], heads: dict[str, Metrics], by_class: dict[str, list[float]]
    ) -> None:
        """Write one epoch.

        Args:
            epoch: its number, from 1.
            scalars: losses and seconds, by name.
            heads: metrics of each head.
            by_class: lists of C numbers, by name; NaN is written as null.
        """
        if self._board is None:
            return
        listed = {name: [None if math.isnan(v) else round(v, 6) for v in values] for name, values in by_class.items()}
        line = {"epoch": epoch, **scalars, **{name: m.as_dict() for name, m in heads.items()}, **listed}
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in scalars.items():
            self._board.add_scalar(name, value, epoch)
        for head, metrics in heads.items():
            for name in ("all", "balanced", *GROUPS):
                value = getattr(metrics, name)
                if value is not None:
                    self._board.add_scalar(f"{head}/{name}", value, epoch)
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in scalars.items())
        measured = "".join(f"; {head} head, recall in %: {groups_line(metrics)}" for head, metrics in heads.items())
        log.info("epoch %d/%d: %s%s", epoch, self._epochs, numbers, measured)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `log.jsonl`, one an epoch; empty if there is no log yet."""
    file = folder / "log.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def groups_line(metrics: Metrics) -> str:
    """Return each group's recall, the mean over all classes (`balanced`) and over all images (`all`), in percent."""
    values = {name: getattr(metrics, name) for name in (*GROUPS, "balanced", "all")}
    return ", ".join(f"{name} {'–' if v is None else f'{100 * v:.1f}'}" for name, v in values.items())
