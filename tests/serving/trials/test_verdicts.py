"""What rules say: one that can never be decided is refused at the start, and every other one is decided some time."""

from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.serving.refusals import BadRequest
from breadcrumbs.serving.state.stop_rules import StopIf
from breadcrumbs.serving.trials.counts import ClassCount, Counts
from breadcrumbs.serving.trials.evidence import MOST, Tally, fewest
from breadcrumbs.serving.trials.trial import Start
from breadcrumbs.serving.trials.verdicts import Outlook, check, decide, notes

SHARE = st.floats(0, 1, exclude_min=True, exclude_max=True)
RULES = st.one_of(
    st.tuples(st.sampled_from(("disagreement", "errors", "unknown")), SHARE),
    st.tuples(st.just("worse"), st.floats(1e-6, 0.5)),
    st.tuples(st.just("margin"), SHARE),
)
POINTS = st.sampled_from(({1: "a", 2: "b"}, {1: "a", 2: "a"}, {1: "a", 2: None}, {1: None, 2: None}))


def start(stop_if: StopIf, margin: float | None = None) -> Start:
    """A trial with these rules."""
    return Start(
        number=1, head=2, digest="", against=1, against_digest="", mode="shadow", until="2100-01-01T00:00:00+00:00",
        stop_if=stop_if, margin=margin, activation=1, actor="", reason="", at="2026-01-01T00:00:00+00:00",
        previous=None,
    )  # fmt: skip


@given(RULES, st.booleans(), st.booleans(), POINTS)
def test_what_is_not_refused_can_be_decided_and_what_is_refused_cannot(
    rule: tuple[str, float], remembers: bool, same: bool, points: dict[int, str | None]
) -> None:
    """By the strongest evidence that could come: a billion answers and labels, all of them against the head, or for it
    where it is to go live.
    """
    name, value = rule
    rules, margin = (StopIf(), value) if name == "margin" else (StopIf.model_validate({name: value}), None)
    try:
        check(rules, margin, Outlook(remembers, 0, 1.0, same, points))
        refused = ""
    except BadRequest as error:
        refused = str(error)
    most, tell = MOST - 1, None not in points.values() and len(set(points.values())) > 1
    classes = {"a": ClassCount(compared=0 if name == "errors" else most, disagreed=0 if same else most)}
    counts = Counts(classes=classes, errors=most, placed=most, unknown=most if tell else 0)
    one = Tally(even=most) if same else Tally(gained=most) if name == "margin" else Tally(lost=most)
    found = decide(start(rules, margin), counts, {"all": one} if remembers else {})

    assert (found is None) == bool(refused)
    assert not refused or name in refused


@given(st.integers(0, 10**6), st.integers(0, 10**6), SHARE)
def test_images_that_no_head_knows_stop_no_trial(unknown: int, even: int, share: float) -> None:
    """A stream that changes is unknown to both heads; what one alone does not know must outweigh the other's."""
    counts = Counts(placed=2 * unknown + even, unknown=unknown, unknown_against=unknown)

    assert decide(start(StopIf(unknown=share)), counts, {}) is None


@given(st.floats(1e-6, 0.5), st.integers(0, 10**6), st.floats(1, 90 * 86400))
def test_a_rule_that_is_unlikely_to_be_decided_is_told(worse: float, lately: int, seconds: float) -> None:
    """Where fewer labels are expected than it takes at least."""
    told = notes(StopIf(worse=worse), None, Outlook(True, lately, seconds, False, {}))

    assert bool(told) == (lately * seconds / (7 * 86400) < fewest(Tally(gained=1), 0, worse / 5))
