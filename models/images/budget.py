"""Memory for decoding images, shared by all threads of a process: who does not fit waits, who never fits is refused.

An image file of 2 kB may decode to a gigabyte. Its header says how large the picture is; what a decoder takes for each
of its pixels was measured. It knows nothing of how images are decoded.
"""

import ctypes
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property

from breadcrumbs.models.images.errors import ImageTooLarge
from breadcrumbs.models.machine import memory

SHARE = 4
"""A process may take this part of the memory of the machine or container where nobody says otherwise: a quarter."""
LARGE = 64 * 2**20
"""Bytes of one image from which freed memory is given back to the system at once."""


class Budget:
    """Bytes for decoding, taken in the order of asking.

    Args:
        size: bytes in all; 0: a quarter of the memory of the machine or container.
    """

    def __init__(self, size: int = 0) -> None:
        self._given = size
        self._taken = 0
        self._changed = threading.Condition()
        self._line: deque[object] = deque()

    @cached_property
    def size(self) -> int:
        """Bytes in all; what the machine grants is looked up once."""
        return self._given or memory() // SHARE

    @contextmanager
    def take(self, count: int, what: str) -> Iterator[None]:
        """Hold `count` bytes, after waiting for those who came before.

        Args:
            count: bytes.
            what: what they are for, in an error.

        Raises:
            ImageTooLarge: more than there are in all.
        """
        size = self.size
        if count > size:
            raise ImageTooLarge(
                f"{what} takes about {count // 2**20} MiB to decode; the limit is {size // 2**20} MiB; make the image "
                f"smaller, or give decoding more memory (`decode_memory`)"
            )
        ticket = object()
        with self._changed:
            self._line.append(ticket)
            try:
                self._changed.wait_for(lambda: self._line[0] is ticket and self._taken + count <= size)
                self._taken += count
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._taken -= count
                self._changed.notify_all()
            if count >= LARGE:
                _give_back()


def _give_back() -> None:
    """Return freed memory to the system: glibc keeps what threads have freed for the next large image."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
