"""The gate: each answer for its reason alone, over drawn heads as often as it must."""

import json

import numpy as np
import pytest

from breadcrumbs.models.groups import Group
from breadcrumbs.training.pairs import Pairs, pairs
from breadcrumbs.training.refit.gate import Decision, comparison, judged

CLASSES = ("oak", "elm", "yew", "ash")
GROUPS: tuple[Group, ...] = ("many", "many", "medium", "few")
ROWS = 40  # a class
LABELS = np.repeat(np.arange(4), ROWS)


def logits(*right: int) -> np.ndarray:
    """Logits by which so many of each class's rows are right; the others are taken for another class."""
    predicted = [c if row < count else (c + 1) % 4 for c, count in enumerate(right) for row in range(ROWS)]
    return 5 * np.eye(4)[predicted]


def verdict(
    live: np.ndarray, candidate: np.ndarray, labels: np.ndarray = LABELS, known: int = 4, tolerance: float = 0.01,
    min_rows: int = 10,
) -> Decision:  # fmt: skip
    return judged(pairs(live, candidate, labels), GROUPS, CLASSES, known, tolerance, min_rows)


LIVE = logits(30, 30, 20, 20)


def test_a_better_head_passes() -> None:
    """Better in balanced accuracy beyond chance and in no group worse: no reason against it."""
    found = verdict(LIVE, logits(30, 30, 30, 35))

    assert (found.gate.answer, found.gate.reasons, found.lost, found.new_classes) == ("yes", (), (), ())
    assert found.difference["few"].value == pytest.approx(15 / 40)


@pytest.mark.parametrize(("right", "answer"), [((30, 30, 30, 35), "not measured"), ((5, 30, 20, 20), "no")])
def test_mapped_rows_may_show_harm_and_never_a_gain(right: tuple[int, ...], answer: str) -> None:
    """The backbone never saw their images; the reason says what is needed."""
    found = judged(pairs(LIVE, logits(*right), LABELS), GROUPS, CLASSES, 4, 0.01, mapped=True)

    assert found.gate.answer == answer
    assert any("give a hold-out that this backbone made" in reason for reason in found.gate.reasons)


@pytest.mark.parametrize("gained", [0, 1, 3])
def test_a_head_that_is_not_better_beyond_chance_does_not_pass(gained: int) -> None:
    """Equal, or ahead by a few rows, is not better: the one reason gives both numbers."""
    (reason,) = verdict(LIVE, logits(30, 30, 20, 20 + gained)).gate.reasons

    assert reason.startswith(f"balanced accuracy is not better beyond chance: 0.6250 -> {0.625 + gained / 160:.4f}, ")


@pytest.mark.parametrize(
    ("right", "group"), [((20, 25, 40, 40), "many"), ((40, 40, 12, 40), "medium"), ((40, 40, 40, 12), "few")]
)
def test_a_group_that_is_worse_beyond_chance_is_a_reason(right: tuple[int, ...], group: str) -> None:
    """A head that is better on the whole and loses one group by more than the tolerance is refused for that alone."""
    allowed = verdict(LIVE, logits(*right), tolerance=0.5).gate
    (reason,) = verdict(LIVE, logits(*right)).gate.reasons

    assert reason.startswith(f"{group} is worse beyond chance: ")
    assert reason.endswith("; 1 points are allowed")
    assert allowed.answer == "yes"


def test_a_group_that_is_worse_by_chance_is_no_reason() -> None:
    """Two rows of forty are five points, and nothing that another hold-out need show."""
    assert verdict(LIVE, logits(40, 40, 20, 18)).gate.answer == "yes"


def test_a_lost_class_is_a_reason() -> None:
    """A class that lost half its right rows is named, even where its group as a whole gained."""
    found = verdict(logits(15, 20, 20, 20), logits(40, 5, 40, 40))

    assert found.gate.answer == "no"
    assert found.gate.reasons == ("lost beyond chance: elm",)
    assert found.lost == ("elm",)


def test_numbers_that_are_not_finite_do_not_pass() -> None:
    """A candidate that gives NaN for one row is refused, however good the rest is."""
    candidate = logits(40, 40, 40, 40)
    candidate[0, 0] = np.nan

    gate = verdict(LIVE, candidate).gate

    assert (gate.answer, gate.reasons) == ("no", ("the candidate's logits are not finite for 1 rows",))


def test_a_live_class_without_a_row_is_not_measured() -> None:
    """However good the rest is; the reason names the class and what to do."""
    some = LABELS != 1
    gate = verdict(LIVE[some], logits(40, 0, 40, 40)[some], LABELS[some]).gate

    assert gate.answer == "not measured"
    assert gate.reasons == ("no judged row of: elm; give a hold-out with rows of them",)


def test_a_group_of_too_few_rows_is_not_measured() -> None:
    """As many as are needed are enough."""
    some = (LABELS != 3) | (np.arange(len(LABELS)) % ROWS < 7)
    heads = LIVE[some], logits(40, 40, 40, 40)[some], LABELS[some]

    assert verdict(*heads, min_rows=7).gate.answer == "yes"
    assert verdict(*heads, min_rows=8).gate.answer == "not measured"
    assert verdict(*heads, min_rows=8).gate.reasons == (
        "few has 7 judged rows, 8 are needed; give a hold-out with more rows of this group",
    )


def test_harm_that_was_seen_is_a_no_whatever_was_not_measured() -> None:
    """Both are told."""
    some = LABELS != 3

    gate = verdict(LIVE[some], logits(40, 0, 40, 0)[some], LABELS[some]).gate

    assert gate.answer == "no"
    assert {"lost beyond chance", "no judged row of"} <= {reason.split(":")[0] for reason in gate.reasons}


def test_no_row_at_all_is_not_measured() -> None:
    """Nothing is said of a head that was never tried."""
    assert verdict(LIVE[:0], LIVE[:0], LABELS[:0]).gate.answer == "not measured"


@pytest.mark.parametrize(("many", "named"), [(20, "class 19;"), (21, "class 19 and 1 more;")])
def test_twenty_classes_are_named(many: int, named: str) -> None:
    """And the others counted."""
    nothing = np.zeros(many, int)
    names = [f"class {y}" for y in range(many)]

    reasons = judged(Pairs(nothing, nothing, nothing, nothing), ["few"] * many, names, many, 0.01).gate.reasons

    assert named in reasons[0]


@pytest.mark.parametrize(("right", "answer"), [(30, "yes"), (1, "yes"), (0, "no")])
def test_a_new_class_is_a_gain_of_its_own(right: int, answer: str) -> None:
    """If any of it is right, the old classes may stay as they are; its recall has an interval."""
    found = verdict(logits(30, 30, 20, 0), logits(30, 30, 20, right), known=3)

    (new,) = found.new_classes
    assert found.gate.answer == answer
    assert (new.name, new.rows) == ("ash", ROWS)
    assert new.recall is not None
    assert new.recall.low <= new.recall.value == right / ROWS < new.recall.high
    assert set(found.difference) == {"balanced", "many", "medium"}


@pytest.mark.parametrize("old", [(28, 29, 19), (15, 30, 20), (30, 30, 5)])
def test_a_new_class_hides_no_loss_of_the_old_ones(old: tuple[int, ...]) -> None:
    """Old classes are compared on their own rows, however right the new one is."""
    assert verdict(logits(30, 30, 20, 0), logits(*old, 40), known=3).gate.answer == "no"


@pytest.mark.parametrize(("gained", "lost", "answer"), [(5, 10, "yes"), (0, 6, "no"), (30, 50, "no"), (8, 9, "yes")])
def test_beside_a_new_class_chance_may_explain_a_loss(gained: int, lost: int, answer: str) -> None:
    """Fewer right with 0 inside the interval; not if it is outside, or if 5 points are not ruled out."""
    rows = np.array([100, 100, 100, 20])
    live = np.array([70, 70, 70, 0])
    counts = Pairs(rows, live, np.array([gained, 0, 0, 15]), np.array([lost, 0, 0, 0]))

    found = judged(counts, ["many"] * 4, ["oak", "elm", "fir", "ash"], 3, 0.01)

    assert found.gate.answer == answer


def test_a_new_class_without_rows_is_told() -> None:
    """It is not measured, and no reason: who lets it in knows."""
    some = LABELS != 3
    found = verdict(LIVE[some], logits(40, 40, 40, 0)[some], LABELS[some], known=3)

    assert found.gate.answer == "yes"
    assert (found.new_classes[0].rows, found.new_classes[0].recall) == (0, None)


def test_a_comparison_is_json() -> None:
    """What is measured has both heads, their intervals and the number of rows."""
    candidate = logits(30, 30, 30, 35)
    measured = comparison(LIVE, candidate, LABELS, GROUPS, 0)

    assert json.loads(json.dumps(measured))["rows"] == 160
    assert (measured["live"]["few"], measured["candidate"]["few"]) == (0.5, 0.875)
    assert measured["intervals"]["candidate"]["few"]["low"] < 0.875


def drawn(rng: np.random.Generator, classes: int, most: int, gain: float, ruined: bool = False) -> Decision:
    """The verdict on a drawn head: recall 0.75 before, a tenth of the rows lost, `gain` more gained; 5 to `most` rows.

    A ruined class has 20 rows, of which the live head had 90 % right and the candidate has 10 %.
    """
    rows = rng.integers(5, most + 1, classes)
    rows[0] = 20 if ruined else rows[0]
    kept, lost, gained, _ = rng.multinomial(rows, [0.65, 0.1, 0.1 + gain, 0.15 - gain]).T
    if ruined:
        before, after = rng.random(20) < 0.9, rng.random(20) < 0.1
        kept[0], lost[0], gained[0] = (before & after).sum(), (before & ~after).sum(), (after & ~before).sum()
    names = [str(y) for y in range(classes)]
    groups: list[Group] = ["few" if y % 5 else "many" for y in range(classes)]
    return judged(Pairs(rows, kept + lost, gained, lost), groups, names, classes, 0.01)


@pytest.mark.parametrize(("classes", "most", "gain"), [(1000, 50, 0.02), (10_000, 5, 0.02), (100, 50, 0.08)])
def test_a_truly_better_head_passes(classes: int, most: int, gain: float) -> None:
    """In at least 19 of 20 draws."""
    rng = np.random.default_rng(0)

    assert sum(drawn(rng, classes, most, gain).gate.answer == "yes" for _ in range(20)) >= 19


@pytest.mark.parametrize("classes", [10, 100, 1000, 10_000])
@pytest.mark.parametrize("most", [5, 50])
def test_an_equal_head_with_one_ruined_class_never_passes(classes: int, most: int) -> None:
    """In none of 20 draws, and what was ruined is nearly always named."""
    rng = np.random.default_rng(1)
    found = [drawn(rng, classes, most, 0, ruined=True) for _ in range(20)]

    assert [one.gate.answer for one in found] == ["no"] * 20
    assert sum("0" in one.lost for one in found) >= 18


@pytest.mark.parametrize("classes", [10, 100, 1000])
@pytest.mark.parametrize("most", [5, 50])
def test_an_equal_head_rarely_passes_by_chance(classes: int, most: int) -> None:
    """In about one of forty draws."""
    rng = np.random.default_rng(2)

    assert sum(drawn(rng, classes, most, 0).gate.answer == "yes" for _ in range(100)) <= 6


@pytest.mark.parametrize("rows", [0, 3, 9])
@pytest.mark.parametrize("left_out", [0, 4])
def test_a_class_that_is_judged_apart_needs_a_measured_row_only(rows: int, left_out: int) -> None:
    """Held out or out of fold; it is in no comparison, so that its group needs no ten rows."""
    kept = np.arange(4 * ROWS) < 3 * ROWS + rows  # class 3 alone is few
    live, candidate = LIVE[kept], logits(35, 35, 35, 40)[kept]

    found = judged(pairs(live, candidate, LABELS[kept]), GROUPS, CLASSES, 4, 0.01, apart={3: left_out})

    assert found.gate.answer == ("yes" if rows or left_out else "not measured")
    assert "few" not in found.difference
    assert found.difference["balanced"].value == pytest.approx((5 + 5 + 15) / 3 / ROWS)


def test_a_class_that_is_judged_apart_may_still_be_lost() -> None:
    """Its held-out rows tell, however few they are for a comparison."""
    kept = np.arange(4 * ROWS) < 3 * ROWS + 9
    live, candidate = logits(30, 30, 20, 9)[kept], logits(35, 35, 35, 0)[kept]

    found = judged(pairs(live, candidate, LABELS[kept]), GROUPS, CLASSES, 4, 0.01, apart={3: 4})

    assert (found.gate.answer, found.lost) == ("no", ("ash",))
