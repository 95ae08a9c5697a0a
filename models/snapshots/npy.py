"""Untrusted arrays in numpy's `.npy` format: numpy reads the header, the elements go to a nameless file.

`numpy.load` could unpickle objects, and takes memory for whatever shape a header claims. So numpy gets the header only,
with a bound on its length; dtype and shape are checked; and the elements are mapped from disk. Nothing is unpickled.
It knows nothing of archives or snapshots.
"""

import io
import math
import re
import tokenize
import warnings
from itertools import chain
from typing import IO, Any

import ml_dtypes
import numpy as np
from numpy.lib import format as numpy_format

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.spool import PIECE, Array, spool

HEADER_LIMIT = 10_000
"""Bytes within which a header must end; numpy's own limit."""
SIDES = 8
"""Dimensions at most."""

FLOATS = ("f2", "f4", "f8", "V2")
"""V2 is what numpy writes for bfloat16."""
INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
TEXT = ("U",)
"""Of any width; the itemsize is 4 bytes a character."""

_DAMAGE = (ValueError, TypeError, LookupError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError, Warning)
"""What numpy raises for a damaged header, which it parses as a Python literal; `Warning`, for one of Python 2."""


def read(source: IO[bytes], size: int, allowed: tuple[str, ...], limit: int) -> Array:
    """Read one array.

    Args:
        source: the file.
        size: the bytes it has.
        allowed: dtypes that the array may have, of `FLOATS`, `INTEGERS` and `TEXT`.
        limit: bytes that the array may take.

    Returns:
        The array, read-only, mapped if it is not empty, in the byte order and layout of the file.

    Raises:
        FormatError: naming the defect.
        FileTooLarge: more bytes than `limit`.
    """
    start = io.BytesIO(source.read(HEADER_LIMIT))
    shape, fortran, dtype = _begun(start, size, allowed)
    count = math.prod(shape)
    flat = spool(chain([start.read()], iter(lambda: source.read(PIECE), b"")), dtype, limit)
    if len(flat) != count:
        raise FormatError(f"shape {shape} takes {count} elements, got {len(flat)}")
    return flat.reshape(shape, order="F" if fortran else "C")


def from_bytes(data: bytes, allowed: tuple[str, ...]) -> Array:
    """Return an array that is in memory, as `read` does, without a copy of it."""
    start = io.BytesIO(data)
    shape, fortran, dtype = _begun(start, len(data), allowed)
    return np.frombuffer(data, dtype, offset=start.tell()).reshape(shape, order="F" if fortran else "C")


def _begun(start: io.BytesIO, size: int, allowed: tuple[str, ...]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype, checked; `start` is left where the elements begin."""
    shape, fortran, found = _header(start)
    dtype = _checked(found, allowed)
    needed, left = math.prod(shape) * dtype.itemsize, size - start.tell()
    if needed != left:
        raise FormatError(f"shape {shape} of {found.str} takes {needed} bytes; {left} follow the header")
    return shape, fortran, dtype


def _header(start: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first index runs fastest, and dtype; `start` is left where the elements begin."""
    try:
        with warnings.catch_warnings(action="error"):
            version = numpy_format.read_magic(start)
            # Version 3.0 differs from 2.0 only in the text of field names, and no array here has fields.
            parse = numpy_format.read_array_header_1_0 if version == (1, 0) else numpy_format.read_array_header_2_0
            shape, fortran, dtype = parse(start, max_header_size=HEADER_LIMIT)
    except _DAMAGE as error:
        reason = re.sub(r" at 0x\w+", "", " ".join(str(error).split()))  # without addresses in memory
        raise FormatError(f".npy header cannot be read: {reason:.150}") from error
    if version not in {(1, 0), (2, 0), (3, 0)}:
        raise FormatError(f".npy version {version}: expected 1.0, 2.0 or 3.0")
    # Zeros do not count, so that what passes also fits numpy's own arithmetic where another side is 0.
    if len(shape) > SIDES or min(shape, default=0) < 0 or math.prod(side or 1 for side in shape) >= 2**58:
        raise FormatError(f".npy header: expected at most {SIDES} sides, none negative or huge, got {shape!s:.80}")
    return shape, fortran, dtype


def _checked(found: np.dtype[Any], allowed: tuple[str, ...]) -> np.dtype[Any]:
    if found.hasobject:
        raise FormatError("dtype object: its elements are pickles, which are never read")
    code = "U" if found.kind == "U" and found.itemsize else f"{found.kind}{found.itemsize}"
    if code not in allowed or found.fields or found.subdtype:
        raise FormatError(f"expected dtype {', '.join(allowed)}, got {found.str!r:.40}")
    return np.dtype(ml_dtypes.bfloat16) if code == "V2" else found
