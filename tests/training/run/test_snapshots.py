"""The snapshots that a run leaves on disk, thinned by age."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.run.snapshots import keep, path_of, stored, tail

BACK = np.array([1, 2, 4])  # q_y: head, middle, tail
LABELS = np.array([0] * 6 + [1] * 3 + [2])


def epoch(number: int) -> Snapshot:
    """The snapshot of an epoch: its number is in every feature."""
    features = np.full((10, 2), number, np.float32)
    return Snapshot(features, LABELS, ("head", "middle", "tail"), "a" * 64, number, ids=np.arange(10), created="now")


def left(folder: Path) -> dict[int, list[int]]:
    """What is stored: for each epoch its rows of each class, newest first."""
    found = {}
    for path in stored(folder):
        own = snapshots.read(path)
        assert path == path_of(folder, own.epoch)
        assert (own.features == own.epoch).all()
        found[own.epoch] = own.counts().tolist()
    return found


def test_older_epochs_keep_what_is_tracked_back(tmp_path: Path) -> None:
    """A class's rows stay for its q_y epochs, and a file that no class needs vanishes."""
    for number in range(1, 7):
        keep(tmp_path, epoch(number), BACK, whole=1)

    assert left(tmp_path) == {6: [6, 3, 1], 5: [0, 3, 1], 4: [0, 0, 1], 3: [0, 0, 1]}


def test_the_newest_epochs_are_kept_whole(tmp_path: Path) -> None:
    """As many of the newest as asked for keep all rows; thinning begins after them."""
    for number in range(1, 7):
        keep(tmp_path, epoch(number), BACK, whole=3)

    assert left(tmp_path) == {6: [6, 3, 1], 5: [6, 3, 1], 4: [6, 3, 1], 3: [0, 0, 1]}


def test_thinned_rows_are_the_same_rows(tmp_path: Path) -> None:
    """A thinned snapshot keeps features, ids and metadata of the rows that stay."""
    for number in (1, 2):
        keep(tmp_path, epoch(number), BACK, whole=1)

    thin = snapshots.read(path_of(tmp_path, 1))

    assert thin.ids is not None
    assert thin.ids.tolist() == [6, 7, 8, 9]
    assert thin.labels.tolist() == [1, 1, 1, 2]
    assert (thin.backbone, thin.epoch, thin.created) == ("a" * 64, 1, "now")


def test_later_epochs_go_after_a_resume(tmp_path: Path) -> None:
    """A run resumed from an earlier checkpoint leaves no snapshot of the future it gave up."""
    for number in range(1, 6):
        keep(tmp_path, epoch(number), BACK, whole=3)

    keep(tmp_path, epoch(4), BACK, whole=3)

    assert left(tmp_path) == {4: [6, 3, 1], 3: [6, 3, 1], 2: [0, 0, 1]}  # what epoch 5 has thinned stays so


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """Only snapshots of epochs are thinned, and those of five digits are newer than those of four."""
    (tmp_path / "notes.txt").write_text("mine")

    for number in (9_998, 9_999, 10_000, 10_001):
        keep(tmp_path, epoch(number), BACK, whole=1)

    assert (tmp_path / "notes.txt").exists()
    assert left(tmp_path) == {10_001: [6, 3, 1], 10_000: [0, 3, 1], 9_999: [0, 0, 1], 9_998: [0, 0, 1]}
    assert [snapshots.read(path).epoch for path in stored(tmp_path)] == [10_001, 10_000, 9_999, 9_998]


@given(back=st.lists(st.integers(0, 6), min_size=3, max_size=3), age=st.integers(0, 7))
def test_the_tail_is_the_rows_that_still_balance(back: list[int], age: int) -> None:
    """Of a snapshot so old, the rows of classes with q_y above the age are left; none of them is no snapshot."""
    found = tail(epoch(1), np.array(back), age)

    expected = [i for i, label in enumerate(LABELS) if back[label] > age]
    assert (found is None) == (not expected)
    if found is not None:
        assert found.ids is not None
        assert found.ids.tolist() == expected
