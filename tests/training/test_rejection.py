"""Whom a threshold on `known` rejects, by group: what is asked for in all, and levels that follow classes or groups."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from breadcrumbs.models.groups import GROUPS, groups
from breadcrumbs.models.rejection import Rejection
from breadcrumbs.training import rejection as rejections
from breadcrumbs.training.known import Points, points
from breadcrumbs.training.rejection import SHRINK, levels, rejection

COUNTS = (200, 60, 12)


def spread(counts: tuple[int, ...], width: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (N, 12) around class means, as wide as each class is."""
    means = np.random.default_rng(0).normal(size=(len(counts), 12)) * 3
    labels = np.repeat(np.arange(len(counts)), counts)
    noise = np.random.default_rng(1 + seed).normal(size=(len(labels), 12))
    return (means[labels] + width[labels, None] * noise).astype(np.float32), labels


def made(features: np.ndarray, labels: np.ndarray, classes: int) -> Points:
    """The points of some rows."""
    rows = torch.from_numpy(features)
    counts = np.bincount(labels, minlength=classes).tolist()
    found = points(lambda chosen: rows[chosen], torch.from_numpy(labels), groups(counts, "A"))
    assert found is not None
    return found


def measured(counts: tuple[int, ...], width: np.ndarray, judged: int, seed: int = 0) -> Rejection:
    """Of classes as wide as this, with so many judged rows of each."""
    own = made(*spread(counts, width, seed), len(counts))
    found = rejection(own, *spread((judged,) * len(counts), width, seed + 100), groups(counts, "A"))
    assert found is not None
    return found


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 200), st.integers(0, 20))
def test_five_in_a_hundred_are_rejected_in_all(judged: int, seed: int) -> None:
    """Whatever the kind; and the groups' shares are those of the same rows."""
    found = measured(COUNTS, np.ones(3), judged, seed)

    assert found.rows == 3 * judged
    for one in (found.one, found.by_group, found.by_class):
        assert round(one.all * found.rows) == max(1, round(0.05 * found.rows))
        assert sum((getattr(one, name) or 0) * judged for name in GROUPS) == pytest.approx(one.all * found.rows)


def test_thresholds_by_group_and_by_class_spare_the_few() -> None:
    """Rows of classes of few images lie far from each other, and that is no reason to reject them."""
    counts = (300, 300, *[15] * 4)
    found = measured(counts, np.array([1.0, 1.0, *[2.0] * 4]), 100)

    assert (found.one.many, found.one.few) == (0, pytest.approx(0.075))
    for other in (found.by_group, found.by_class):
        assert other.many is not None
        assert other.few is not None
        assert other.many > 0
        assert other.few < 0.07


def test_a_wide_class_has_a_level_of_its_own() -> None:
    """Of many rows its own, of few rows about that of its group."""
    width = np.array([1.0, 3.0, 1.0, 3.0])
    counts = (300, 300, 3, 3)
    own = made(*spread(counts, width, 0), 4)
    group = np.array([GROUPS.index(one) for one in groups(counts, "A")])

    found = levels(own, group)

    plain = [own.left_out[own.of == c].mean() for c in range(4)]
    assert found[:2] == pytest.approx(plain[:2], abs=0.02)
    many = [own.left_out[group[own.of] == g].mean() for g in (0, 2)]
    assert found[2:] == pytest.approx([(3 * own + SHRINK * many[1]) / (3 + SHRINK) for own in plain[2:]], rel=1e-4)


@pytest.mark.parametrize("classes", [1, 10, 1000])
def test_any_number_of_classes_and_rows_of_zeros(classes: int) -> None:
    """Groups without rows have no share; rows that are like none are rejected first."""
    labels = np.arange(2 * classes) % classes
    features = np.random.default_rng(0).normal(size=(2 * classes, 8)).astype(np.float32)
    own = made(features, labels, classes)
    judged = features.copy()
    judged[:1] = 0

    found = rejection(own, judged, labels, groups([2] * classes, "A"))

    assert found is not None
    assert (found.one.many, found.one.medium) == (None, None)
    assert found.one.few == found.one.all > 0
    assert rejection(own, judged[:0], labels[:0], groups([2] * classes, "A")) is None


def test_of_many_rows_some_are_drawn() -> None:
    """So that a report takes no longer for a large hold-out."""
    features, labels = spread((40, 40), np.ones(2), 0)
    own = made(features, labels, 2)
    times = rejections.MOST // 80 + 2

    found = rejection(own, np.tile(features, (times, 1)), np.tile(labels, times), groups([40, 40], "A"))

    assert found is not None
    assert found.rows == rejections.MOST
