"""Near-duplicates by features, compared with a search that looks at every pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from breadcrumbs.training.inspect import duplicates
from breadcrumbs.training.inspect.duplicates import (
    EQUAL,
    MOST,
    NEIGHBOURS,
    RATIO,
    SIMILAR,
    between_classes,
    between_parts,
)


def pictures(rows: int, dimensions: int, seed: int) -> np.ndarray:
    """Features of different pictures, none negative, as most backbones give them."""
    return np.random.default_rng(seed).gamma(1, size=(rows, dimensions)).astype(np.float32)


def slow(rows: np.ndarray, others: np.ndarray, labels: np.ndarray | None) -> dict[int, int]:
    """The near-duplicate of each row that has one, pair by pair; with labels, rows and others are the same."""
    centre = others.astype(np.float64).mean(0)
    a, b = ((z - centre) / np.linalg.norm(z - centre, axis=1, keepdims=True) for z in (rows, others))
    found = {}
    for i in range(len(a)):
        cosine = {j: float(a[i] @ b[j]) for j in range(len(b)) if labels is None or i != j}
        near = sorted(cosine.values(), reverse=True)
        allowed = {j: c for j, c in cosine.items() if labels is None or labels[i] != labels[j]}
        if not allowed:
            continue
        j = max(allowed, key=lambda k, own=allowed: own[k])
        distance = 1 - allowed[j]
        alone = len(near) < NEIGHBOURS or distance <= RATIO * (1 - near[NEIGHBOURS - 1])
        if allowed[j] >= SIMILAR and (alone or distance <= EQUAL):
            found[i] = j
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(2, 30), st.integers(1, 6), st.integers(0, 10**6))
def test_pairs_between_classes_are_those_of_a_slow_search(rows: int, dimensions: int, classes: int, seed: int) -> None:
    """Copies with a little noise are among the rows, in any class."""
    rng = np.random.default_rng(seed)
    z = pictures(rows, dimensions, seed)
    copied = rng.integers(0, rows, rows // 2)
    z[: len(copied)] = z[copied] + rng.normal(size=(len(copied), dimensions)).astype(np.float32) * 0.05
    labels = rng.integers(0, classes, rows)

    found = {(one.row, one.other) for one in between_classes(z, labels)}

    assert found == {(min(pair), max(pair)) for pair in slow(z, z, labels).items()}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 30), st.integers(1, 60), st.integers(2, 30), st.integers(0, 10**6))
def test_pairs_of_test_and_training_are_those_of_a_slow_search(
    tested: int, trained: int, dimensions: int, seed: int
) -> None:
    """Any class counts; each test row is with the training row that is nearest to it."""
    train, test = pictures(trained, dimensions, seed), pictures(tested, dimensions, seed + 1)
    test[::2] = train[np.arange(len(test[::2])) % trained] * 1.01

    found = {one.row: one.other for one in between_parts(test, train)}

    assert found == slow(test, train, None) if trained > 1 else found == {}


@pytest.mark.parametrize("rows", [1023, 1024, 1025, 9000])
def test_blocks_do_not_matter(rows: int) -> None:
    """The first and the last row are one picture in two classes, in whatever block they are compared."""
    z = pictures(rows, 16, rows)
    z[-1] = z[0]
    labels = np.arange(rows) % 7
    labels[-1] = (labels[0] + 1) % 7

    found = between_classes(z, labels)

    assert (found[0].row, found[0].other) == (0, rows - 1)
    assert found[0].similarity == pytest.approx(1)


@pytest.mark.parametrize("dimensions", [64, 2048])
@pytest.mark.parametrize("strength", [0.02, 0.1])
def test_a_class_in_which_all_look_alike_has_no_duplicates(dimensions: int, strength: float) -> None:
    """Features that are all near one of two points are not near-duplicates, but copies among them are."""
    rng = np.random.default_rng(dimensions)
    labels = np.arange(100) % 2
    z = np.repeat(pictures(1, dimensions, 5), 100, axis=0)
    z[50:] = pictures(1, dimensions, 6)
    z += strength * rng.normal(size=z.shape).astype(np.float32)
    z[99] = z[50] + strength / 100 * rng.normal(size=dimensions)

    found = between_classes(z, labels)

    assert [(one.row, one.other) for one in found] == [(50, 99)]


def test_at_most_so_many_pairs_come_back_the_most_similar_first() -> None:
    """Each picture twice, with more and more noise."""
    z = pictures(2 * MOST + 400, 32, 0)
    half = len(z) // 2
    noise = np.linspace(0, 0.1, half)[:, None] * np.random.default_rng(1).normal(size=(half, 32))
    z[half:] = z[:half] + noise.astype(np.float32)
    labels = np.repeat([0, 1], half)

    found = between_classes(z, labels)

    assert len(found) == MOST
    assert [one.similarity for one in found] == sorted((one.similarity for one in found), reverse=True)
    assert all(one.other == one.row + half for one in found)


@pytest.mark.parametrize("rows", [0, 1, 2, 30])
def test_features_that_are_all_the_same_are_similar_to_nothing(rows: int) -> None:
    """They are at their mean, which has no direction; and no row and one row are no pair."""
    z = np.ones((rows, 4), np.float32)

    assert between_classes(z, np.arange(rows)) == []
    assert between_parts(z, z) == []


def test_features_of_a_file_need_not_be_writable() -> None:
    """A mapped snapshot is read as it is."""
    z = pictures(20, 8, 0)
    z.setflags(write=False)

    assert between_classes(z, np.arange(20)) == between_classes(z.copy(), np.arange(20))


def test_the_limit_allows_a_hundred_thousand_images() -> None:
    """100,000 features of 768 numbers are compared, a million are not."""
    assert duplicates.within_limit(100_000, 100_000, 768)
    assert not duplicates.within_limit(1_000_000, 1_000_000, 768)
