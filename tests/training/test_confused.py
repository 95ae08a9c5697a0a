"""Pairs of classes that are confused, and the order in which they stand side by side."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.training.confused import Pair, clustered, most_taken_for, pairs

PAIRS = st.lists(
    st.builds(Pair, st.integers(0, 30), st.integers(0, 30), st.integers(1, 9)).filter(lambda p: p.true != p.predicted),
    unique_by=lambda p: (p.true, p.predicted),
    max_size=60,
)


@given(PAIRS, st.integers(2, 40))
def test_each_class_stands_once_and_no_more_than_are_wanted(confused: list[Pair], most: int) -> None:
    """Only classes that are confused, each once."""
    order = clustered(confused, most)

    assert len(order) == len(set(order)) <= most
    assert set(order) <= {c for one in confused for c in (one.true, one.predicted)}
    assert bool(order) == bool(confused)


@given(PAIRS.filter(bool))
def test_the_most_confused_two_stand_side_by_side(confused: list[Pair]) -> None:
    """Counted in both directions."""
    both: dict[frozenset[int], int] = {}
    for one in confused:
        key = frozenset((one.true, one.predicted))
        both[key] = both.get(key, 0) + one.rows
    most = max(both.values())

    order = clustered(confused, 62)

    neighbours = {frozenset(two) for two in pairwise(order)}
    assert {key for key, rows in both.items() if rows == most} & neighbours


@given(PAIRS)
def test_what_a_class_is_most_taken_for(confused: list[Pair]) -> None:
    """The pair of it with most rows; none of a class that was never wrong."""
    found = most_taken_for(confused)

    assert found.keys() == {one.true for one in confused}
    assert all(one.rows <= found[one.true].rows for one in confused)


def test_two_clusters_stay_apart() -> None:
    """Blocks on the diagonal, chains joined by their nearer ends."""
    confused = [Pair(0, 9, 9), Pair(5, 3, 8), Pair(9, 4, 3), Pair(3, 7, 2)]

    order = clustered(confused, 40)

    assert {tuple(order[:3]), tuple(order[3:])} <= {(0, 9, 4), (4, 9, 0), (5, 3, 7), (7, 3, 5)}


def test_no_wrong_row_is_no_pair() -> None:
    """Of any number of rows."""
    assert pairs(np.arange(5), np.arange(5), 5) == []
    assert pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), 5) == []
