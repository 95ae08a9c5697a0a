"""The prior offset t of a head, b − t·log π, and the exponent τ of a normalised one: the best on labelled rows.

Every head that is compared has its offset chosen here, so that none has an advantage. It knows nothing of where rows
come from.

Letters: N rows, D feature dimensions, C classes; π_y the share of class y among the training images.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.refit.without_training import logit_adjusted, tau_normalised

OFFSETS, END = tuple(k / 4 for k in range(7)), 4.0
STEP = 0.25
TAUS = tuple(i / 10 for i in range(11))


@dataclass(frozen=True, eq=False)
class Labelled:
    """Rows: features f32 (N, D), labels int64 (N,)."""

    features: Floats
    labels: NDArray[np.int64]


def balanced_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the mean recall of the classes that have rows, from logits (N, C) and labels (N,); 0 without rows."""
    rows = torch.bincount(labels, minlength=logits.shape[1])
    hits = torch.bincount(labels[logits.argmax(1) == labels], minlength=logits.shape[1])
    seen = rows > 0
    return float((hits[seen] / rows[seen]).mean()) if seen.any() else 0.0


def best_offset(logits: Tensor, labels: Tensor, log_prior: Tensor, given: float | None = None) -> tuple[float, float]:
    """Return the t whose logits − t log π are best, and their score; the grid grows until the best is inside."""
    if given is not None:
        return given, balanced_accuracy(logits - given * log_prior, labels)
    known: dict[float, float] = {}

    def at(t: float) -> float:
        if t not in known:
            known[t] = balanced_accuracy(logits - t * log_prior, labels)
        return known[t]

    grid = list(OFFSETS)
    while True:
        best = max(grid, key=lambda t: (at(t), -abs(t - 1)))  # of equals the one nearest to the balanced posterior
        if best == grid[-1] < END:
            grid.append(best + STEP)
        elif best == grid[0] > -END:
            grid.insert(0, best - STEP)
        else:
            return best, at(best)


def with_offset(head: LinearHead, log_prior: NDArray[np.float64], rows: Labelled) -> tuple[LinearHead, float]:
    """Return a head with its best offset −t·log π, log π (C,), and t."""
    t, _ = _scored(head, log_prior, rows)
    return logit_adjusted(head, log_prior, t), t


def with_tau(head: LinearHead, log_prior: NDArray[np.float64], rows: Labelled) -> tuple[LinearHead, float, float]:
    """Return a head with its weights normalised by the best τ, each τ with its best offset; τ, and t."""
    tried = [(tau, tau_normalised(head, tau)) for tau in TAUS]
    found = [(*_scored(normal, log_prior, rows), tau, normal) for tau, normal in tried]
    t, _, tau, normal = max(found, key=lambda one: one[1])
    return logit_adjusted(normal, log_prior, t), tau, t


def _scored(head: LinearHead, log_prior: NDArray[np.float64], rows: Labelled) -> tuple[float, float]:
    logits = torch.from_numpy(head.logits(rows.features))
    return best_offset(logits, torch.from_numpy(rows.labels), torch.from_numpy(log_prior).float())
