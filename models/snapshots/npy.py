"""Arrays in numpy's `.npy` form whose contents are not trusted.

numpy's own loader can run code (object arrays are pickles) and makes room for whatever shape the header claims. Here
the header is matched against the one form that it may have, the shape must fill exactly the bytes that follow, and
the data goes to disk as it comes. It knows nothing of archives or snapshots.

Format: 6 bytes magic, 2 bytes version, header length (2 bytes little-endian in version 1, 4 in 2 and 3), the header as
a Python dict in text, then the elements.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import ml_dtypes
import numpy as np

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.spool import Array, spool

MAGIC = b"\x93NUMPY"
HEADER_LIMIT = 10_000
"""Bytes, as numpy's own."""
SIDES = 8

FLOATS = ("f2", "f4", "f8", "V2")
"""V2 is what numpy writes for bfloat16."""
INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
TEXT = ("U",)
"""Of any width; the itemsize is 4 bytes a character."""

_ITEM = r"""\s*['"](\w{1,20})['"]\s*:\s*('[^'\\]{0,80}'|"[^"\\]{0,80}"|True|False|\([\d,\s]{0,200}\))\s*"""
_DICT = re.compile(rf"\{{{_ITEM},{_ITEM},{_ITEM},?\s*\}}\s*")
_DESCR = re.compile(r"([<>|])(U)([1-9]\d{0,6})|([<>|])([a-zA-Z]\d{0,3})")


@dataclass(frozen=True)
class Header:
    """What an `.npy` header says: dtype, with its byte order; shape; whether the first index runs fastest."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool


def read(pieces: Iterator[bytes], size: int, allowed: tuple[str, ...], limit: int) -> Array:
    """Read one array from the bytes of its file.

    Args:
        pieces: the bytes, in pieces.
        size: how many there are in all.
        allowed: dtypes that it may have, of `FLOATS`, `INTEGERS` and `TEXT`.
        limit: bytes that it may take.

    Returns:
        The array, read-only, mapped where it is not empty, in the byte order and layout that it has in the file.

    Raises:
        FormatError: naming the defect.
        FileTooLarge: more bytes than `limit`.
    """
    buffer = bytearray()
    _fill(buffer, pieces, 12)
    if not buffer.startswith(MAGIC):
        raise FormatError(f"expected an .npy array, got bytes that begin {bytes(buffer[:6]).hex()}")
    version = (buffer[6], buffer[7]) if len(buffer) > 7 else (0, 0)
    if version not in {(1, 0), (2, 0), (3, 0)}:
        raise FormatError(f".npy version {version[0]}.{version[1]}: expected 1.0, 2.0 or 3.0")
    start = 10 if version == (1, 0) else 12
    length = int.from_bytes(buffer[8:start], "little")
    if length > HEADER_LIMIT:
        raise FormatError(f".npy header has {length} bytes; the limit is {HEADER_LIMIT}")
    _fill(buffer, pieces, start + length)
    if len(buffer) < start + length:
        raise FormatError(f".npy header: expected {length} bytes, got {max(0, len(buffer) - start)}")
    header = parse(bytes(buffer[start : start + length]), allowed)
    count = 1
    for side in header.shape:
        count *= side
    wanted, have = count * header.dtype.itemsize, size - start - length
    if wanted != have:
        raise FormatError(f"shape {header.shape} of {header.dtype.str} takes {wanted} bytes; {have} follow the header")
    flat = spool(chain([bytes(buffer[start + length :])], pieces), header.dtype, limit)
    if len(flat) != count:
        raise FormatError(f"shape {header.shape} takes {count} elements; {len(flat)} came")
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def _fill(buffer: bytearray, pieces: Iterator[bytes], count: int) -> None:
    while len(buffer) < count:
        piece = next(pieces, None)
        if piece is None:
            return
        buffer += piece


def parse(text: bytes, allowed: tuple[str, ...]) -> Header:
    """Parse the text of a header; raises as `read` does."""
    if b"|O" in text:
        raise FormatError("dtype object: its elements are pickles, which are never read")
    found = _DICT.fullmatch(text.decode("latin-1"))
    if not found:
        raise FormatError(f".npy header: expected descr, fortran_order and shape of a plain dtype, got {text!r:.120}")
    items = dict(zip(found.groups()[::2], found.groups()[1::2], strict=True))
    if set(items) != {"descr", "fortran_order", "shape"}:
        raise FormatError(f".npy header: expected descr, fortran_order and shape, got {', '.join(items)}")
    order, sides = items["fortran_order"], items["shape"]
    if order not in {"True", "False"} or not re.fullmatch(r"\(\s*((\d{1,18}\s*,\s*)*(\d{1,18}\s*,?)?)\s*\)", sides):
        raise FormatError(f".npy header: fortran_order {order:.40}, shape {sides:.80}: expected a boolean and a tuple")
    if re.fullmatch(r"\(\s*\d+\s*\)", sides):
        raise FormatError(f".npy header: shape {sides:.80}: expected a tuple, got a number")
    shape = tuple(int(side) for side in re.findall(r"\d+", sides))
    if len(shape) > SIDES:
        raise FormatError(f".npy header: {len(shape)} sides; the limit is {SIDES}")
    return Header(_dtype(items["descr"].strip("'\""), allowed), shape, order == "True")


def _dtype(text: str, allowed: tuple[str, ...]) -> np.dtype[Any]:
    found = _DESCR.fullmatch(text)
    code = (found[2] or found[5]) if found else ""
    if not found or code not in allowed:
        raise FormatError(f"expected dtype {', '.join(allowed)}, got {text!r:.40}")
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16 if code == "V2" else text)
    return dtype
