"""Weighted rows for the solver, read in chunks: whole tensors, or a stream of which only a chunk is in memory.

It knows nothing of heads, losses or where the rows come from.

Letters: N rows of all chunks, M rows of one chunk, D feature dimensions, C classes; ω_i, z_i, y_i the weight, features
and label of row i.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from breadcrumbs.training.emanate import rank_in_class

Chunk = tuple[Tensor, Tensor, Tensor]
"""Features (M, D) of any float type, labels int64 (M,), row weights (M,)."""

Source = Callable[[], Iterator[Chunk]]
"""Reads all rows once, from the first; called again for every pass, always with the same rows in the same order."""

CHUNK = 2048  # rows on a CPU: their logits stay in the cache; a pass holds about three times (CHUNK, C) numbers
CHUNK_GPU = 32_768  # rows on a GPU: enough to fill it
LOGITS_GPU = 2**25  # logits on a GPU at a time: with many classes, fewer rows


def whole(features: Tensor, labels: Tensor, weights: Tensor) -> Source:
    """Read rows that are in memory: features (N, D), labels (N,), weights (N,). Chunks are views."""

    def read() -> Iterator[Chunk]:
        yield features, labels, weights

    return read


def rows_at_once(features: Tensor, classes: int) -> int:
    """Return how many rows the products work best on, where the features lie."""
    return max(CHUNK, min(CHUNK_GPU, LOGITS_GPU // classes)) if features.is_cuda else CHUNK


def chunks(source: Source, classes: int) -> Iterator[Chunk]:
    """Cut a source's chunks into such as the products work best on."""
    for features, labels, weights in source():
        size = rows_at_once(features, classes)
        for first in range(0, len(labels), size):
            rows = slice(first, first + size)
            yield features[rows], labels[rows], weights[rows]


@dataclass(frozen=True, eq=False)
class Profile:
    """Sums over all rows, from one pass.

    Attributes:
        counts: rows of each class, int64 (C,).
        prior: π_c = Σ_{y_i = c} ω_i, the weight of each class (C,).
        centre: Σ ω_i z_i / Σ ω_i, the weighted mean (D,).
        moments: Σ_{y_i = c} ω_i (z_i − centre), (C, D).
    """

    counts: Tensor
    prior: Tensor
    centre: Tensor
    moments: Tensor

    def only(self, classes: Tensor) -> "Profile":
        """Return the profile of some of the classes, by their numbers."""
        return Profile(self.counts[classes], self.prior[classes], self.centre, self.moments[classes])


def profile(source: Source, classes: int, dtype: torch.dtype) -> Profile:
    """Read all rows once and sum them by class."""
    counts = prior = moments = torch.zeros(())
    for features, labels, weights in chunks(source, classes):
        if not counts.ndim:  # the first chunk tells D and the device
            counts = torch.zeros(classes, dtype=torch.int64, device=features.device)
            prior = torch.zeros(classes, dtype=dtype, device=features.device)
            moments = torch.zeros(classes, features.shape[1], dtype=dtype, device=features.device)
        omega = weights.to(dtype)  # (M,)
        counts.index_add_(0, labels, torch.ones_like(labels))
        prior.index_add_(0, labels, omega)
        moments.index_add_(0, labels, features.to(dtype) * omega.unsqueeze(1))  # Σ_{y_i = c} ω_i z_i (C, D)
    centre = moments.sum(0) / prior.sum()
    centred = moments - prior.unsqueeze(1) * centre
    return Profile(counts, prior, centre, centred)


def cap_for(counts: Tensor, rows: int) -> int:
    """Return the largest k ≥ 1 with Σ_c min(n_c, k) ≤ `rows`, from the counts n (C,), by bisection."""
    low, high = 1, max(1, int(counts.max()))
    while low < high:
        middle = (low + high + 1) // 2
        if int(counts.clamp(max=middle).sum()) <= rows:
            low = middle
        else:
            high = middle - 1
    return low


def sample(source: Source, known: Profile, cap: int, dtype: torch.dtype) -> Chunk:
    """Take at most `cap` rows of each class, evenly spread over the source and centred; each class keeps its weight.

    Nothing is random, and how the source is cut into chunks makes no difference.
    """
    wanted = known.counts.clamp(max=cap)  # rows to keep of each class (C,)
    seen = torch.zeros_like(known.counts)  # rows of each class in the chunks before (C,)
    parts: list[Chunk] = []
    for features, labels, weights in chunks(source, len(seen)):
        # of a row among all rows of its class (M,)
        rank = rank_in_class(labels, torch.arange(len(labels), device=labels.device)) + seen[labels]
        seen += torch.bincount(labels, minlength=len(seen))
        # row r of n is kept where ⌊(r + 1) k / n⌋ > ⌊r k / n⌋: that is k rows, evenly spaced
        share, total = wanted[labels], known.counts[labels]
        keep = ((rank + 1) * share // total > rank * share // total).nonzero().squeeze(1)
        centred = features[keep].to(known.centre.dtype) - known.centre
        parts.append((centred.to(dtype), labels[keep], weights[keep].to(known.prior)))
    features, labels, weights = (torch.cat(part) for part in zip(*parts, strict=True))
    kept = torch.zeros_like(known.prior).index_add_(0, labels, weights)  # weight of each class in the sample (C,)
    return features, labels, weights * (known.prior / kept)[labels]
