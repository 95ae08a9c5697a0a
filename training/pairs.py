"""Two heads on the same rows: what each class gained and lost, with intervals, and which classes lost beyond chance.

It knows nothing of models, files or gates. Rows are paired: only those on which one head is right and the other wrong
tell the two apart. Were both heads equally good, each such row would count for either with chance 1/2 (McNemar 1947).

Letters: N rows, C classes, K of them in a group, n_y rows of class y, m_y of them right by one head only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import GROUPS, Group
from breadcrumbs.training.metrics import Integers, Interval, Z

CHANCE = 0.05  # of naming any class as lost although none is
LOST = 0.5  # share of its right rows that a lost class has lost at least


@dataclass(frozen=True, eq=False)
class Pairs:
    """Counts of rows by class (C,). Those of two parts of the rows add up with `+`.

    Attributes:
        rows: all.
        live: right by the live head.
        gained: right by the candidate only.
        lost: right by the live head only.
        broken: rows for which a logit of the candidate is not finite, of all classes.
    """

    rows: Integers
    live: Integers
    gained: Integers
    lost: Integers
    broken: int = 0

    def __add__(self, other: "Pairs") -> "Pairs":
        rows, live = self.rows + other.rows, self.live + other.live
        return Pairs(rows, live, self.gained + other.gained, self.lost + other.lost, self.broken + other.broken)

    @property
    def candidate(self) -> Integers:
        """Rows that are right by the candidate (C,)."""
        return self.live + self.gained - self.lost

    def first(self, classes: int) -> "Pairs":
        """The counts of the first so many classes."""
        own = slice(classes)
        return Pairs(self.rows[own], self.live[own], self.gained[own], self.lost[own], self.broken)

    def without(self, classes: Sequence[int]) -> "Pairs":
        """The same counts with no row of some classes."""
        kept = np.ones(len(self.rows), np.int64)
        kept[list(classes)] = 0
        return Pairs(self.rows * kept, self.live * kept, self.gained * kept, self.lost * kept, self.broken)

    def changes(self) -> list[Interval | None]:
        """The change of each class's recall (C,), as `difference` of one class; None for a class without rows."""
        rows = np.maximum(self.rows, 1)
        values = (self.gained - self.lost) / rows
        widths = Z * np.sqrt(self.gained + self.lost + 1) / rows
        both = zip(values.tolist(), widths.tolist(), self.rows.tolist(), strict=True)
        return [_within(value, width) if n else None for value, width, n in both]

    def difference(self, class_groups: Sequence[Group]) -> dict[str, Interval]:
        """The change of mean recall, `balanced` and of each group that has rows, from each class's group (C,)."""
        group, seen = np.array(class_groups), self.rows > 0
        members = {"balanced": seen} | {str(name): seen & (group == name) for name in GROUPS}
        return {name: self._change(own.nonzero()[0]) for name, own in members.items() if own.any()}

    def _change(self, own: Integers) -> Interval:
        """The change of mean recall over some classes (K,) that have rows.

        d = 1/K Σ_y (gained_y − lost_y) / n_y,  V = 1/K² Σ_y (m_y + n_y/N) / n_y²,  d ± 1.96 √V.

        Σ m_y / n_y² is what the variance of K·d would be if both heads were equally good; a class of one row counts in
        it as much as in d. The n_y / N are one differing row more in all, as Agresti and Min (2005) add two halves, so
        that no interval is without width. Where most rows changed, the interval is wider than it need be.
        """
        rows, gained, lost = self.rows[own], self.gained[own], self.lost[own]
        value = float(((gained - lost) / rows).mean())
        width = Z * math.sqrt(float(((gained + lost + rows / rows.sum()) / rows**2.0).sum())) / len(own)
        return _within(value, width)

    def lost_classes(self) -> Integers:
        """Return the classes that lost half (`LOST`) of their right rows or more, where chance does not explain it.

        An exact sign test for each class: p_y = P(lost rows or more of m_y | 1/2), of which 2^−m_y is the least. By
        Tarone (1990) only the k classes that could be named at all, at CHANCE / k, are corrected for, k the smallest
        number for which that holds: those of 2^−m_y ≤ CHANCE / k that would have lost half if all m_y were lost. So
        one is named by mistake in at most CHANCE of all cases, whatever C is. Holm and Benjamini-Hochberg correct for
        all C classes and miss more: `benchmarks/gate.py`.
        """
        differing, kept = self.gained + self.lost, self.live - self.lost
        possible = np.where((1 - LOST) * differing >= LOST * kept, differing, 0)
        k = 1 + np.arange(len(differing))
        testable = len(k) - np.searchsorted(np.sort(possible), np.log2(k / CHANCE))
        bound = CHANCE / k[np.argmax(testable <= k)]
        fell = (self.lost > self.gained) & (self.lost - self.gained >= LOST * self.live)
        return np.flatnonzero(fell & (self.chances() <= bound))

    def chances(self) -> NDArray[np.float64]:
        """Each class's p_y (C,): the chance to lose as many rows or more of those that differ, if it were even."""
        differing = self.gained + self.lost
        which, place = np.unique(np.stack([differing, self.lost]), axis=1, return_inverse=True)
        factorial = np.concatenate([[0.0], np.log(np.arange(1, differing.max(initial=0) + 1)).cumsum()])  # its log

        def tail(of: int, least: int) -> float:
            k = np.arange(least, of + 1)
            return float(np.exp(factorial[of] - factorial[k] - factorial[of - k] - of * math.log(2)).sum())

        return np.array([tail(int(of), int(least)) for of, least in which.T])[place.ravel()]


def _within(value: float, width: float) -> Interval:
    return Interval(value, max(-1.0, value - width), min(1.0, value + width))


def pairs(live: Floats, candidate: Floats, labels: Integers) -> Pairs:
    """Count the rows of two heads' logits (N, C) on the same labels (N,)."""
    classes = candidate.shape[1]
    before, after = live.argmax(1) == labels, candidate.argmax(1) == labels

    def count(own: NDArray[np.bool_]) -> Integers:
        return np.bincount(labels[own], minlength=classes)

    broken = int((~np.isfinite(candidate.sum(1))).sum())
    everything = np.ones(len(labels), dtype=bool)
    return Pairs(count(everything), count(before), count(after & ~before), count(before & ~after), broken)
