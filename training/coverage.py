"""Accuracy against coverage, for each rank of a taxonomy: how many images are answered, and how many of them rightly.

At a rank, an image's answer is the group of its best class, and its probability the sum over that group's classes.
The surest images come first: of the first share of them, the coverage, some share is right, the accuracy. It knows
nothing of files or pictures.

Letters: N rows, C classes, K points of a curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.head import softmax
from breadcrumbs.models.lineages import Lineages

AT_ONCE = 1_000_000  # probabilities in memory at the same time
POINTS = 1000
"""Largest number of points of a curve."""
DIGITS = 9
"""Of a probability; what differs only in rounding is answered together."""
TOLD = (0.5, 0.8, 0.9, 0.95, 1.0)
"""Shares that are told of each curve."""

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Curve:
    """Accuracy against coverage at one rank.

    Attributes:
        rank: its name.
        groups: how many there are.
        coverage: shares of the rows that are answered, rising to 1, float64 (K,).
        accuracy: share of those that is right, float64 (K,).
        probability: the least probability among those, float64 (K,).
    """

    rank: str
    groups: int
    coverage: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    probability: NDArray[np.float64]

    def place(self, coverage: float) -> int:
        """Return the first point that answers at least this share of the rows."""
        return min(int(np.searchsorted(self.coverage, coverage - 1e-12)), len(self.coverage) - 1)


def curves(logits: Floats, labels: Integers, lineages: Lineages) -> list[Curve]:
    """Return the curve of each rank, from the class to the root; none without rows.

    Args:
        logits: (N, C).
        labels: the rows' own classes (N,).
        lineages: of the C classes.
    """
    if not len(labels):
        return []
    return [_curve(rank, lineages.groups(rank), logits, labels) for rank in lineages.ranks]


def coverage_of(bundle: Bundle, features: Floats, labels: Integers) -> list[Curve]:
    """Return accuracy against coverage of a bundle's exported head, for each rank of its taxonomy; none without one.

    Args:
        bundle: whose head and taxonomy count.
        features: of the test rows (N, D).
        labels: their classes (N,), among the bundle's.
    """
    if bundle.taxonomy is None:
        return []
    return curves(bundle.head().logits(features), labels, Lineages(bundle.taxonomy, bundle.manifest.classes))


def _curve(rank: str, groups: Integers, logits: Floats, labels: Integers) -> Curve:
    best = groups[logits.argmax(1)]  # (N,)
    sure = _sums(logits, groups, best)
    order = np.argsort(-sure, kind="stable")
    right = (best == groups[labels])[order]
    answered = np.arange(1, len(labels) + 1)
    shown = _points(sure[order])
    return Curve(
        rank, int(groups.max()) + 1, (answered / len(labels))[shown], (right.cumsum() / answered)[shown],
        sure[order][shown],
    )  # fmt: skip


def _points(sorted_sure: NDArray[np.float64]) -> Integers:
    """Rows (K,) at which a curve has a point: where a probability ends, since equal ones are answered together."""
    ends = np.flatnonzero(np.append(np.diff(sorted_sure) != 0, True))
    chosen = np.linspace(0, len(ends) - 1, min(len(ends), POINTS)).round().astype(np.int64)
    return np.asarray(ends[chosen], np.int64)


def _sums(logits: Floats, groups: Integers, best: Integers) -> NDArray[np.float64]:
    """The probability (N,) of each row's group `best` (N,), some rows at a time; `groups` (C,)."""
    found = np.zeros(len(logits))
    step = max(1, AT_ONCE // logits.shape[1])
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        inside = groups == best[rows, None]  # (n, C)
        found[rows] = (softmax(logits[rows]) * inside).sum(1)
    return np.asarray(np.round(np.minimum(found, 1.0), DIGITS))


def told(found: Sequence[Curve]) -> list[dict[str, Any]]:
    """Return each rank with its points at `TOLD`, in JSON's own types."""
    return [{"rank": one.rank, "groups": one.groups, "points": [_point(one, share) for share in TOLD]} for one in found]


def _point(curve: Curve, share: float) -> dict[str, float]:
    place = curve.place(share)
    numbers = {"coverage": curve.coverage, "accuracy": curve.accuracy, "probability": curve.probability}
    return {name: float(values[place]) for name, values in numbers.items()}
