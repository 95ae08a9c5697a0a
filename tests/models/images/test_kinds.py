"""What a file is, by its first bytes; each kind that is not read is named with what to do about it."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from breadcrumbs.models.images import decoding
from breadcrumbs.models.images.decoding import decode
from breadcrumbs.models.images.errors import ImageError
from breadcrumbs.models.images.kinds import kind_of

READ = {"JPEG", "PNG", "WebP"}
BEGINNINGS = {
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "HEIC by brand": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
    "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ",
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n",
    "JPEG XL bare": b"\xff\x0a\xfa\x1f",
    "TIFF": b"II*\0\x08\0\0\0",
    "TIFF big": b"MM\0*\0\0\0\x08",
    "a raw photo (CR2)": b"II*\0\x10\0\0\0CR\x02\0",
    "GIF": b"GIF89a\1\0\1\0",
    "BMP": b"BM\x46\0\0\0",
    "Photoshop": b"8BPS\0\1",
    "PDF": b"%PDF-1.7\n",
    "SVG": b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a web page": b"\n<!DOCTYPE html><html><body>404</body></html>",
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
    "a video (MP4)": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
    "a zip archive": b"PK\3\4\x14\0",
    "JSON text": b'{"error": "not found"}',
    "an empty file": b"",
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_what_is_not_read_is_named_with_a_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence: what came, its size, what is expected, what to do; as if the extra were not installed."""
    monkeypatch.setattr(decoding, "more_formats", frozenset)
    data = BEGINNINGS[name]

    with pytest.raises(ImageError) as caught:
        decode(data)

    said = str(caught.value)
    assert said.startswith(f"this is {name.removesuffix(' by brand').removesuffix(' bare').removesuffix(' big')}")
    assert f"({len(data)} bytes), not a JPEG, PNG or WebP image; " in said
    assert said.rpartition("; ")[2]
    assert "\n" not in said


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_kinds_are_told_from_what_pillow_writes(kind: str) -> None:
    """The name of the reader is Pillow's own."""
    out = io.BytesIO()
    Image.new("RGB", (9, 5)).save(out, kind)

    assert kind_of(out.getvalue()[:512]).pillow == kind


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_the_extra_reads_more_kinds(kind: str) -> None:
    """HEIC, AVIF, TIFF, BMP and the first frame of a GIF, upright, within the same limits."""
    pytest.importorskip("pillow_heif")
    assert kind in decoding.more_formats()
    pixels = np.full((12, 20, 3), (200, 40, 90), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)

    found = decode(out.getvalue())

    assert found.shape == (12, 20, 3)
    assert np.abs(found.astype(int) - pixels).max() <= 8
    with pytest.raises(ImageError, match="the limit is 239"):
        decode(out.getvalue(), 239)


@pytest.mark.parametrize(
    ("code", "precision", "words"), [(0xC3, 8, "lossless JPEG"), (0xC1, 12, "JPEG of 12 bits a channel")]
)
def test_a_jpeg_that_no_decoder_reads_is_named(code: int, precision: int, words: str) -> None:
    """Lossless, and more than 8 bits a channel: medical and scientific scanners write them."""
    frame = struct.pack(">BBHBHHB", 0xFF, code, 11, precision, 8, 8, 1) + b"\1\x11\0"

    with pytest.raises(ImageError, match=rf"this is {words}, which is not read; save it as"):
        decode(b"\xff\xd8" + frame + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(40) + b"\xff\xd9")
