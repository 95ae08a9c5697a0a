"""Checks that images can be decoded: from header and end, fast for millions, or by decoding each.

It knows nothing of classes.
"""

import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

from breadcrumbs.models.files import open_regular
from breadcrumbs.models.images.decoding import decode, open_image
from breadcrumbs.models.images.errors import ImageError
from breadcrumbs.models.images.segments import has_end
from breadcrumbs.training.data import objects
from breadcrumbs.training.data.objects import Span
from breadcrumbs.training.data.same_pictures import Mark, mark
from breadcrumbs.training.terminal.bars import track

T = TypeVar("T")
R = TypeVar("R")

ENDS = 1024
"""Bytes read at a file's beginning and end."""
WAITING = 1000
"""Images submitted to the threads ahead of the one being returned."""


class Look(NamedTuple):
    """The result for a file: what is wrong with it, and its mark."""

    defect: str | None
    mark: Mark = None


def look(paths: Sequence[Path | Span], max_pixels: int, *, full: bool, show: bool) -> Iterator[Look]:
    """Yield the result for each image, in order.

    Args:
        paths: the images.
        max_pixels: of one image.
        full: decode every image.
        show: show progress.
    """
    title = "images decoded" if full else "images checked"
    with ThreadPoolExecutor(os.cpu_count() if full else None) as pool:
        yield from track(
            _ahead(pool, partial(_decoded if full else _looked, max_pixels=max_pixels), paths),
            len(paths),
            title,
            show=show,
        )


def _ahead(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """What `pool.map` gives, without a future for each of millions."""
    running: deque[Future[R]] = deque()
    for item in items:
        running.append(pool.submit(work, item))
        if len(running) >= WAITING:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def _decoded(path: Path | Span, max_pixels: int) -> Look:
    found = _looked(path, max_pixels)
    if found.defect is not None:
        return found
    try:
        decode(path.read_bytes(), max_pixels)
    except ImageError as error:
        return Look(str(error), found.mark)
    except OSError as error:
        return Look(str(error.strerror or error))
    return found


def _looked(path: Path | Span, max_pixels: int) -> Look:
    """Check a file's header and end. Of an object in a bucket it is looked up that it is there; of a shard's member
    there, the index says so already.
    """
    try:
        if isinstance(path, Span) and path.remote:
            return Look(None if path.member or objects.size(path.place) else "it has no bytes")
        with open_regular(path) if isinstance(path, Path) else path.open("rb") as file:
            return _of(file, max_pixels)
    except ImageError as error:
        return Look(str(error))
    except OSError as error:
        return Look(str(error.strerror or error))


def _of(file: IO[bytes], max_pixels: int) -> Look:
    head = file.read(ENDS)
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - ENDS))
    tail = file.read()
    file.seek(0)
    with open_image(file, max_pixels) as image:
        kind = image.format
        cut = {"JPEG": _jpeg_is_cut, "PNG": _png_is_cut, "WEBP": _webp_is_cut}.get(kind or "")
        return Look(cut(file, size, tail) if cut else None, mark(size, head, tail))


def _jpeg_is_cut(file: IO[bytes], _: int, tail: bytes) -> str | None:
    if b"\xff\xd9" in tail:
        return None
    file.seek(0)
    # a phone's video may follow the picture
    return None if has_end(file.read()) else "cut short: the JPEG has no end marker"


def _png_is_cut(file: IO[bytes], size: int, tail: bytes) -> str | None:
    if tail.endswith(b"IEND\xaeB`\x82"):
        return None
    place = 8
    while place + 12 <= size:
        file.seek(place)
        header = file.read(8)
        place += 12 + int.from_bytes(header[:4])
        if header[4:] == b"IEND":
            return None
    return "cut short: the PNG has no end"


def _webp_is_cut(file: IO[bytes], size: int, _: bytes) -> str | None:
    file.seek(4)
    due = 8 + int.from_bytes(file.read(4), "little")
    return f"cut short: the WebP has {size} bytes of {due}" if size < due else None
