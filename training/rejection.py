"""How many judged rows a threshold would reject as not known, by group, where it rejects 5 in 100 of them in all.

    one         of s, the similarity to the nearest point: one threshold for all
    by group    of `known`, the rank of s among left-out rows of the group of the nearest point
    by class    of the rank of s − m_c among these, c being the class of the nearest point

The level of a class, m_c = (Σ s_i + SHRINK · m_g) / (n_c + SHRINK), is the mean of its n_c left-out rows, shrunk to
the mean m_g of its group's: a class of few rows has the group's threshold.

The groups of the shares are those of the rows' own classes. No row is refused by any of this: on classes that the
backbone never saw nothing holds (`benchmarks/unknown.py`). It knows nothing of how points are chosen.

Letters: N judged rows, D feature dimensions, C classes, n left-out rows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import GROUPS, Group
from breadcrumbs.models.rejection import Rejected, Rejection
from breadcrumbs.training.known import Points

REJECTED = 0.05  # of the rows
SHRINK = 10  # rows of the group's mean that a class's own is averaged with
MOST = 4096  # rows that are looked at; of more they are drawn

Integers = NDArray[np.int64]
Scores = NDArray[np.floating]


def rejection(
    points: Points, features: Floats, labels: Integers, class_groups: Sequence[Group], seed: int = 0
) -> Rejection | None:
    """Measure thresholds on judged rows; None without rows.

    Args:
        points: of the head.
        features: (N, D), of rows that are no points.
        labels: (N,).
        class_groups: of each class (C,).
        seed: of the draw.
    """
    if not len(labels):
        return None
    drawn = np.random.default_rng(seed).permutation(len(labels))[:MOST]
    features, labels = np.asarray(features[drawn], np.float32), labels[drawn]
    group = np.array([GROUPS.index(one) for one in class_groups], np.int64)
    similarity, place = points.known.nearest(features)
    nearest = points.labels[place]  # c (N,)
    level = levels(points, group)
    above = similarity - level[nearest]  # s − m_c (N,)
    ranks = _ranks(above, group[nearest], points.left_out - level[points.of], group[points.of])
    by_group = np.array(points.known.of(features))
    own = group[labels]
    return Rejection(
        rows=len(labels),
        one=_shares(similarity, similarity, own),
        by_group=_shares(by_group, similarity, own),
        by_class=_shares(ranks, above, own),
    )


def levels(points: Points, group: Integers) -> Scores:
    """Return m_c of each class (C,) from the left-out rows; `group` is each class's (C,)."""
    of = group[points.of]
    mean = np.array([_own(points.left_out, of == number).mean() for number in range(len(GROUPS))])  # m_g
    count = np.bincount(points.of, minlength=len(group))
    total = np.bincount(points.of, points.left_out, len(group))
    return np.asarray((total + SHRINK * mean[group]) / (count + SHRINK))


def _own(values: Scores, mask: NDArray[np.bool_]) -> Scores:
    """The values of a group's rows, or all where the group has none."""
    return values[mask] if mask.any() else values


def _ranks(values: Scores, of: Integers, left_out: Scores, of_left_out: Integers) -> Scores:
    """The share of left-out rows of the same group that a row's value (N,) is above, 0 … 1."""
    found = np.empty(len(values))
    for number in range(len(GROUPS)):
        scale = np.sort(_own(left_out, of_left_out == number))
        mine = of == number
        found[mine] = np.searchsorted(scale, values[mine]) / len(scale)
    return found


def _shares(score: Scores, among_equals: Scores, of: Integers) -> Rejected:
    """The shares of all rows and of each group's that are among the 5 in 100 of the lowest scores, one row at least."""
    refused = np.zeros(len(score), bool)
    refused[np.lexsort((among_equals, score))[: max(1, round(REJECTED * len(score)))]] = True
    of_group = [float(refused[of == number].mean()) if (of == number).any() else None for number in range(len(GROUPS))]
    return Rejected(all=float(refused.mean()), **dict(zip(GROUPS, of_group, strict=True)))
