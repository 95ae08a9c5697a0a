"""The list of a snapshot's likely wrong labels: which rows, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot, SnapshotError
from breadcrumbs.training.inspect.suspect_list import Refusal, listed


def written(path: Path, labels: Any, dim: int = 4, classes: int = 5) -> Path:
    """A snapshot of rows at random."""
    labels = np.asarray(labels, np.int64)
    features = np.random.default_rng(0).normal(size=(len(labels), dim)).astype(np.float32)
    names = tuple(f"Ünusual name {place:04d}" for place in range(classes))
    snapshots.write(path / "rows.safetensors", Snapshot(features, labels, names, "a" * 64, 1))
    return path / "rows.safetensors"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0], "1 rows with a label, of 1 classes"),
        ([0, 1, 2], "3 rows with a label, of 3 classes"),
        ([1] * 9, "9 rows with a label, of 1 classes"),
        ([-1, -1], "0 rows with a label, of 0 classes"),
    ],
)
def test_rows_that_no_head_can_be_fitted_to_are_refused(tmp_path: Path, labels: list[int], words: str) -> None:
    """In a sentence that says what is expected."""
    found = listed(written(tmp_path, labels), 10)

    assert isinstance(found, Refusal)
    assert found.kind == "too_few"
    assert words in found.message


def test_too_much_work_is_refused(tmp_path: Path) -> None:
    """Where every row could not be scored in reasonable time."""
    found = listed(written(tmp_path, np.arange(20_000) % 2000, 100, 2000), 10)

    assert isinstance(found, Refusal)
    assert found.kind == "too_large"


@pytest.mark.parametrize("most", [1, 5, 1000])
def test_classes_of_one_row_are_never_named(tmp_path: Path, most: int) -> None:
    """Of a thousand classes; and no class more often than its quota says, nor rows without a label."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([[-1], np.arange(1000), rng.integers(0, 3, 200)])

    found = listed(written(tmp_path, labels, classes=1000), most)

    assert not isinstance(found, Refusal)
    named = list(found)
    given = [one["given"] for one in named]
    assert len(named) <= most
    assert set(given) <= {f"Ünusual name {place:04d}" for place in range(3)}
    assert all(2 * given.count(f"Ünusual name {place:04d}") <= np.sum(labels == place) + 1 for place in range(3))
    assert all(labels[one["row"]] >= 0 and one["image"] is None for one in named)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """As every snapshot is."""
    path = written(tmp_path, [0, 1])
    path.write_bytes(path.read_bytes()[:-9])

    with pytest.raises(SnapshotError):
        listed(path, 10)
