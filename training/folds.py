"""How rows are divided into folds for a cross-validation, and how many folds there is time for.

It knows nothing of what is fitted without a fold.

Letters: N rows, D feature dimensions, C classes, K folds.
"""

import torch
from torch import Tensor

from breadcrumbs.training.emanate import rank_in_class

FOLDS = ((3e8, 5), (3e9, 3))  # N · D · C up to which there are so many folds: few images choose badly with three
THOROUGH = FOLDS[-1][0]


def fold_count(work: float) -> int | None:
    """Return K for so much work, N · D · C; None: there is no time for a cross-validation."""
    return next((count for limit, count in FOLDS if work <= limit), None)


def fold_of(labels: Tensor, classes: int, count: int, seed: int) -> Tensor:
    """Return the fold int64 (N,) of each row: every class is spread evenly over the folds; −1: alone in its class.

    Args:
        labels: int64 (N,).
        classes: C.
        count: K.
        seed: of the draw.
    """
    draw = torch.Generator().manual_seed(seed)
    rank = rank_in_class(labels, torch.randperm(len(labels), generator=draw))
    first = torch.randint(count, (classes,), generator=draw)  # the fold that a class begins with (C,)
    alone = torch.bincount(labels, minlength=classes)[labels] < 2
    return torch.where(alone, -1, (rank + first[labels]) % count)
