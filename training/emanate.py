"""EMANATE: the mathematics of feature back-tracking, on tensors and nothing else.

Source: Liu, Li, Kang, Hua, Vasconcelos, "Breadcrumbs: Adversarial Class-Balanced Sampling for Long-tailed
Recognition", ECCV 2022, and its supplement. It knows nothing of training loops, files or devices.

Letters: N rows, D feature dimensions, C classes; e the newest epoch, e' an older one; n the class-balanced target.
"""

import torch
from torch import Tensor

ROWS = 8192  # rows whose logits are in memory at a time


def class_means(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the mean feature z̄_y of each class, and the number of its rows.

    Args:
        features: (N, D), any floating dtype; summed in at least float32.
        labels: int64 (N,), 0 … C − 1.
        classes: C.

    Returns:
        means (C, D), zero for a class without rows (never NaN), and counts int64 (C,).
    """
    dtype = torch.promote_types(features.dtype, torch.float32)
    counts = torch.bincount(labels, minlength=classes)  # n_y (C,)
    sums = torch.zeros(classes, features.shape[1], dtype=dtype, device=features.device)  # n_y z̄_y (C, D)
    sums.index_add_(0, labels, features.to(dtype))
    return sums / counts.clamp(min=1).unsqueeze(1), counts


def rank_in_class(labels: Tensor, order: Tensor) -> Tensor:
    """Return each row's place 0, 1, … among the rows of its class, int64 (N,).

    Args:
        labels: int64 (N,), 0 … C − 1.
        order: int64 (N,), a permutation of the rows: the order in which they are counted.
    """
    order = order[labels[order].argsort(stable=True)]  # class by class
    counts = torch.bincount(labels)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[labels[order]]
    return rank


def transfer(features: Tensor, labels: Tensor, means_from: Tensor, means_to: Tensor) -> Tensor:
    """Move old features to the present class means: z_i − z̄_y^{e'} + z̄_y^e (eq. 6).

    It keeps the shape of each class and moves only its mean.

    Args:
        features: (N, D), the snapshot of epoch e'.
        labels: int64 (N,).
        means_from: (C, D), z̄^{e'}.
        means_to: (C, D), z̄^e.

    Returns:
        (N, D).
    """
    return features + (means_to - means_from)[labels]


def balanced_target(rows: int, classes: int) -> int:
    """Return n = ceil(N / C), the features that every class offers in a balanced set."""
    return -(-rows // classes)  # the ceiling, in integers


def back_track(counts: Tensor, target: int) -> Tensor:
    """Return q_y = ceil(n / n_y), the epochs that class y is tracked back; 0 for a class without images.

    Args:
        counts: int64 (C,), n_y.
        target: n.

    Returns:
        int64 (C,).
    """
    return torch.where(counts > 0, -(-target // counts.clamp(min=1)), 0)


def class_loss(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return L_y(Z, W, b), each class's mean negative log-likelihood under softmax(W z + b).

    Args:
        features: (N, D).
        labels: int64 (N,).
        weight: (C, D), W.
        bias: (C,), b.

    Returns:
        (C,); NaN for a class without rows, whose loss is not defined.
    """
    losses = []
    for z, y in zip(torch.split(features, ROWS), torch.split(labels, ROWS), strict=True):  # no (N, C) array
        logits = z @ weight.T + bias  # (ROWS, C)
        losses.append(torch.nn.functional.cross_entropy(logits, y, reduction="none"))
    sums = torch.zeros_like(bias).index_add_(0, labels, torch.cat(losses))  # (C,)
    counts = torch.bincount(labels, minlength=len(bias))  # n_y (C,)
    return sums / counts
