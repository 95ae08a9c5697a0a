"""Names that are nearly the one that was written: for the sentence that says that there is none of that name.

It knows nothing of what the names are of.
"""

import difflib
from collections.abc import Iterable, Sequence

NEAR = 3
"""Names that a sentence lists."""
SHORTLIST = 50
"""Names that are compared letter by letter, however many there are: those with the most pairs of letters in common."""


def near(name: str, known: Iterable[str]) -> list[str]:
    """Return the names that are nearest to one, the nearest first; none where none is near."""
    own = _pairs(name)
    by_pairs = sorted(known, key=lambda other: -_overlap(own, _pairs(other)))[:SHORTLIST]
    letters = {other.casefold(): other for other in reversed(by_pairs)}
    found = difflib.get_close_matches(name.casefold()[:255], letters, NEAR)
    return [letters[one] for one in found]


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the nearest names as the end of a sentence; empty where none is near."""
    found = [f"{one!r:.80}" for one in near(name, known)]
    return f"; did you mean {_either(found)}?" if found else ""


def _either(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _pairs(name: str) -> set[str]:
    """The pairs of letters of a name, whatever their case."""
    text = f" {name.casefold()[:255]} "
    return {text[place : place + 2] for place in range(len(text) - 1)}


def _overlap(first: set[str], second: set[str]) -> float:
    """The share of pairs in common (Dice)."""
    return 2 * len(first & second) / (len(first) + len(second))
