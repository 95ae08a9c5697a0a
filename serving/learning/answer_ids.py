"""Ids of remembered answers: 26 characters that tell when they were made, sort by it, and cannot be guessed.

    01KB4M2ZQ8  H3V0W6T1R9S5XKCD
    10: milliseconds since 1970, 16: random; Crockford's base 32

It knows nothing of what an answer is.
"""

import os
import re
import time
from functools import lru_cache

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH, TIME = 26, 10
"""Characters of an id, and of the time in it."""
ID = re.compile(rf"[0-7][{ALPHABET}]{{{LENGTH - 1}}}")
LETTERS = bytes(ord(ALPHABET[byte % len(ALPHABET)]) for byte in range(256))
"""The letter of a random byte: 5 bits of it."""


def make(milliseconds: int | None = None) -> str:
    """Return a new id, of now unless a time is given."""
    now = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    return _written(now) + os.urandom(LENGTH - TIME).translate(LETTERS).decode()


def made_at(answer: str) -> int | None:
    """Return when an id was made, in milliseconds since 1970. None means that it is no id."""
    if not ID.fullmatch(answer):
        return None
    number = 0
    for letter in answer[:TIME]:
        number = number * len(ALPHABET) + ALPHABET.index(letter)
    return number


@lru_cache(maxsize=16)
def _written(milliseconds: int) -> str:
    letters = []
    for _ in range(TIME):
        milliseconds, place = divmod(milliseconds, len(ALPHABET))
        letters.append(ALPHABET[place])
    return "".join(reversed(letters))
