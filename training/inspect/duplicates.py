"""Near-duplicates: two images that are nearly the same to the backbone, in two classes or in training and test.

Similarity is the cosine of two features less the mean of all training features. Two rows are near-duplicates if they
are similar, and far more similar than the row is to its neighbours: where all images of a class look alike, nearness
alone says nothing. Equal files are found without features (`training.data.same_pictures`). It knows nothing of
pictures or files.

Letters: N and M rows, D feature dimensions, K neighbours.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from breadcrumbs.models.arrays import Floats

SIMILAR = 0.85
"""Least cosine. Of 250 pictures of clip art, copies in a JPEG of quality 75, cropped by a tenth, brighter, or mirrored
reached it in 80, 90, 99 and 100 % of cases. So did 6 % of 4,801 pictures with one of another class."""
NEIGHBOURS = 10  # K: more copies than this of one picture are taken for a class in which all look alike
RATIO = 0.3
"""Most that a pair's distance may be of the distance to the row's K-th neighbour. Most copies pass: 76, 88, 99, 99 %.
Classes that look alike do not: of 2,480 images of Fashion-MNIST it leaves 11 near-duplicates of 569."""
EQUAL = 1e-5  # a distance within rounding
WORK = 1e13  # N · M · D up to which pairs are compared: minutes of a few cores
MOST = 1000  # pairs that are returned
ROWS, COLUMNS = 1024, 8192  # similarities in memory at a time: 32 MiB

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Duplicate:
    """Two rows that are nearly the same, and the cosine of their centred features."""

    row: int
    other: int
    similarity: float


@dataclass(frozen=True, eq=False)
class _Nearest:
    """Of each row (n,): the most similar one that counts, its similarity, and the K-th similarity of all."""

    other: Tensor
    similarity: Tensor
    neighbour: Tensor


def between_classes(features: Floats, labels: Integers) -> list[Duplicate]:
    """Return pairs of rows of two classes, the most similar first, at most `MOST`; each row with its nearest.

    Args:
        features: f32 (N, D), finite.
        labels: int64 (N,).
    """
    rows, own = _tensor(features), torch.from_numpy(np.require(labels, np.int64, ["C", "W"]))
    centre = _mean(rows)
    found = [
        _pairs(start, _nearest(block, rows, centre, own[start : start + len(block)], own, start))
        for start, block in _blocks(rows, ROWS)
    ]
    similarity = {(min(one.row, one.other), max(one.row, one.other)): one.similarity for part in found for one in part}
    return _worst(Duplicate(row, other, value) for (row, other), value in similarity.items())


def between_parts(test: Floats, train: Floats) -> list[Duplicate]:
    """Return pairs of a test row and the training row nearest to it, the most similar first, at most `MOST`.

    Args:
        test: f32 (M, D), finite.
        train: f32 (N, D), finite.
    """
    rows, others = _tensor(test), _tensor(train)
    centre = _mean(others)
    found = [_pairs(start, _nearest(block, others, centre)) for start, block in _blocks(rows, ROWS)]
    return _worst(one for part in found for one in part)


def within_limit(rows: int, others: int, dimensions: int) -> bool:
    """Return whether N · M · D is small enough for all pairs to be compared in reasonable time."""
    return rows * others * dimensions <= WORK


def _tensor(features: Floats) -> Tensor:
    """The same memory as a tensor; a copy of what is mapped from a file."""
    return torch.from_numpy(np.require(features, np.float32, ["C", "W"]))


def _mean(rows: Tensor) -> Tensor:
    """The mean (D,) of all rows, in float64 where it is summed."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for _, block in _blocks(rows, COLUMNS):
        total += block.sum(0, dtype=torch.float64)
    return (total / max(len(rows), 1)).float()


def _blocks(rows: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]


def _direction(rows: Tensor, centre: Tensor) -> Tensor:
    """Centred rows of length 1; one at the centre itself is similar to nothing."""
    centred = rows - centre
    length: Tensor = centred.norm(dim=1, keepdim=True)
    return centred / length.clamp(min=1e-12)


def _nearest(
    block: Tensor, others: Tensor, centre: Tensor, own: Tensor | None = None, labels: Tensor | None = None,
    first: int = 0,
) -> _Nearest:  # fmt: skip
    """Compare some rows (n, D) with all others (N, D).

    Args:
        block: the rows.
        others: what they are compared with.
        centre: (D,).
        own: the rows' labels (n,); where given, the rows are among the others from place `first` on, and only others
            of another label count.
        labels: of the others (N,).
        first: see `own`.
    """
    turned = _direction(block, centre)
    numbers = torch.arange(first, first + len(block))
    best = torch.full((len(block),), -torch.inf)
    other = torch.zeros(len(block), dtype=torch.int64)
    near = torch.full((len(block), 0), -torch.inf)  # the K largest similarities so far (n, K)
    for start, part in _blocks(others, COLUMNS):
        similar = turned @ _direction(part, centre).T  # (n, m)
        places = torch.arange(start, start + len(part))
        if own is not None:
            similar[numbers.unsqueeze(1) == places] = -torch.inf  # itself
        near = torch.cat([near, similar.topk(min(NEIGHBOURS, len(part))).values], 1)
        near = near.topk(min(NEIGHBOURS, near.shape[1])).values
        if own is not None and labels is not None:
            similar[own.unsqueeze(1) == labels[places]] = -torch.inf
        value, place = similar.max(1)
        better = value > best
        best = torch.where(better, value, best)
        other = torch.where(better, places[place], other)
    full = near.shape[1] == NEIGHBOURS
    return _Nearest(other, best, near[:, -1] if full else torch.full_like(best, -torch.inf))


def _pairs(first: int, found: _Nearest) -> list[Duplicate]:
    """The rows, numbered from `first` on, that have a near-duplicate."""
    distance = 1 - found.similarity
    alone = distance <= RATIO * (1 - found.neighbour)
    near = (found.similarity >= SIMILAR) & (alone | (distance <= EQUAL))
    return [
        Duplicate(first + int(row), int(found.other[row]), min(1.0, float(found.similarity[row])))
        for row in near.nonzero().squeeze(1)
    ]


def _worst(pairs: Iterator[Duplicate]) -> list[Duplicate]:
    return sorted(pairs, key=lambda one: (-one.similarity, one.row, one.other))[:MOST]
