"""What a run tells: JSON lines, log lines, TensorBoard; and what a resumed run forgets."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from breadcrumbs.training.metrics import Metrics
from breadcrumbs.training.run.journal import Journal, groups_line
from breadcrumbs.training.terminal.bars import track

METRICS = Metrics(
    all=0.8,
    balanced=0.7,
    many=0.9,
    medium=0.6,
    few=None,
    harmonic=0.5,
    macro_f1=0.6,
    worst=0.1,
    ece=0.05,
    nll=1.5,
    recall=(0.9, None),
    precision=(0.8, None),
)


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


BY_CLASS = {"drift": [0.5, float("nan")], "crumbs": [0.0, 1.0]}


def write(folder: Path, first: int, last: int) -> None:
    with Journal(folder, 9, first) as journal:
        for number in range(first, last + 1):
            journal.epoch(
                number, {"joint_loss": number / 10}, {"balanced": replace(METRICS, all=number / 100)}, BY_CLASS
            )


def test_every_epoch_is_a_json_line(tmp_path: Path) -> None:
    """A line has the epoch, its scalars and every metric of every head."""
    with Journal(tmp_path / "new" / "run", 2, 1) as journal:
        journal.epoch(1, {"joint_loss": 0.5}, {"joint": METRICS, "balanced": METRICS}, BY_CLASS)

    (line,) = lines(tmp_path / "new" / "run")

    assert line["epoch"] == 1
    assert line["joint_loss"] == 0.5
    assert line["drift"] == [0.5, None]
    assert line["crumbs"] == [0.0, 1.0]
    assert line["joint"] == line["balanced"] == json.loads(json.dumps(METRICS.as_dict()))


def test_every_epoch_is_a_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line an epoch has its number, the scalars and the groups of each head."""
    caplog.set_level(logging.INFO, "breadcrumbs.training")

    write(tmp_path, 3, 3)

    assert caplog.messages == [
        "epoch 3/9: joint_loss 0.3; balanced head, recall in %: many 90.0, medium 60.0, few –, balanced 70.0, all 3.0"
    ]


def test_tensorboard_has_the_scalars(tmp_path: Path) -> None:
    """Scalars and group metrics are there by epoch; a group without rows is not."""
    write(tmp_path, 1, 2)

    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()

    assert {"joint_loss", "balanced/all", "balanced/balanced", "balanced/many", "balanced/medium"} == set(
        board.Tags()["scalars"]
    )
    assert [(e.step, round(e.value, 4)) for e in board.Scalars("balanced/all")] == [(1, 0.01), (2, 0.02)]


def test_a_resumed_run_forgets_what_it_does_again(tmp_path: Path) -> None:
    """Lines from the epoch it goes on with are dropped, the ones before kept as they were."""
    write(tmp_path, 1, 5)

    write(tmp_path, 4, 4)

    assert [(line["epoch"], line["joint_loss"]) for line in lines(tmp_path)] == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]


def test_a_line_cut_short_is_forgotten(tmp_path: Path) -> None:
    """A run that was stopped in the middle of a line can be resumed: the half line is dropped."""
    write(tmp_path, 1, 3)
    text = (tmp_path / "log.jsonl").read_text()
    (tmp_path / "log.jsonl").write_text(text[:-40])

    write(tmp_path, 3, 4)

    assert [line["epoch"] for line in lines(tmp_path)] == [1, 2, 3, 4]


def test_groups_are_told_in_percent() -> None:
    """Each number has its name: `balanced` is the mean of recalls, `all` the share of images; a dash without rows."""
    told = f"many 90.0, medium 60.0, few –, balanced 70.0, all {100 * METRICS.all:.1f}"

    assert groups_line(METRICS) == told


def test_a_bar_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Items come through in order, and without a terminal nothing is drawn."""
    assert list(track(iter("abc"), 3, "epoch 1/1")) == ["a", "b", "c"]

    assert capsys.readouterr().err == ""
