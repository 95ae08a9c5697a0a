"""Priors, against a softmax that is written by hand."""

import gc
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_head

from breadcrumbs.models.head import LinearHead, ranked, softmax
from breadcrumbs.models.prior import Prior, PriorError, UnknownClass, both, check_known, only, split

NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=60)
CLASSES = st.lists(NAMES, min_size=2, max_size=12, unique=True)


def head_of(classes: list[str]) -> LinearHead:
    return tiny_head(1, tuple(classes))


def by_hand(logits: np.ndarray, weights: dict[str, float], classes: list[str]) -> list[float]:
    """The posterior, in plain Python."""
    largest = max(logits)
    powers = [weights.get(name, 0.0) * math.exp(logit - largest) for name, logit in zip(classes, logits, strict=True)]
    return [power / math.fsum(powers) for power in powers]


@given(CLASSES, st.data())
def test_a_prior_is_a_factor_of_the_posterior(classes: list[str], data: st.DataObject) -> None:
    """For any classes and any weights of some of them; those without weight have no probability."""
    weight = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))
    weights = data.draw(st.dictionaries(st.sampled_from(classes), weight, min_size=1).filter(lambda w: any(w.values())))
    logits = np.array(data.draw(st.lists(st.floats(-5, 5), min_size=len(classes), max_size=len(classes))), np.float32)

    log = Prior(weights).log(head_of(classes))

    assert softmax(logits + log) == pytest.approx(by_hand(logits, weights, classes), abs=1e-5)


@given(CLASSES, st.data())
def test_a_list_keeps_the_odds_among_its_classes(classes: list[str], data: st.DataObject) -> None:
    """The head's own odds; all others are left out of the answer."""
    names = data.draw(st.lists(st.sampled_from(classes), min_size=1))
    logits = np.linspace(1, 2, len(classes)).astype(np.float32)

    found = ranked(logits + only(names, head_of(classes)), classes, len(classes))

    assert {one["class"] for one in found} == set(names)
    expected = by_hand(logits, dict.fromkeys(names, 1.0), classes)
    assert all(one["probability"] == pytest.approx(expected[one["index"]], abs=1e-5) for one in found)


@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300))
def test_only_the_ratio_counts(first: float, second: float) -> None:
    """Whatever the size of the weights: their sum may overflow."""
    log = Prior({"oak": first, "elm": second}).log(tiny_head())

    assert log[0] - log[1] == pytest.approx(math.log(first) - math.log(second), rel=1e-5, abs=1e-4)
    assert np.isneginf(log[2])


@pytest.mark.parametrize("classes", [2, 10_000])
def test_every_size_of_head_takes_a_prior(classes: int) -> None:
    """Two classes, and ten thousand with names of 60 characters."""
    names = [f"Ünusually long name of a species {place:027d}" for place in range(classes)]
    head = head_of(names)
    log = Prior({names[-1]: 1, names[0]: 3}).log(head)

    assert np.flatnonzero(np.isfinite(log)).tolist() == [0, classes - 1]
    assert np.exp(log[[0, -1]]) == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({}, "at least one class, got none"),
        ({"oak": 0.0, "elm": 0}, "all weights of the prior are 0"),
        ({"oak": -1.0}, "the weight of 'oak' is -1.0; expected a finite number, 0 or more"),
        ({"oak": math.nan}, "the weight of 'oak' is nan"),
        ({"oak": math.inf}, "the weight of 'oak' is inf"),
        ({"": 1.0}, "class '' is empty"),
        ({"o\nk": 1.0}, "control character"),
    ],
)
def test_what_is_no_prior_is_refused(weights: dict[str, float], words: str) -> None:
    """Each in a sentence that says what came."""
    with pytest.raises(PriorError, match=re.escape(words)):
        Prior(weights)


def test_names_that_a_head_lacks_weigh_nothing() -> None:
    """They are told, and the others share everything; a head that has none of them is refused."""
    prior = Prior({"oak": 1, "gone": 7})

    assert prior.unknown(tiny_head()) == ["gone"]
    assert prior.log(tiny_head())[0] == 0
    with pytest.raises(PriorError, match="leaves none of the head's 3 classes; it names 1, among them 'gone'"):
        Prior({"gone": 1}).log(tiny_head())


def test_old_names_are_followed_and_the_weights_of_merged_classes_are_added() -> None:
    """A name that a head has is that class, whatever became of another of that name."""
    became = {"Eiche": "oak", "Steineiche": "oak", "elm": "oak", "gone": None, "far": "away"}
    prior = Prior({"Eiche": 1, "Steineiche": 2, "elm": 1, "gone": 5, "far": 1})

    assert np.exp(prior.log(tiny_head(), became)) == pytest.approx([0.75, 0.25, 0])
    assert prior.unknown(tiny_head(), became) == ["gone", "far"]


def test_numbers_are_computed_once_for_each_head_and_go_with_it() -> None:
    """A request adds an array that is there; heads that are dropped leave nothing behind."""
    prior, head = Prior({"oak": 1}), tiny_head()

    assert prior.log(head) is prior.log(head)
    assert prior.log(tiny_head(classes=("elm", "oak")))[1] == 0
    del head
    gc.collect()
    assert len(prior._known) == 0


def test_an_unknown_class_is_told_with_near_names() -> None:
    """And how many others there are."""
    with pytest.raises(UnknownClass, match="class 'okk' and 1 others: not among the 3 of the head; did you mean 'oak'"):
        check_known(["elm", "okk", "ash"], tiny_head())
    with pytest.raises(PriorError, match="classes: expected names of classes, got none"):
        only([], tiny_head())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["oak,elm"], ["oak", "elm"]), (["oak", "elm"], ["oak", "elm"]), ([" oak , elm ,"], ["oak", "elm"]),
        (["oak, red"], ["oak, red"]), (["oak, red", "elm"], ["oak, red", "elm"]),
        (["oak, red,elm"], ["oak", "red", "elm"]),
        ([""], []), ([","], []),
    ],
)  # fmt: skip
def test_a_value_is_a_name_or_names_with_commas_between(values: list[str], expected: list[str]) -> None:
    """A name with a comma in it is exact as a value of its own."""
    assert split(values, tiny_head(classes=("oak", "elm", "oak, red"))) == expected


def test_two_priors_together_are_their_product() -> None:
    """None says nothing; two that share no class are refused."""
    head = tiny_head()
    weighted, listed = Prior({"oak": 1, "elm": 3}).log(head), only(["elm", "Wollemia nobilis"], head)

    assert both(weighted, None) is weighted
    assert both(None, listed) is listed
    assert both(None, None) is None
    together = both(weighted, listed)
    assert together is not None
    assert softmax(together) == pytest.approx([0, 1, 0])
    with pytest.raises(PriorError, match="no class in common"):
        both(only(["oak"], head), only(["elm"], head))
