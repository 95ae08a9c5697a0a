"""Renaming, merging and removing classes: on names, on logits, on heads, and over several refits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.models.head import LinearHead, softmax
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.refit.edits import EditError, edited, edited_head, edited_logits, with_past

LIVE = ("oak", "elm", "yew", "ash", "fir", "box")
MAPPINGS = st.dictionaries(st.sampled_from(LIVE[:4]), st.sampled_from((*LIVE, "new", "other", None)))
"""Whatever they say of four classes, two others are left."""


def head(seed: int) -> LinearHead:
    """A random head of the live classes, four features."""
    drawn = np.random.default_rng(seed)
    return LinearHead(
        drawn.normal(size=(len(LIVE), 4)).astype(np.float32), drawn.normal(size=len(LIVE)).astype(np.float32), LIVE
    )


@pytest.mark.parametrize(
    ("mapping", "names", "place"),
    [
        ({}, LIVE, (0, 1, 2, 3, 4, 5)),
        ({"oak": "holm oak"}, ("holm oak", *LIVE[1:]), (0, 1, 2, 3, 4, 5)),
        ({"oak": "elm", "elm": "oak"}, ("elm", "oak", *LIVE[2:]), (0, 1, 2, 3, 4, 5)),
        ({"oak": "elm", "elm": "yew"}, ("elm", "yew", "ash", "fir", "box"), (0, 1, 1, 2, 3, 4)),
        ({"yew": "oak"}, ("oak", "elm", "ash", "fir", "box"), (0, 1, 0, 2, 3, 4)),
        ({"ash": "tree", "oak": "tree", "elm": None}, ("tree", "yew", "fir", "box"), (0, -1, 1, 0, 2, 3)),
    ],
    ids=str,
)
def test_one_mapping_says_all_at_once(
    mapping: dict[str, str | None], names: tuple[str, ...], place: tuple[int, ...]
) -> None:
    """Renames, swaps, a chain that is followed one step, merges into a class that is there or a new one, removals."""
    found = edited(LIVE, mapping)

    assert (found.names, found.place) == (names, place)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"oka": "x"}, "classes: the live head has no class 'oka'; near it: oak"),
        ({"zzzzzz": None}, "the live head has no class 'zzzzzz'; its 6 classes have no name near it"),
        ({"oak": ""}, "classes: class '' is empty; name it"),
        ({"oak": " \u3000"}, "classes: class .* is empty; name it"),
        ({"oak": "yew "}, "classes: class 'yew ' begins or ends with a space; rename it"),
        ({"oak": "a\nb"}, "classes: class 'a\\nb' .*; expected a name"),
        (dict.fromkeys(LIVE), "classes: 0 of 6 classes would be left; expected 2 or more"),
        (dict.fromkeys(LIVE, "tree"), "classes: 1 of 6 classes would be left; expected 2 or more"),
    ],
    ids=str,
)
def test_an_edit_that_cannot_be_is_one_sentence(mapping: dict[str, str | None], message: str) -> None:
    """An unknown name with those near it, a name that is none, too few classes left."""
    with pytest.raises(EditError, match=message.replace("\\", "\\\\")):
        edited(LIVE, mapping)


@given(mapping=MAPPINGS, seed=st.integers(0, 99))
def test_merged_classes_are_as_probable_as_their_parts(mapping: dict[str, str | None], seed: int) -> None:
    """Of what is not removed, each new class has the sum of its parts' probabilities, in one row as in many."""
    classes = edited(LIVE, mapping)
    logits = head(seed).logits(np.random.default_rng(seed).normal(size=(5, 4)))

    before, after = softmax(logits), softmax(edited_logits(logits, classes))

    assert after.shape == (5, len(classes.names))
    parts = np.zeros_like(after)
    for old, new in enumerate(classes.place):
        if new >= 0:
            parts[:, new] += before[:, old]
    assert np.allclose(after, parts / parts.sum(1, keepdims=True), atol=1e-5)


@given(mapping=MAPPINGS, seed=st.integers(0, 99))
def test_the_edited_head_is_the_live_one_but_for_merges(mapping: dict[str, str | None], seed: int) -> None:
    """A class of one part has its very logit; a merged one is below log Σ exp, and equal where its parts are."""
    classes = edited(LIVE, mapping)
    features = np.random.default_rng(seed).normal(size=(5, 4))

    near = edited_head(head(seed), classes)
    exact = edited_logits(head(seed).logits(features), classes)

    alone = [classes.place.count(new) == 1 for new in range(len(classes.names))]
    assert near.classes == classes.names
    assert np.allclose(near.logits(features)[:, alone], exact[:, alone], atol=1e-5)
    assert (near.logits(features) <= exact + 1e-5).all()
    flat = LinearHead(np.zeros((len(LIVE), 4), np.float32), np.zeros(len(LIVE), np.float32), LIVE)
    assert np.allclose(edited_head(flat, classes).logits(features), edited_logits(flat.logits(features), classes))


def test_old_names_are_followed_over_several_refits() -> None:
    """A snapshot keeps the names that it was made with: they are read as what they became; an own word holds."""
    first = RefitSpec(classes={"oak": "holm oak", "elm": None})
    second = with_past(RefitSpec(classes={"holm oak": "tree"}), first.model_dump(), ("holm oak", "yew", "ash"))
    third = with_past(RefitSpec(aliases={"ahs": "ash"}), second.model_dump(), ("tree", "yew", "ash"))
    back = with_past(RefitSpec(aliases={"elm": "elm"}), second.model_dump(), ("tree", "yew", "ash"))
    again = with_past(RefitSpec(), third.model_dump(), ("tree", "yew", "oak"))

    assert second.aliases == {"oak": "tree", "elm": None}
    assert third.aliases == {"oak": "tree", "elm": None, "holm oak": "tree", "ahs": "ash"}
    assert back.aliases == {"oak": "tree", "elm": "elm", "holm oak": "tree"}
    assert "oak" not in again.aliases  # it is a class again
    assert with_past(RefitSpec(), {}, LIVE) == RefitSpec()
