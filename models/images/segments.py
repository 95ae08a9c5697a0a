"""The segments of a JPEG and the chunks of a PNG, found in the bytes alone, before a decoder reads them.

A decoder works for each of them, so that a small file of very many holds it for long: a scan of 115 bytes makes it
visit every block of the image. What is told here is what libjpeg and Pillow would come to, and never less. A WebP's
chunks are not told: libwebp reads a million in a tenth of a second. It knows nothing of pixels or limits.
"""

import re
from collections.abc import Iterator
from itertools import repeat

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"
SCAN, END, PROFILE, STRAY = b"\xff\xda", b"\xff\xd9", b"iCCP", b""
PLAIN = frozenset(bytes((0xFF, code)) for code in (0xC0, 0xC2, 0xC4, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xFE))
"""What a JPEG consists of that has no metadata but resolution and comments: neither EXIF nor a second picture."""

_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
"""Not what may stand among a scan's bytes: an escaped 255, a restart."""
_CODES = (*range(0xC0, 0xC8), *range(0xC9, 0xD0), *range(0xDA, 0xDE), *range(0xE0, 0xF0), 0xFE)
_WITH_LENGTH = frozenset(bytes((0xFF, code)) for code in _CODES)


def segments(data: bytes) -> Iterator[bytes]:
    """Yield the marker of each segment of a JPEG, or the name of each chunk of a PNG; nothing of any other file.

    A byte that lies between two segments of a JPEG's header is a `STRAY`: Pillow reads them one by one.
    """
    if data.startswith(JPEG):
        yield from (kind for kind, _ in places(data))
    elif data.startswith(PNG):
        yield from _png(data)


def places(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the marker of each segment of a JPEG with its place, to the end of the first picture; strays as above."""
    place, scanned = 2, False
    while found := _MARKER.search(data, place):
        if not scanned:
            yield from zip(repeat(STRAY), range(place, found.start()))
        marker, place = found[0], found.end()
        yield marker, found.start()
        if marker == END and scanned:
            return
        if marker in _WITH_LENGTH:
            place += max(2, int.from_bytes(data[place : place + 2]))
        scanned = scanned or marker == SCAN
    if not scanned:
        yield from zip(repeat(STRAY), range(place, len(data)))


def has_end(data: bytes) -> bool:
    """Whether a JPEG's first picture ends; what follows it may be anything, such as the video of a motion photo."""
    return any(kind == END for kind, _ in places(data))


def _png(data: bytes) -> Iterator[bytes]:
    place = len(PNG)
    while place + 8 <= len(data):
        kind = data[place + 4 : place + 8]
        yield kind
        if kind == b"IEND":
            return
        place += 12 + int.from_bytes(data[place : place + 4])
