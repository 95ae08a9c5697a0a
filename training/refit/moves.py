"""What moved from the live head to the candidate: the classes that lost, and the confusions that came and went.

It knows nothing of how either head came about, nor of the gate.

Letters: N rows, C classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.refit_report import Classes, Move, Regression
from breadcrumbs.models.report_part import Interval

REGRESSIONS = 10
MOVES = 20

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
    before, after = (_confused(logits, labels) for logits in (live, candidate))
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


def _confused(logits: Floats, labels: Integers) -> dict[tuple[int, int], int]:
    """Rows that are wrong, by true and predicted class: there are at most N such pairs, whatever C is."""
    given = logits.argmax(1)
    wrong = given != labels
    pairs, counts = np.unique(np.stack([labels[wrong], given[wrong]]), axis=1, return_counts=True)
    return {(int(true), int(predicted)): int(n) for (true, predicted), n in zip(pairs.T, counts, strict=True)}
