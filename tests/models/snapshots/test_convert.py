"""Formats of others are read by a process of their own: what ends or stops their reader ends in one sentence."""

import sys
from pathlib import Path

import numpy as np
import pytest
from forked import command
from tiny import tiny_snapshot

from breadcrumbs import models
from breadcrumbs.models.snapshots import convert
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.convert import in_child, open_safely
from breadcrumbs.models.snapshots.fields import Given
from breadcrumbs.models.snapshots.formats import LIMIT
from breadcrumbs.models.snapshots.snapshot import SnapshotError

CRASH = Path(__file__).parent / "cases" / "crash.parquet"
GIVEN = Given("b" * 64, 3, ("oak", "elm"))


def test_a_file_that_ends_its_reader_is_told(tmp_path: Path) -> None:
    """By `convert` and by a local refit: exit status 2, one sentence, and nothing is left."""
    out = tmp_path / "out.safetensors"
    bundle = Path(models.__file__).parent / "demo"
    lines = (
        ["convert", str(CRASH), str(out)],
        ["refit", "--bundle", str(bundle), "--snapshot", str(CRASH), "--out", str(tmp_path / "made")],
        ["refit", "--bundle", str(bundle), "--holdout", str(CRASH), "--out", str(tmp_path / "made")],
    )
    for line in lines:
        done = command(*line)
        told = [one for one in done.stderr.splitlines() if one.startswith("breadcrumbs: ")]

        assert done.returncode == 2, done.stderr
        assert len(told) == 1
        assert told[0].endswith(
            "crash.parquet: the file is damaged: expected a snapshot, but its reader ended by "
            "SIGABRT; make the file anew"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("import time; time.sleep(600)", "file.npz: reading it took longer than 0.5 s"),
        ("import os; os._exit(3)", "its reader ended with status 3: "),
        ("import os; os.kill(os.getpid(), 9)", "its reader ended by SIGKILL"),
        ("print('not JSON')", "its reader ended with status 0"),
        ("", "its reader ended with status 0"),
    ],
)
def test_a_reader_that_goes_wrong_leaves_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, sentence: str
) -> None:
    """As it was before, and a sentence."""
    source, target = tmp_path / "file.npz", tmp_path / "out.safetensors"
    source.write_bytes(b"PK\3\4")
    target.write_bytes(b"before")
    monkeypatch.setattr(convert, "COMMAND", (sys.executable, "-c", program))
    with pytest.raises(SnapshotError, match=sentence.replace(".", r"\.")):
        in_child(source, target, GIVEN, LIMIT, seconds=0.5 if "sleep" in program else 60)

    assert target.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.npz", "out.safetensors"]


def test_what_is_converted_is_what_came(tmp_path: Path) -> None:
    """Rows, classes and epoch are told; the same opens without a target, and safetensors without a process."""
    snapshot = tiny_snapshot("b" * 64, 3)
    source, target = tmp_path / "file.npz", tmp_path / "out.safetensors"
    np.savez(source, features=snapshot.features, labels=snapshot.labels, classes=np.array(snapshot.classes))
    made = in_child(source, target, Given("b" * 64, 3, None), LIMIT)

    assert (made.rows, made.classes, made.epoch) == (len(snapshot.labels), len(snapshot.classes), 3)
    assert np.array_equal(snapshots.read(target).features, snapshot.features)
    assert np.array_equal(open_safely(target).labels, snapshot.labels)
    with pytest.raises(SnapshotError, match="backbone"):
        open_safely(source)
