"""A refit's events as they arrive: JSON lines for a program, a bar at a terminal, a few lines in a log.

It knows nothing of whether the refit runs here or on a server.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

EVERY = 10.0
"""Seconds between two lines about the solver where there is no terminal."""
STAGES = ("read", "transfer", "choose", "solve", "judge", "baselines", "certificate", "report")

Tell = Callable[[dict[str, Any]], None]
Json = Annotated[bool, Parameter(negative=(), show_default=False)]
"""The flag `--json` of a command."""


@contextlib.contextmanager
def telling(*, as_json: bool) -> Iterator[Tell]:
    """Show a refit's events and remove the bar at the end; yield the function that takes the events."""
    if as_json:
        yield tell_json
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        more = TextColumn("{task.fields[more]}")
        with Progress(*columns, more, transient=True, console=Console(stderr=True)) as bar:
            task = bar.add_task("refit", total=len(STAGES), more="")

            def show(event: dict[str, Any]) -> None:
                stage = _title(event)
                if stage in STAGES:
                    bar.update(task, description=stage, completed=STAGES.index(stage), more="")
                elif event["event"] in {"live", "stored"}:
                    bar.update(task, more=stage)
                elif stage:
                    bar.update(task, description=stage, completed=0, total=len(STAGES), more="")
                if event["event"] == "upload":
                    done, whole = event["bytes"], event["of"]
                    bar.update(task, description=event["file"], completed=done, total=whole, more=_bytes(event))
                if event["event"] == "progress":
                    bar.update(task, more=_step(event))

            yield show


def tell_json(event: dict[str, Any]) -> None:
    """Print an event as one line of JSON."""
    print(json.dumps(event), flush=True)  # noqa: T201


class Lines:
    """Prints a line for each stage, each tenth of an upload, what became of the head, and where the solver is: every
    ten seconds, and where it ended before the next stage.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last, self._stage = "", ""
        self._said = clock()
        self._tenth = ("", 0)

    def __call__(self, event: dict[str, Any]) -> None:
        """Hear an event."""
        if event["event"] == "upload":
            tenth = (event["file"], 10 * event["bytes"] // event["of"])
            if tenth != self._tenth:
                self._tenth = tenth
                self._say(f"  {event['file']}: {_bytes(event)}")
        elif event["event"] == "progress":
            self._last = _step(event)
            if self._clock() - self._said >= EVERY:
                self._say(f"  {self._stage or 'solve'}: {self._last}")
                self._last = ""
        else:
            for line in (f"  {self._last}" if self._last else "", _title(event)):
                if line:
                    self._say(line)
            self._last, self._stage = "", str(event.get("stage") or self._stage)

    def _say(self, line: str) -> None:
        self._said = self._clock()
        print(line, file=sys.stderr, flush=True)  # noqa: T201


def _title(event: dict[str, Any]) -> str:
    if event["event"] in {"live", "stored"}:
        return f"head {event['head']} is {event['event']} ({event['note']}); the report follows"
    return str(event.get("stage") or event.get("state") or "")


def _bytes(event: dict[str, Any]) -> str:
    return f"{event['bytes'] / 1e6:.1f} of {event['of'] / 1e6:.1f} MB"


def _step(event: dict[str, Any]) -> str:
    gap = f", gap {event['gap']:.1e}" if event.get("gap") is not None else ""
    numbers = f"iteration {event['iteration']}: gradient norm {event['gradient_norm']:.2e}{gap}"
    return f"λ {event['l2']:g}, {numbers}" if "l2" in event else numbers
