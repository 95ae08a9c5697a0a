"""The nearest rows, against all distances at once; and which rows are left of too many."""

from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from breadcrumbs.serving.learning.neighbours import Near, Part, bounded, nearest


class Counted(np.ndarray[Any, np.dtype[np.float64]]):
    """Rows that count how many of them are read."""

    read: int = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.read += len(found)
        return np.asarray(found)


def part(rows: int, dim: int, classes: int, seed: int, dtype: type = np.float32) -> Part:
    """Rows at random, every other one of a file."""
    rng = np.random.default_rng(seed)
    stored = rng.normal(size=(2 * rows, dim)).astype(dtype)
    return Part(stored, np.arange(0, 2 * rows, 2), rng.integers(0, classes, rows))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 60), max_size=3), st.sampled_from([1, 2, 7, 16, 40]), st.integers(1, 20),
    st.integers(0, 4), st.sampled_from([np.float16, np.float32]), st.booleans(),
)  # fmt: skip
def test_they_are_the_smallest_of_all_distances(
    sizes: list[int], dim: int, k: int, count: int, dtype: type, sketched: bool
) -> None:
    """Over several files, of any width and type, with a sketch and without; fewer where there are fewer rows."""
    parts = [part(size, dim, 3, seed, dtype) for seed, size in enumerate(sizes)]
    parts = [one.sketched(block=100) for one in parts] if sketched else parts
    features = np.random.default_rng(99).normal(size=(count, dim)).astype(np.float32)

    found = nearest(parts, features, k)

    every = [row.astype(np.float64) for one in parts for row in one.features[one.rows]]
    for feature, some in zip(features.astype(np.float64), found, strict=True):
        cosines = [feature @ row / np.linalg.norm(feature) / np.linalg.norm(row) for row in every]
        assert [one.distance for one in some] == pytest.approx(sorted(1 - c for c in cosines)[:k], abs=1e-5)
        assert all(one.row % 2 == 0 for one in some)
        assert len({(one.part, one.row) for one in some}) == len(some) == min(k, len(every))


@pytest.mark.parametrize("block", [1, 7, 200, 10**6])
def test_blocks_and_sketches_change_nothing(block: int) -> None:
    """However few rows are in memory at a time, and however few must be read."""
    parts = [part(500, 30, 2, 0), part(31, 30, 2, 1)]
    features = np.random.default_rng(5).normal(size=(7, 30)).astype(np.float32)
    whole = nearest(parts, features, 9)

    for some in (parts, [one.sketched(block) for one in parts]):
        for one, other in zip(whole, nearest(some, features, 9, block), strict=True):
            assert [(a.part, a.row) for a in one] == [(b.part, b.row) for b in other]


@pytest.mark.parametrize("taken", [slice(None), slice(0, None, 3)])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_few_of_many_rows_are_read(taken: slice, k: int) -> None:
    """Rows of few directions that matter, as features have them, also of a selection of the rows; none is missed."""
    rng = np.random.default_rng(0)
    directions = np.arange(1, 129) ** -0.7
    stored = (directions * rng.normal(size=(20_000, 128))).view(Counted)
    whole = Part(stored, np.arange(20_000), np.zeros(20_000, np.int64))
    some, sketched = (one.take(np.arange(20_000)[taken]) for one in (whole, whole.sketched()))
    features = np.asarray(directions * rng.normal(size=(10, 128)), np.float32)

    for feature in features:
        (exact,) = nearest([some], feature[None], k)
        stored.read = 0
        (found,) = nearest([sketched], feature[None], k)
        assert [one.row for one in found] == [one.row for one in exact]
        assert stored.read == 2048


def test_the_sketch_of_rows_that_are_all_zero() -> None:
    """They have no direction, and are all as far."""
    whole = Part(np.zeros((5, 20), np.float16), np.arange(5), np.zeros(5, np.int64)).sketched()

    assert [[one.distance for one in some] for some in nearest([whole], np.eye(20, dtype=np.float32)[:1], 9)] == [
        [1] * 5
    ]


def test_zeros_are_far_and_equal_rows_are_near() -> None:
    """A row is at distance 0 of itself, also a very long one."""
    rows = np.array([[0, 0], [1, 2], [1e30, 2e30]], np.float32)
    found = nearest([Part(rows, np.arange(3), np.zeros(3, np.int64))], rows, 3)

    assert found[0] == [Near(0, ANY, 1.0)] * 3
    assert [one.row for one in found[1]] == [1, 2, 0]
    assert found[2][0].distance == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("most", [1, 100, 1000, 10**6])
def test_of_too_many_rows_each_class_keeps_some(most: int) -> None:
    """As many of a rare class as there are, as long as there is room."""
    labels = np.concatenate([np.zeros(400, np.int64), np.arange(1, 9)])
    whole = Part(np.zeros((408, 4), np.float32), np.arange(408), labels)

    (left,) = bounded([whole], most)

    assert len(left) == (408 if most > 408 * 4 else max(1, most // 4))
    assert len(set(left.labels.tolist())) == min(9, len(left))
    assert (np.diff(left.rows) > 0).all()
