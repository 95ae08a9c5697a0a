"""Ids of remembered answers: 26 characters that tell when they were made, sort by it, and cannot be guessed.

    01KB4M2ZQ8  H3V0W6T1R9S5XKCD
    10: milliseconds since 1970, 16: random; Crockford's base 32

It knows nothing of what an answer is.
"""

import re
import secrets
import time

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH, TIME = 26, 10
"""Characters of an id, and of the time in it."""
ID = re.compile(rf"[0-7][{ALPHABET}]{{{LENGTH - 1}}}")
RANDOM_BITS = 80


def make(milliseconds: int | None = None) -> str:
    """Return a new id, of now unless a time is given."""
    now = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    return _written((now << RANDOM_BITS) | secrets.randbits(RANDOM_BITS))


def made_at(answer: str) -> int | None:
    """Return when an id was made, in milliseconds since 1970. None means that it is no id."""
    if not ID.fullmatch(answer):
        return None
    number = 0
    for letter in answer[:TIME]:
        number = number * len(ALPHABET) + ALPHABET.index(letter)
    return number


def _written(number: int) -> str:
    letters = []
    for _ in range(LENGTH):
        number, place = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[place])
    return "".join(reversed(letters))
