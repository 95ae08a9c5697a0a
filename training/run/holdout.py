"""The hold-out of a bundle: rows of images that nothing was fitted or chosen on, as many as a refit needs to be judged.

It knows nothing of where the rows come from or of what a refit does with them.
"""

import numpy as np
import torch

from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.emanate import rank_in_class

PER_CLASS = 50
"""Rows of a class, at most: with 50 rows, the 95 % interval of a recall is 28 points wide at its widest."""
ROWS = 50_000
"""Rows in all, at most."""


def drawn(snapshot: Snapshot, per_class: int = PER_CLASS, rows: int = ROWS) -> Snapshot:
    """Draw some of each class's rows, with a fixed seed; they stay in their order.

    Args:
        snapshot: a look at labelled images.
        per_class: the most rows of a class.
        rows: the most rows in all; if they are too few, every class gives equally many, as far as it has them.
    """
    order = np.random.default_rng(0).permutation(len(snapshot.labels))
    rank = rank_in_class(torch.from_numpy(snapshot.labels), torch.from_numpy(order)).numpy()
    inverse = np.argsort(order)
    chosen = np.lexsort((inverse, rank))[: min(rows, int((rank < per_class).sum()))]  # rank 0 of every class, then 1
    return snapshot.take(np.sort(chosen))
