"""Work in a thread of the server that lets requests pass.

Python runs one thread at a time. A request that meets a thread that computes waits for up to 5 ms each time that it
comes back from the network or the engine, unless that thread pauses by itself. It knows nothing of what the work is.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
WORK, PAUSE = 2e-4, 5e-5
"""Seconds of work, of this thread's CPU time, and of the pause after them."""


def unhurried(items: Iterable[T], pause: float = PAUSE) -> Iterator[T]:
    """Yield items, with a pause, in seconds, whenever the work on them has taken `WORK`."""
    until = time.thread_time() + WORK
    for item in items:
        yield item
        if time.thread_time() > until:
            time.sleep(pause)
            until = time.thread_time() + WORK
