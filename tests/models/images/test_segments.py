"""Segments of image files: told as the decoders would come to them."""

import io
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from breadcrumbs.models.images.decoding import MAX_SCANS, MAX_SEGMENTS, decode
from breadcrumbs.models.images.errors import ImageError, ImageTooLarge
from breadcrumbs.models.images.segments import PROFILE, SCAN, STRAY, segments

PIXELS = np.random.default_rng(3).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def encoded(kind: str, **options: object) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def segment(code: int, body: bytes = b"") -> bytes:
    """One segment of a JPEG."""
    return bytes((0xFF, code)) + struct.pack(">H", len(body) + 2) + body


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


JPEG, PNG = encoded("JPEG"), encoded("PNG")


def test_the_segments_of_a_jpeg_are_told_in_order() -> None:
    """Tables, frame, one scan, end; escaped bytes and restarts among a scan's bytes are none."""
    found = bytes(marker[1] for marker in segments(encoded("JPEG", restart_marker_blocks=1)))

    assert found.hex(" ") == "e0 db db c0 c4 c4 c4 c4 dd da d9"
    assert Counter(segments(encoded("JPEG", progressive=True)))[SCAN] == 10


def test_only_what_the_decoder_reads_is_counted() -> None:
    """Neither a thumbnail in the metadata nor a film behind the end has scans of this image."""
    thumbnail = segment(0xE1, b"Exif\0\0" + b"\xff\xda" * 1_000)
    data = JPEG[:2] + thumbnail + JPEG[2:] + b"\xff\xda" * 1_000

    assert Counter(segments(data))[SCAN] == 1
    assert decode(data).shape == PIXELS.shape


@pytest.mark.parametrize("code", [0xD8, 0xD9, 0xE5, 0xF0, 0xFE], ids=hex)
def test_a_flood_of_segments_is_refused(code: int) -> None:
    """Whatever they are; an end before the first scan is none, since Pillow reads on."""
    data = JPEG[:20] + segment(code) * (MAX_SEGMENTS + 1) + JPEG[20:]

    with pytest.raises(ImageTooLarge, match="more than 10000 segments or chunks, which is the limit"):
        decode(data)


@pytest.mark.parametrize("filling", [b"\xff", b"\0", b"\xff\xd0", b"\xff\x01"], ids=repr)
def test_a_flood_of_stray_bytes_is_refused(filling: bytes) -> None:
    """Before the first scan Pillow reads them one by one; with a marker behind them or none."""
    for rest in (JPEG[20:], b""):
        data = JPEG[:20] + filling * (MAX_SEGMENTS + 1) + rest

        with pytest.raises(ImageTooLarge, match="more than 10000 segments"):
            decode(data)
    assert Counter(segments(JPEG[:20] + b"\0" * 7 + JPEG[20:]))[STRAY] == 7


def test_the_scans_of_a_jpeg_are_bounded() -> None:
    """So many are decoded, one more is refused before anything is."""
    at = JPEG.index(SCAN)
    scan = JPEG[at:-2]
    assert Counter(segments(JPEG[:at] + scan * MAX_SCANS + JPEG[-2:]))[SCAN] == MAX_SCANS

    with pytest.raises(ImageTooLarge, match="the JPEG has 65 scans; the limit is 64"):
        decode(JPEG[:at] + scan * (MAX_SCANS + 1) + JPEG[-2:])


@pytest.mark.parametrize("kind", [b"IDAT", b"prVt", b"tEXt", b"fdAT"])
@pytest.mark.parametrize("place", [33, -12], ids=["before", "behind"])
def test_a_flood_of_chunks_is_refused(kind: bytes, place: int) -> None:
    """Before the pixels and behind them."""
    with pytest.raises(ImageTooLarge, match="more than 10000 segments or chunks"):
        decode(PNG[:place] + chunk(kind, b"a\0") * MAX_SEGMENTS + PNG[place:])


def test_a_second_colour_profile_is_refused() -> None:
    """Pillow would inflate each of thousands to a mebibyte."""
    profile = chunk(PROFILE, b"x\0\0" + zlib.compress(bytes(2**20), 9))
    assert decode(PNG[:33] + profile + PNG[33:]).shape == PIXELS.shape

    with pytest.raises(ImageError, match="the PNG has 3 colour profiles; expected one at most"):
        decode(PNG[:33] + profile * 3 + PNG[33:])


def test_what_stands_behind_the_end_of_a_png_is_not_read() -> None:
    """The end chunk ends it; a file that is cut in a chunk ends there; another file has none."""
    assert list(segments(PNG + chunk(b"prVt") * 3)) == [b"IHDR", b"IDAT", b"IEND"]
    assert list(segments(PNG[:40])) == [b"IHDR"]
    assert list(segments(PNG[:41])) == [b"IHDR", b"IDAT"]
    assert list(segments(b"RIFF")) == list(segments(b"")) == []
