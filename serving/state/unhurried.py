"""Work in a thread of the server that lets requests pass.

Python runs one thread at a time. A request that meets a thread that computes waits for up to 5 ms each time that it
comes back from the network or the engine, unless that thread pauses by itself. It knows nothing of what the work is.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
WORK, PAUSE = 1e-4, 5e-5
"""Seconds of work at most, about, and of the pause after them."""


def unhurried(items: Iterable[T]) -> Iterator[T]:
    """Yield items, with a pause whenever work on them has taken `WORK`."""
    until = time.perf_counter() + WORK
    for item in items:
        yield item
        if time.perf_counter() > until:
            time.sleep(PAUSE)
            until = time.perf_counter() + WORK
