"""The stored rows that are nearest to a feature: where they lie, and how far they are.

Rows stay in their files, mapped, and are read a block at a time, however many features are looked up together; of a
part with a sketch, only those that are likely to be near. The distance is 1 − cos, 0 … 2, as `models.known` measures
nearness. It knows nothing of where rows come from, or of who may see them.

Letters: N features, M rows, D feature dimensions, k neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats, products
from breadcrumbs.models.known import unit
from breadcrumbs.serving.learning.sketch import Sketch, sketch

BLOCK = 2**23
"""Numbers of rows that are in memory at a time, as float32: 32 MiB."""
MOST = 2**28
"""Numbers of rows that are searched at most, M · D: 131,072 rows of 2,048; of more, as many of each class."""
READ = 2048
"""Rows that are read of a part with a sketch for each feature, those of the highest estimates."""

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one file, or of memory.

    Attributes:
        features: (S, D), as stored.
        rows: int64 (M,), those of them that count.
        labels: int64 (M,), of each one's class: rows of one label are of one class.
        sketch: of these rows; None: each is read.
    """

    features: NDArray[Any]
    rows: Integers
    labels: Integers
    sketch: Sketch | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: NDArray[Any]) -> "Part":
        """Some of the rows, by their places among them or a mask (M,)."""
        own = self.sketch and self.sketch.take(places)
        return Part(self.features, self.rows[places], self.labels[places], own)

    def sketched(self, block: int = BLOCK) -> "Part":
        """The same rows with a sketch, for which each is read once, so many numbers at a time."""
        return replace(self, sketch=sketch(self.features, self.rows, max(1, block // self.features.shape[1])))


@dataclass(frozen=True)
class Near:
    """A row: its part, its number in the part's file, and its distance."""

    part: int
    row: int
    distance: float


def bounded(parts: Sequence[Part], most: int = MOST) -> list[Part]:
    """Return the parts, of which as many rows of each class are left as may be searched."""
    total = sum(part.rows.size * part.features.shape[1] for part in parts)
    if total <= most:
        return list(parts)
    return [part.take(_evenly(part.labels, max(1, int(len(part) * most / total)))) for part in parts]


def _evenly(labels: Integers, count: int) -> Integers:
    """The places of so many rows, in order: the first of each class, drawn, then the second of each, …."""
    drawn = np.random.default_rng(0).permutation(len(labels))
    by_class = drawn[labels[drawn].argsort(kind="stable")]
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - (counts.cumsum() - counts)[labels[by_class]]
    return np.sort(by_class[rank.argsort(kind="stable")[:count]])


def nearest(parts: Sequence[Part], features: Floats, k: int, block: int = BLOCK) -> list[list[Near]]:
    """Return the k nearest rows of each feature (N, D), the nearest first; fewer where there are fewer rows.

    Of a part with a sketch and more than 2,048 rows, a row that is as near may be missed, seldom.

    Args:
        parts: where the rows are.
        features: to look up.
        k: rows of each at most.
        block: numbers of rows that are in memory at a time.
    """
    wanted = unit(features)
    most = max([1, *map(len, parts)])
    some = max(1, 2 * block // most)  # features whose estimates are in memory at a time
    return [
        near
        for start in range(0, len(wanted), some)
        for near in _nearest(parts, wanted[start : start + some], k, block)
    ]


def _nearest(parts: Sequence[Part], wanted: Floats, k: int, block: int) -> list[list[Near]]:
    best: Floats = np.full((len(wanted), k), -np.inf, np.float32)  # cosines
    where = np.full((len(wanted), k, 2), -1, np.int64)
    for number, part in enumerate(parts):
        step = max(1, block // part.features.shape[1])
        places = _candidates(part, wanted, k)
        for start in range(0, len(places), step):
            some = places[start : start + step]
            rows, cosine = part.rows[some], _cosines(part, some, wanted)  # (N, block)
            place = np.stack([np.full(len(rows), number), rows], 1)
            best, where = _kept(best, where, cosine, place, k)
    return [
        [
            Near(int(part), int(row), float(1 - value))
            for value, (part, row) in zip(values, places, strict=True)
            if part >= 0
        ]
        for values, places in zip(best, where, strict=True)
    ]


def _cosines(part: Part, places: Integers, wanted: Floats) -> Floats:
    """The cosines of features (N, D), of length 1, and some rows (R,): (N, R)."""
    rows = part.features[part.rows[places]]
    if part.sketch is None:
        return products(wanted, unit(rows))
    found = products(wanted, np.asarray(rows, np.float32))
    return np.asarray((found * part.sketch.scale[places]).clip(-1, 1))


def _candidates(part: Part, wanted: Floats, k: int) -> Integers:
    """The places of the rows that are read, in order."""
    count = max(READ, 4 * k)
    if part.sketch is None or len(part) <= count:
        return np.arange(len(part))
    return np.unique(np.argpartition(-part.sketch.estimates(wanted), count - 1, 1)[:, :count])


def _kept(best: Floats, where: Integers, cosine: Floats, place: Integers, k: int) -> tuple[Floats, Integers]:
    """The k best of those found before and of a block, the best first; of equal ones the first."""
    values = np.concatenate([best, cosine], 1)
    places = np.concatenate([where, np.broadcast_to(place, (len(cosine), *place.shape))], 1)
    order = (-values).argsort(1, kind="stable")[:, :k]
    return np.take_along_axis(values, order, 1), np.take_along_axis(places, order[:, :, None], 1)
