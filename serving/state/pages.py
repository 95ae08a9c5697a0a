"""Lists a page at a time, the newest first: how many entries, from which on, and how many bytes at most.

It knows nothing of what is listed.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

LIMIT = 100
"""Default number of entries of a page."""
MOST = 1_000
"""Largest number of entries of a page."""
BYTES = 8 * 2**20
"""Approximate size of a page's records; entries that do not fit are on the next page."""


def cut(entries: Sequence[T], limit: int, size: Callable[[T], int]) -> list[T]:
    """Return the first entries: `limit` at most, of `BYTES` together at most, and at least one if there is one."""
    found: list[T] = []
    left = BYTES
    for entry in entries[:limit]:
        left -= size(entry)
        if left < 0 and found:
            break
        found.append(entry)
    return found
