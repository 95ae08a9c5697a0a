"""The present mean of each class, shrunk toward its older means if these do not prove that the class has moved.

The newest mean of a class of a few images is noisy, by about the class's spread over √n. If the older snapshots' mean
lies within that noise of the newest one, both estimate the same point, and all rows together estimate it best. If it
lies far outside, the class has moved and only the newest mean counts. In between, the newest mean is blended with the
mean of all rows by the positive-part rule of James and Stein (1961, "Estimation with quadratic loss"). It knows nothing
of snapshots on disk or of heads.

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
        newest: the parts that the deployed backbone made at its newest epoch; n and s² come from them.
        older: the other parts.

    Returns:
        means (C, D), and the weights w (C,): 1 for a class without older rows, or with an unknown spread.
    """
    classes = len(means)
    rows, spread = _spread(newest, classes)  # n (C,), s² (C,)
    sums = torch.zeros_like(means)  # N' m' (C, D)
    seen = torch.zeros(classes)  # N' (C,)
    for part in older:
        own, counts = part.class_means(classes)
        sums += own * counts.unsqueeze(1)
        seen += counts
    before = sums / seen.clamp(min=1).unsqueeze(1)  # m' (C, D)
    error = spread * (1 / rows.clamp(min=1) + 1 / seen.clamp(min=1))  # s² (1/n + 1/N') (C,)
    moved = (means - before).square().sum(1)  # ‖m − m'‖² (C,)
    known = (seen > 0) & (rows > 1)  # (C,)
    kept = (1 - error / moved.clamp(min=1e-30)).clamp(min=0)
    weights = torch.where(known, kept, 1.0)  # w (C,)
    together = (rows.unsqueeze(1) * means + sums) / (rows + seen).clamp(min=1).unsqueeze(1)  # (n m + N' m') / (n + N')
    w = weights.unsqueeze(1)  # (C, 1)
    return w * means + (1 - w) * together, weights


def _spread(parts: Sequence[Rows], classes: int) -> tuple[Tensor, Tensor]:
    """Return n (C,), the rows of each class, and s² (C,), their mean squared distance from their mean, unbiased."""
    total, squares = torch.zeros(classes), torch.zeros(classes)  # n, Σ ‖z_i − m‖²
    for part in parts:
        own, counts = part.class_means(classes)  # (C, D), (C,)
        for features, labels in part.chunks():
            squares.index_add_(0, labels, (features - own[labels]).square().sum(1))
        total += counts
    # every part has a mean of its own, so each costs a degree of freedom
    return total, squares / (total - len(parts)).clamp(min=1)
