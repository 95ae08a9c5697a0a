"""Compressed bodies, inflated piece by piece, so that a small body cannot fill the memory.

It knows nothing of requests or limits; its caller counts the bytes.
"""

import zlib
from collections.abc import Iterator
from typing import Literal

Coding = Literal["gzip", "deflate"]
PIECE = 2**18
"""Bytes that are inflated at a time."""


class Corrupt(ValueError):
    """Data that is not valid in its coding."""


class Inflater:
    """Inflates one body.

    Args:
        coding: `gzip`, or `deflate`, with the zlib header that the standard asks for or without, as some send it.
    """

    def __init__(self, coding: Coding) -> None:
        self._coding = coding
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 16) if coding == "gzip" else None
        self._start = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what more data inflates to, at most `PIECE` bytes at a time.

        Raises:
            Corrupt: it is not in the coding, or goes on after its end.
        """
        if self._stream is None:
            self._start += data
            if len(self._start) < 2:
                return
            data, self._start = self._start, b""
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if _has_zlib_header(data) else -zlib.MAX_WBITS)
        while data:
            if self._stream.eof:
                raise Corrupt(f"more bytes follow the end of its {self._coding} data")
            try:
                piece = self._stream.decompress(data, PIECE)
            except zlib.error as error:
                raise Corrupt(f"it is not {self._coding} data: {error}") from error
            data = self._stream.unconsumed_tail or self._stream.unused_data
            if piece:
                yield piece

    def end(self) -> Iterator[bytes]:
        """Yield what is left when no more data comes.

        Raises:
            Corrupt: the data ends in the middle.
        """
        while self._stream is not None and not self._stream.eof:
            piece = self._stream.decompress(b"", PIECE)
            if not piece:
                break
            yield piece
        if self._stream is None or not self._stream.eof:
            raise Corrupt(f"its {self._coding} data ends in the middle")


def _has_zlib_header(data: bytes) -> bool:
    return data[0] & 15 == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
