"""Where a class is now: its present mean, shrunk toward its older means where those do not prove that it has moved.

The newest mean of a class of a few images is itself noise, of about the class's spread over √n. Where the older
snapshots' mean lies within that noise of the newest one, both estimate the same point, and all rows together estimate
it best; where it lies far outside, the class has drifted and only the newest mean counts. Between the two the newest
mean is blended with the mean of all rows by the positive-part rule of James and Stein (1961). It knows nothing of
snapshots on disk or of heads.

Letters: N rows, D feature dimensions, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from breadcrumbs.training.refit.rows import Rows


def shrunk(means: Tensor, newest: Sequence[Rows], older: Sequence[Rows]) -> tuple[Tensor, Tensor]:
    """Blend each class's newest mean with the mean of all its rows, by estimated drift against sampling error.

    With m the newest mean of n rows, m' the mean of N' older rows and s² the class's mean squared distance from its
    mean, the sampling error of m − m' is s² (1/n + 1/N'). The newest mean keeps the weight
    w = max(0, 1 − s² (1/n + 1/N') / ‖m − m'‖²); the mean of all rows, (n m + N' m') / (n + N'), has the rest.

    Args:
        means: f32 (C, D), the newest means.
        newest: the parts that the deployed backbone made at its newest look; they tell n and s².
        older: the other parts.

    Returns:
        means (C, D), and the weights w (C,): 1 for a class without older rows, or whose spread is not known.
    """
    classes = len(means)
    rows, spread = _spread(newest, classes)
    sums, seen = torch.zeros_like(means), torch.zeros(classes)
    for part in older:
        own, counts = part.class_means(classes)
        sums += own * counts.unsqueeze(1)
        seen += counts
    before = sums / seen.clamp(min=1).unsqueeze(1)
    error = spread * (1 / rows.clamp(min=1) + 1 / seen.clamp(min=1))
    moved = (means - before).square().sum(1)
    known = (seen > 0) & (rows > 1)
    weights = torch.where(known, (1 - error / moved.clamp(min=1e-30)).clamp(min=0), 1.0)
    together = (rows.unsqueeze(1) * means + sums) / (rows + seen).clamp(min=1).unsqueeze(1)
    return weights.unsqueeze(1) * means + (1 - weights.unsqueeze(1)) * together, weights


def _spread(parts: Sequence[Rows], classes: int) -> tuple[Tensor, Tensor]:
    """The rows of each class (C,) and their mean squared distance from their mean (C,), unbiased."""
    total, squares = torch.zeros(classes), torch.zeros(classes)
    for part in parts:
        own, counts = part.class_means(classes)
        for features, labels in part.chunks():
            squares.index_add_(0, labels, (features - own[labels]).square().sum(1))
        total += counts
    return total, squares / (total - len(parts)).clamp(min=1)
