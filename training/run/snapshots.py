"""The snapshots that a run leaves on disk: whole for the newest epochs, the tail's crumbs for older ones.

`run/snapshots/epoch-0007.safetensors` holds Z^7. Of older epochs, only the rows of classes that are
tracked back that far (q_y > age) are kept, and a file without such rows is deleted. It knows nothing of networks.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot

Integers = NDArray[np.int64]


def path_of(folder: Path, epoch: int) -> Path:
    """Return the path of an epoch's snapshot."""
    return folder / f"epoch-{epoch:04d}.safetensors"


def keep(folder: Path, snapshot: Snapshot, epochs_back: Integers, whole: int) -> None:
    """Write the newest snapshot, and remove rows of the older ones that are no longer needed.

    Args:
        folder: the run's snapshots.
        snapshot: Z^e of the epoch that just ended.
        epochs_back: q_y of each class, int64 (C,).
        whole: number of newest epochs that keep all of their rows.
    """
    snapshots.write(path_of(folder, snapshot.epoch), snapshot)
    for path in stored(folder):
        age = snapshot.epoch - _epoch(path)
        if age < 0:  # from a run that was resumed from an earlier checkpoint
            path.unlink()
        elif age >= whole:
            crumbs = tail(snapshots.read(path), epochs_back, age)
            path.unlink() if crumbs is None else snapshots.write(path, crumbs)


def stored(folder: Path) -> list[Path]:
    """Return the paths of a run's snapshots, the newest first."""
    return sorted(folder.glob("epoch-*.safetensors"), key=_epoch, reverse=True)


def _epoch(path: Path) -> int:
    return int(path.stem.removeprefix("epoch-"))


def tail(snapshot: Snapshot, epochs_back: Integers, age: int) -> Snapshot | None:
    """Return the rows of a snapshot that still balance the tail, of classes with q_y > age; None if it has none."""
    rows = (snapshot.labels >= 0) & (epochs_back[snapshot.labels] > age)
    return snapshot.take(np.flatnonzero(rows)) if rows.any() else None
