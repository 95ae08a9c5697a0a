"""Which training images an int8 graph is calibrated on: some of every class, the rarest classes first.

It knows nothing of graphs.

Letters: N training images, C classes.
"""

import numpy as np
from numpy.typing import NDArray

IMAGES = 256
"""Images, where there are no more classes."""
CLASSES = 1024
"""Images at most, one of each class."""

Integers = NDArray[np.int64]


def chosen(labels: Integers, seed: int = 0) -> Integers:
    """Draw the rows to calibrate on: one of every class in turn, the rarest first, then a second one, and so on.

    Args:
        labels: of the training images (N,).
        seed: of the draw.

    Returns:
        Rows in their order, 256 of them, or with more classes one of each up to 1,024; all, if there are fewer.
    """
    counts = np.bincount(labels)
    most = max(IMAGES, min(int((counts > 0).sum()), CLASSES))
    drawn = np.random.default_rng(seed).permutation(len(labels))
    by_class = drawn[np.argsort(labels[drawn], kind="stable")]
    begins = np.cumsum(counts) - counts
    turn = np.arange(len(labels)) - begins[labels[by_class]]  # 0 for a class's first image, then 1, …
    order = np.lexsort((counts[labels[by_class]], turn))
    return np.sort(by_class[order[:most]])
