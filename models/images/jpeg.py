"""JPEG to pixels by libjpeg-turbo, with one rule for imperfect files.

libjpeg goes on after most defects and warns. Where nothing is lost, the picture is taken as every viewer shows it;
where data is missing or damaged, the file is refused. Metadata has no part in it. libjpeg tells the first warning
only, so a harmless cause is mended in the bytes and the file is decoded again: a second warning then comes to light.

It knows nothing of sizes, orientation or other formats.
"""

import re

import numpy as np
import simplejpeg

from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.images.errors import ImageError
from breadcrumbs.models.images.segments import END, SCAN, STRAY, places

MENDS = 8
"""Harmless defects repaired in one file before it is refused."""
EXTRANEOUS = 16
"""Bytes between a scan and the next marker that may be anything; more are the rest of a damaged scan, unless they are
all the same: padding."""

_SEQUENTIAL = {b"\xff\xc0", b"\xff\xc1"}
_APP0, _APP14 = b"\xff\xe0", b"\xff\xee"
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_UNKNOWN_SUBSAMPLING = "Could not determine subsampling"


class OtherSubsampling(ImageError):
    """A JPEG whose colours are sampled in a way that libjpeg-turbo's fast interface does not know."""


def decode_jpeg(data: bytes, colours: str = "RGB", least: tuple[int, int] = (0, 0)) -> Pixels:
    """Decode a JPEG without applying its EXIF orientation.

    Args:
        data: the file; bytes after the first picture are ignored.
        colours: `RGB` for grey and colour pictures, `CMYK` for those of four inks.
        least: rows and columns that the picture must keep; it may be reduced to 1/2, 1/4 or 1/8.

    Returns:
        uint8 (rows, columns, 3 or 4).

    Raises:
        OtherSubsampling: another decoder is needed.
        ImageError: data is missing or damaged.
    """
    size = {"min_height": least[0], "min_width": least[1]}
    for _ in range(MENDS):
        try:
            return np.asarray(simplejpeg.decode_jpeg(data, colours, strict=True, **size))
        except ValueError as error:
            warning = str(error)
        if _UNKNOWN_SUBSAMPLING in warning:
            raise OtherSubsampling(f"damaged image: {warning}")
        mended = _mended(data, warning)
        if mended is None:
            raise ImageError(f"damaged image: {warning}")
        if mended == data:  # harmless, but libjpeg warns all the same
            return np.asarray(simplejpeg.decode_jpeg(data, colours, strict=False, **size))
        data = mended
    raise ImageError(f"damaged image: more than {MENDS} defects; the last is: {warning}")


def _mended(data: bytes, warning: str) -> bytes | None:
    """Return the file without the cause of a harmless warning; None if the warning means lost data."""
    if "Invalid SOS parameters" in warning:
        return _with_sequential_scans(data)
    if "JFIF revision" in warning:
        return _with(data, _APP0, b"JFIF\0", 7, b"\1")
    if "Adobe color transform" in warning:
        return _with(data, _APP14, b"Adobe", 13, b"\1")
    if "Inconsistent progression" in warning:
        return data
    if found := _EXTRANEOUS.search(warning):
        return _without(data, int(found[1]), bytes((0xFF, int(found[2], 16))))
    return None


def _with_sequential_scans(data: bytes) -> bytes:
    """Make the scan headers of a sequential JPEG say what decoders assume: all 64 coefficients, at once."""
    kinds = list(places(data))
    if not any(kind in _SEQUENTIAL for kind, _ in kinds):
        return data
    out = bytearray(data)
    for kind, place in kinds:
        if kind == SCAN:
            last = place + 2 + int.from_bytes(data[place + 2 : place + 4])
            out[last - 3 : last] = b"\x00\x3f\x00"
    return bytes(out)


def _with(data: bytes, kind: bytes, name: bytes, offset: int, value: bytes) -> bytes:
    """Replace one byte in the segment of a name: `offset` bytes after its length."""
    for found, place in places(data):
        if found == kind and data.startswith(name, place + 4):
            at = place + 2 + offset
            return data[:at] + value + data[at + 1 :]
    return data


def _without(data: bytes, count: int, marker: bytes) -> bytes | None:
    """The file without the extraneous bytes before a marker; None where they are what is left of a damaged scan."""
    kinds = list(places(data))
    gaps = [place for kind, place in kinds if kind == STRAY]
    if gaps:  # between segments of the header, where they stand in nobody's way
        kept = np.ones(len(data), bool)
        kept[gaps] = False
        return np.frombuffer(data, np.uint8)[kept].tobytes()
    ends = [place for kind, place in kinds if kind == marker]
    if marker != END or not ends:
        return data if count <= EXTRANEOUS else None
    rest = data[ends[0] - count : ends[0]]
    if count > EXTRANEOUS and len(set(rest)) > 1:
        return None
    return data[: ends[0] - count] + data[ends[0] :]
