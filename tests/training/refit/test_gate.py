"""The gate: each reason alone, and none where none should be."""

import json

import numpy as np
import pytest

from breadcrumbs.models.groups import Group
from breadcrumbs.training.refit.gate import Verdict, comparison, judge

CLASSES = ("oak", "elm", "yew", "ash")
GROUPS: tuple[Group, ...] = ("many", "many", "medium", "few")
LABELS = np.repeat(np.arange(4), 10)


def logits(*right: int) -> np.ndarray:
    """Logits by which so many of each class's ten rows are right; the others are taken for another class."""
    predicted = [c if row < count else (c + 1) % 4 for c, count in enumerate(right) for row in range(10)]
    return 5 * np.eye(4)[predicted]


def verdict(live: np.ndarray, candidate: np.ndarray, labels: np.ndarray = LABELS, tolerance: float = 0.02) -> Verdict:
    return judge(comparison(live, candidate, labels, GROUPS, 0), CLASSES, tolerance)


LIVE = logits(9, 9, 6, 2)


def test_a_better_head_passes() -> None:
    """Better in balanced accuracy and in no group worse: no reason against it."""
    assert verdict(LIVE, logits(9, 9, 6, 5)) == Verdict(True, ())


def test_a_head_that_is_not_better_does_not_pass() -> None:
    """Equal is not better: the one reason gives both numbers."""
    assert verdict(LIVE, LIVE) == Verdict(False, ("balanced accuracy 0.6500 is not above the live 0.6500",))


@pytest.mark.parametrize(
    ("right", "reason"),
    [
        ((8, 8, 6, 9), "many: recall 0.8000 is below the live 0.9000 by more than 0.02"),
        ((9, 9, 5, 9), "medium: recall 0.5000 is below the live 0.6000 by more than 0.02"),
        ((10, 10, 9, 1), "few: recall 0.1000 is below the live 0.2000 by more than 0.02"),
    ],
)
def test_a_group_that_loses_is_a_reason_of_its_own(right: tuple[int, ...], reason: str) -> None:
    """A head that is better on the whole and loses one group by more than the tolerance is refused for that alone."""
    assert verdict(LIVE, logits(*right)) == Verdict(False, (reason,))


def test_a_loss_within_the_tolerance_passes() -> None:
    """What a group may lose is the tolerance's to say."""
    candidate = logits(8, 9, 6, 5)  # many: 0.90 -> 0.85

    assert verdict(LIVE, candidate, tolerance=0.06).passed
    assert not verdict(LIVE, candidate, tolerance=0.04).passed


def test_a_lost_class_is_a_reason_of_its_own() -> None:
    """A class of which nothing is right any more is named, even where its group as a whole gained."""
    assert verdict(logits(5, 5, 6, 2), logits(10, 0, 9, 9)) == Verdict(False, ("no row is right any more of: elm",))


def test_a_class_that_was_never_right_is_not_lost() -> None:
    """What the live head could not do either is no reason."""
    assert verdict(logits(9, 9, 6, 0), logits(9, 9, 8, 0)).passed


def test_a_class_absent_from_the_hold_out_is_no_reason() -> None:
    """A class and a group without rows are neither lost nor worse."""
    some = LABELS != 3

    assert verdict(LIVE[some], logits(9, 9, 8, 0)[some], LABELS[some]) == Verdict(True, ())


def test_numbers_that_are_not_finite_do_not_pass() -> None:
    """A candidate that gives NaN for one row is refused, however good the rest is."""
    candidate = logits(10, 10, 10, 10)
    candidate[0, 0] = np.nan

    assert verdict(LIVE, candidate) == Verdict(False, ("the candidate's likelihood is not finite",))


def test_reasons_are_told_together() -> None:
    """A head that is worse in everything hears everything."""
    reasons = verdict(LIVE, logits(1, 1, 1, 0)).reasons

    assert [reason.split()[0] for reason in reasons] == ["balanced", "many:", "medium:", "few:", "no"]


def test_a_comparison_is_json() -> None:
    """What is measured has both heads, their difference and the number of rows, in JSON's own types."""
    measured = comparison(LIVE, logits(9, 9, 6, 5), LABELS, GROUPS, 0)

    assert json.loads(json.dumps(measured))["rows"] == 40
    assert measured["live"]["few"] == 0.2
    assert measured["candidate"]["few"] == 0.5
    assert measured["difference"]["few"]["value"] == pytest.approx(0.3)
