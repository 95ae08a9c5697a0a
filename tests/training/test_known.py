"""The points by which a head tells how well a feature is known: which they are, and that their scales hold."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from breadcrumbs.models.groups import groups
from breadcrumbs.models.known import POINTS, Known, from_bytes, to_bytes, unit
from breadcrumbs.training.known import known


def made(features: np.ndarray, labels: np.ndarray, averaged: np.ndarray | None = None, seed: int = 0) -> Known | None:
    """The points of some rows."""
    rows = torch.from_numpy(features)
    alone = None if averaged is None else torch.from_numpy(averaged)
    counts = np.bincount(labels).tolist()
    return known(lambda chosen: rows[chosen], torch.from_numpy(labels), groups(counts, "A"), alone, seed)


def world(classes: int, rows: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows around class means."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(0, classes, rows))
    labels[:2] = 0
    means = rng.normal(size=(classes, dim)) * 2
    return (means[labels] + rng.normal(size=(rows, dim))).astype(np.float32), labels


@settings(deadline=None, max_examples=12)
@given(st.integers(2, 9), st.integers(60, 200), st.sampled_from([1, 3, 24, 90]), st.integers(0, 50))
def test_one_in_twenty_new_rows_is_below_a_twentieth(classes: int, rows: int, dim: int, seed: int) -> None:
    """About: rows of the same classes that nothing was made of; and rows far from all are known less."""
    features, labels = world(classes, 2 * rows, dim, seed)
    found = made(features[::2], labels[::2])
    assert found is not None

    values = np.array(found.of(features[1::2]))
    far = np.array(found.of(np.random.default_rng(1).normal(size=(200, dim)).astype(np.float32)))

    assert (values < 0.05).mean() < 0.25
    assert dim < 24 or far.mean() < values.mean()
    assert from_bytes(to_bytes(found, "a" * 64), "a" * 64, dim).points == pytest.approx(found.points, abs=1e-3)


@pytest.mark.parametrize(("rows", "classes"), [(1, 1), (3, 3)])
def test_rows_that_are_alone_in_their_classes_say_nothing(rows: int, classes: int) -> None:
    """There is no scale then, and no points."""
    assert made(np.eye(3, dtype=np.float32)[:rows], np.arange(rows) % classes) is None


@pytest.mark.parametrize("dim", [8, 2048])
def test_of_examples_only_class_means_are_kept(dim: int) -> None:
    """No example can be found among the points, and a class that has nothing else is known by its mean."""
    features, labels = world(3, 90, dim, 5)
    features[60:] = features[60:] + 5 * np.random.default_rng(9).normal(size=(30, dim)).astype(np.float32)
    labels[60:] = 3
    averaged = np.arange(90) >= 60

    found = made(features, labels, averaged)

    assert found is not None
    assert len(found.points) == 61
    inside = unit(unit(features[60:]) @ found.basis)
    assert (inside @ found.points.T).max() < 0.9999
    assert unit(inside.mean(0)[None]) @ found.points[-1] == pytest.approx(1, abs=1e-4)


def test_the_same_rows_give_the_same_bytes() -> None:
    """By the same seed."""
    features, labels = world(4, 100, 30, 1)
    one, two = made(features, labels), made(features, labels)

    assert one is not None
    assert two is not None
    assert to_bytes(one, "a" * 64) == to_bytes(two, "a" * 64)


def test_of_more_rows_than_points_rare_classes_keep_theirs() -> None:
    """The points are bounded, and so are the bytes."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.zeros(POINTS + 100, np.int64), np.arange(1, 40).repeat(3)])
    found = made(rng.normal(size=(len(labels), 2)).astype(np.float32), labels)

    assert found is not None
    assert len(found.points) == POINTS
    assert (found.group == 2).sum() == 39 * 3


def test_a_thousand_classes_and_rows_of_zeros_have_points() -> None:
    """A row of zeros is near to nothing, and no number is lost."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 16)).astype(np.float32)
    features[:5] = 0
    found = made(features, np.arange(2000) % 1000)

    assert found is not None
    assert all(0 <= one <= 1 for one in found.of(features[:50]))
