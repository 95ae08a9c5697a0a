"""Which test images a head gets wrong, how sure it was, and which classes it takes for which.

It knows nothing of pictures or files: a row is a number.

Letters: N rows, C classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.head import softmax
from breadcrumbs.training.confused import Pair, pairs

AT_ONCE = 1_000_000  # probabilities in memory at the same time

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a head said of each row.

    Attributes:
        given: the rows' own classes, int64 (N,).
        predicted: the most probable classes, int64 (N,).
        given_probability, predicted_probability: of both, float64 (N,).
        rank: place of the row's own class among all, int64 (N,); 1 is the most probable.
    """

    given: Integers
    predicted: Integers
    given_probability: NDArray[np.float64]
    predicted_probability: NDArray[np.float64]
    rank: Integers

    def __len__(self) -> int:
        return len(self.given)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the row's own class was predicted, (N,)."""
        return np.asarray(self.given == self.predicted)

    def confused(self, classes: int) -> list[Pair]:
        """Return every pair of the C classes that is confused, most rows first."""
        return pairs(self.predicted, self.given, classes)

    def worst_first(self) -> Integers:
        """Return the numbers of the wrong rows: least probable own class first, then surest of the wrong one."""
        wrong = np.flatnonzero(~self.right)
        order = np.lexsort((-self.predicted_probability[wrong], self.given_probability[wrong]))
        return wrong[order]


def answers(logits: Floats, labels: Integers) -> Answers:
    """Read logits (N, C) beside the labels (N,) of the same rows, some rows at a time."""
    given_probability, predicted_probability = np.zeros(len(labels)), np.zeros(len(labels))
    rank = np.ones(len(labels), np.int64)
    predicted = logits.argmax(1) if len(labels) else np.zeros(0, np.int64)
    step = max(1, AT_ONCE // logits.shape[1])
    for start in range(0, len(labels), step):
        rows = slice(start, start + step)
        probability = softmax(logits[rows])
        own = labels[rows, None]
        given_probability[rows] = np.take_along_axis(probability, own, 1)[:, 0]
        predicted_probability[rows] = probability.max(1)
        rank[rows] = _rank(logits[rows], own)
    return Answers(labels, predicted.astype(np.int64), given_probability, predicted_probability, rank)


def _rank(logits: Floats, own: Integers) -> Integers:
    """The place of the own class (n, 1) in each row's logits (n, C); ties keep the order of classes, as argmax does."""
    mine = np.take_along_axis(logits, own, 1)
    before = (logits == mine) & (np.arange(logits.shape[1]) < own)
    return np.asarray(1 + (logits > mine).sum(1) + before.sum(1), np.int64)


def matrix_rows(found: Answers, classes: int) -> Iterator[Sequence[int]]:
    """Yield the confusion matrix row by row: of class y, how many rows (C,) were predicted as each class."""
    order = found.given.argsort(kind="stable")
    ends = np.bincount(found.given, minlength=classes).cumsum()
    start = 0
    for end in ends:
        yield np.bincount(found.predicted[order[start:end]], minlength=classes).tolist()
        start = end
