"""Images to calibrate on: every class, the rarest first, within limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.training.int8.calibration import CLASSES, IMAGES, chosen


@given(st.lists(st.integers(1, 400), min_size=2, max_size=60), st.integers(0, 9))
def test_every_class_has_its_turn(counts: list[int], seed: int) -> None:
    """No class has two images more than another, unless the other has no more."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))

    rows = chosen(labels, seed)

    assert len(rows) == len(set(rows.tolist())) == min(len(labels), IMAGES)
    drawn = np.bincount(labels[rows], minlength=len(counts))
    assert all(drawn[c] == counts[c] or drawn[c] >= drawn.max() - 1 for c in range(len(counts)))


@pytest.mark.parametrize(("classes", "expected"), [(300, 300), (1000, 1000), (1500, CLASSES)])
def test_many_classes_have_one_image_each(classes: int, expected: int) -> None:
    """Up to a limit; beyond it, the rarest are there."""
    labels = np.repeat(np.arange(classes), np.arange(classes) + 1)

    rows = chosen(labels)

    assert sorted(labels[rows].tolist()) == list(range(expected))


def test_a_class_without_images_is_passed_over() -> None:
    """As where a list of classes has more names than the data."""
    assert chosen(np.array([0, 2, 2])).tolist() == [0, 1, 2]
