"""What int8 costs, and when that is too much."""

import numpy as np
import pytest

from breadcrumbs.models.groups import groups
from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.int8.cost import cost

ROWS = 400  # of each class
GROUPS = groups([200, 50, 5], "A")
HEAD = LinearHead(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), ("a", "b", "c"))
LABELS = np.repeat([0, 1, 2], ROWS)
RIGHT = np.eye(3, dtype=np.float32)[LABELS]


def fallen(rows: list[int]) -> np.ndarray:
    """Features of which so many rows of each class are those of the next class."""
    features = RIGHT.copy()
    for label, count in enumerate(rows):
        features[LABELS.searchsorted(label) + np.arange(count)] = np.eye(3)[(label + 1) % 3]
    return features


@pytest.mark.parametrize(
    ("rows", "words"),
    [([0, 0, 0], None), ([2, 2, 2], None), ([0, 0, 4], None), ([3, 3, 3], "balanced"), ([0, 0, 5], "few")],
)
def test_the_limits_are_half_a_point_and_one_in_a_group(rows: list[int], words: str | None) -> None:
    """Exactly at a limit is within it."""
    found = cost(RIGHT, fallen(rows), LABELS, HEAD, GROUPS)

    assert (found.excess is None) == (words is None)
    assert words is None or str(found.excess).startswith(f"{words} recall changes by -")
    assert found.differs == pytest.approx(sum(rows) / len(LABELS))
    assert set(found.as_dict()["change"]) == {"balanced", "many", "medium", "few"}


def test_the_interval_holds_the_change() -> None:
    """It is there to be shown, and is wider than a point."""
    change = cost(RIGHT, fallen([0, 8, 0]), LABELS, HEAD, GROUPS).change["medium"]

    assert change.low < change.value < change.high
    assert change.value == pytest.approx(-0.02)


def test_a_gain_is_no_cost() -> None:
    """Where int8 happens to be right more often."""
    assert cost(fallen([9, 9, 9]), RIGHT, LABELS, HEAD, GROUPS).excess is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_feature_that_is_not_finite_is_refused(value: float) -> None:
    """As of a graph whose scales went wrong."""
    broken = RIGHT.copy()
    broken[7, 1] = value

    assert cost(RIGHT, broken, LABELS, HEAD, GROUPS).excess == "1 features are not finite"
