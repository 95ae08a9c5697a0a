"""Names that are near the one that was written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.models.near_names import NEAR, near, suggestion

LONG = [f"Ünusually long name of a species {place:027d}" for place in range(10_000)]


@given(st.lists(st.text(min_size=1, max_size=60), max_size=20), st.text(max_size=60))
def test_what_is_near_is_known(known: list[str], name: str) -> None:
    """Only known names, each once, a few at most."""
    found = near(name, known)

    assert set(found) <= set(known)
    assert len(set(found)) == len(found) <= NEAR


@given(st.lists(st.text("abcdefgh", min_size=4, max_size=20), min_size=1, max_size=20, unique=True), st.data())
def test_a_slip_of_case_is_found_first(known: list[str], data: st.DataObject) -> None:
    """In another case, a name is the nearest to itself."""
    wanted = data.draw(st.sampled_from(known))

    assert near(wanted.upper(), known)[0] == wanted


@pytest.mark.parametrize("place", [0, 4711, 9999])
def test_one_letter_too_many_among_ten_thousand(place: int) -> None:
    """The names differ in a digit only; the right one is still among the nearest."""
    assert LONG[place] in near(LONG[place] + "x", LONG)


def test_a_sentence_ends_with_what_is_near() -> None:
    """Two names are joined by a word; nothing near says nothing."""
    assert suggestion("lynx", ["Lynx", "lynxx"]) in {
        "; did you mean 'Lynx' or 'lynxx'?", "; did you mean 'lynxx' or 'Lynx'?",
    }  # fmt: skip
    assert suggestion("lynx", ["oak"]) == ""
