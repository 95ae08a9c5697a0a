"""What moved from the live head to the candidate: the classes that lost, and the confusions that came and went.

It knows nothing of how either head came about, nor of the gate.

Letters: N rows, C classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.refit_report import Classes, Confused, Move, Regression
from breadcrumbs.models.report_part import Interval
from breadcrumbs.training.confused import pairs

REGRESSIONS = 10
MOVES = 20
CONFUSED = 1600  # pairs at most: all of 40 classes

Integers = NDArray[np.integer]


def regressions(
    classes: Classes,
    labels: Integers,
    live: Sequence[float | None],
    candidate: Sequence[float | None],
    change: Sequence[Interval | None],
) -> list[Regression]:
    """Return the classes that lost recall, the surest loss first: by the better end of its interval.

    Args:
        classes: the names, training images and groups of the C classes.
        labels: of the rows (N,).
        live, candidate: recall of each class (C,) by either head.
        change: the second less the first, with its interval (C,).
    """
    rows = np.bincount(labels, minlength=classes.count)
    lost = {c: one for c, one in enumerate(change) if one is not None and one.value < 0}
    worst = sorted(lost, key=lambda c: (lost[c].high, lost[c].value, c))[:REGRESSIONS]
    return [
        Regression(
            name=classes.names[c],
            train_images=classes.train_images[c],
            group=classes.groups[c],
            rows=int(rows[c]),
            live=live[c] or 0,
            candidate=candidate[c] or 0,
            change=lost[c],
        )
        for c in worst
    ]


def moves(live: Floats, candidate: Floats, labels: Integers, classes: Sequence[str]) -> list[Move]:
    """Return the pairs of a true and another predicted class whose rows changed most in number, from logits (N, C)."""
    before, after = (_by_pair(logits, labels) for logits in (live, candidate))
    change = {pair: after.get(pair, 0) - before.get(pair, 0) for pair in before.keys() | after.keys()}
    most = sorted((pair for pair in change if change[pair]), key=lambda pair: (-abs(change[pair]), pair))[:MOVES]
    return [
        Move(
            true=classes[true],
            predicted=classes[predicted],
            live=before.get((true, predicted), 0),
            candidate=after.get((true, predicted), 0),
        )
        for true, predicted in most
    ]


def confused(live: Floats, candidate: Floats, labels: Integers) -> list[Confused]:
    """Return the pairs of a true and another predicted class with most rows by the candidate, then by the live head."""
    before, after = (_by_pair(logits, labels) for logits in (live, candidate))
    both = before.keys() | after.keys()
    most = sorted(both, key=lambda pair: (-after.get(pair, 0), -before.get(pair, 0), pair))[:CONFUSED]
    return [
        Confused(
            true=true,
            predicted=predicted,
            live=before.get((true, predicted), 0),
            candidate=after.get((true, predicted), 0),
        )
        for true, predicted in most
    ]


def _by_pair(logits: Floats, labels: Integers) -> dict[tuple[int, int], int]:
    """Rows that are wrong, by true and predicted class."""
    return {(one.true, one.predicted): one.rows for one in pairs(logits.argmax(1), labels, logits.shape[1])}
