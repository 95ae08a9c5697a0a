"""What moved between two heads, compared with counting by hand."""

import numpy as np

from breadcrumbs.models.refit_report import Classes
from breadcrumbs.models.report_part import Interval
from breadcrumbs.training.refit.moves import MOVES, REGRESSIONS, moves, regressions

NAMES = ["oak", "elm", "yew"]
CLASSES = Classes(count=3, new=[], names=NAMES, train_images=[90, 9, 2], groups=["medium", "few", "few"])


def logits(*given: int, classes: int = 3) -> np.ndarray:
    """Logits whose top classes are as given."""
    return np.eye(classes)[list(given)]


def test_confusions_that_changed_are_counted_the_largest_change_first() -> None:
    """Right answers are no confusion; what did not change is left out; of equals the first pair comes first."""
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    live, candidate = logits(1, 1, 1, 2, 1, 0, 2), logits(0, 0, 1, 2, 0, 0, 0)

    found = [(m.true, m.predicted, m.live, m.candidate) for m in moves(live, candidate, labels, NAMES)]

    assert found == [("oak", "elm", 3, 1), ("elm", "oak", 1, 2), ("yew", "oak", 0, 1)]


def test_two_heads_that_are_never_wrong_have_no_confusions() -> None:
    """Nor have two that answer alike."""
    labels = np.array([0, 1, 2])

    assert moves(logits(0, 1, 2), logits(0, 1, 2), labels, NAMES) == []
    assert moves(logits(1, 1, 1), logits(1, 1, 1), labels, NAMES) == []


def test_no_more_than_twenty_confusions_are_kept() -> None:
    """However many classes there are."""
    labels = np.arange(50)
    live, candidate = np.eye(50), np.roll(np.eye(50), 1, axis=1)

    assert len(moves(live, candidate, labels, [f"c{i}" for i in range(50)])) == MOVES == 20


def test_regressions_are_the_classes_that_lost_the_surest_first() -> None:
    """With both recalls, their rows and the paired interval; a class that gained or stayed is none."""
    change = [Interval(value=-0.25, low=-0.5, high=0.1), Interval(value=0.5, low=0, high=1), None]
    worse = Interval(value=-0.5, low=-1, high=0)

    one = regressions(CLASSES, np.array([0, 0, 0, 0, 1]), [1.0, 0.0, None], [0.75, 0.5, None], change)
    two = regressions(CLASSES, np.array([0, 2]), [1.0, None, 1.0], [0.75, None, 0.5], [change[0], None, worse])

    assert [(r.name, r.train_images, r.group, r.rows, r.live, r.candidate) for r in one] == [
        ("oak", 90, "medium", 4, 1.0, 0.75)
    ]
    assert one[0].change == change[0]
    assert [r.name for r in two] == ["yew", "oak"]
    assert REGRESSIONS == 10
