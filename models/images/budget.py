"""A memory budget for decoding images, shared by all threads: an image that does not fit waits or is refused.

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
"""The default budget: a quarter of the memory of the machine or container."""
LARGE = 64 * 2**20
"""For an image of this many bytes or more, freed memory is returned to the system at once."""


class Budget:
    """Bytes for decoding, granted in the order of the requests.

    Args:
        size: total bytes; 0 means a quarter of the memory of the machine or container.
    """

    def __init__(self, size: int = 0) -> None:
        self._given = size
        self._taken = 0
        self._changed = threading.Condition()
        self._line: deque[object] = deque()

    @cached_property
    def size(self) -> int:
        """Total bytes; the machine's memory is looked up once."""
        return self._given or memory() // SHARE

    @contextmanager
    def take(self, count: int, what: str) -> Iterator[None]:
        """Hold `count` bytes, after waiting for earlier requests.

        Args:
            count: bytes.
            what: the image's name in an error message.

        Raises:
            ImageTooLarge: `count` is more than the whole budget.
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
