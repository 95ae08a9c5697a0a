"""Which classes a head takes for which: the pairs of a true and another predicted class, and their rows.

There are at most N such pairs, whatever C is. It knows nothing of heads, images or pages.

Letters: N rows, C classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]


@dataclass(frozen=True)
class Pair:
    """How many rows of one class were taken for another."""

    true: int
    predicted: int
    rows: int


def pairs(predicted: Integers, labels: Integers, classes: int) -> list[Pair]:
    """Return every pair that is confused, most rows first, from predictions (N,) and labels (N,)."""
    wrong = predicted != labels
    found, counts = np.unique(labels[wrong] * classes + predicted[wrong], return_counts=True)
    listed = (Pair(int(one) // classes, int(one) % classes, int(rows)) for one, rows in zip(found, counts, strict=True))
    return sorted(listed, key=lambda one: (-one.rows, one.true, one.predicted))


def most_taken_for(confused: Iterable[Pair]) -> dict[int, Pair]:
    """Return, by class, the pair of it that has most rows; a class without a wrong row has none."""
    found: dict[int, Pair] = {}
    for one in confused:
        if one.true not in found or one.rows > found[one.true].rows:
            found[one.true] = one
    return found


def clustered(confused: Iterable[Pair], most: int) -> list[int]:
    """Return the classes of the most frequent confusions, `most` at most, each beside those it is confused with.

    Single linkage: the most confused two classes come together first, whichever is taken for which; then each further
    pair joins the chains that its classes are in, by the nearer ends.
    """
    both: dict[tuple[int, int], int] = {}  # rows of a pair in either direction
    for one in confused:
        key = (min(one.true, one.predicted), max(one.true, one.predicted))
        both[key] = both.get(key, 0) + one.rows
    chains: dict[int, list[int]] = {}  # of each class that is taken, the chain that it is in
    for left, right in sorted(both, key=lambda key: (-both[key], key)):
        fresh = len({left, right} - chains.keys())
        if len(chains) + fresh > most:
            continue
        first, second = chains.get(left, [left]), chains.get(right, [right])
        if first is not second:
            joined = _joined(first, second, left, right)
            chains |= dict.fromkeys(joined, joined)
    return [c for chain in {id(chain): chain for chain in chains.values()}.values() for c in chain]


def _joined(first: list[int], second: list[int], left: int, right: int) -> list[int]:
    """Two chains as one, turned so that `left` of the first is as near as it can be to `right` of the second."""
    begin = first if 2 * first.index(left) >= len(first) - 1 else first[::-1]
    end = second if 2 * second.index(right) <= len(second) - 1 else second[::-1]
    return begin + end
