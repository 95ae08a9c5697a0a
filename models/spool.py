"""Arrays in nameless files on disk: what a reader inflates or converts is written to a nameless file and mapped.

So a large upload takes disk, not memory, and leaves nothing behind when the array is gone. Bytes are written, not
mapped, so that a full disk is an error and not a signal. It knows nothing of file formats.

Letters: N rows.
"""

import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.errors import FormatError

PIECE = 2**20
"""Bytes handled at a time, approximately."""

Array = NDArray[Any]


class FileTooLarge(FormatError):
    """A file whose contents take more bytes than a named limit."""


def spool(pieces: Iterable[bytes], dtype: np.dtype[Any], limit: int) -> Array:
    """Write bytes to a nameless file as they come and map them, read-only, as a flat array.

    Raises:
        FileTooLarge: more than `limit` bytes came.
        FormatError: the bytes end within an element.
    """
    size = 0
    with tempfile.TemporaryFile(prefix="breadcrumbs-") as file:
        for piece in pieces:
            size += len(piece)
            if size > limit:
                raise FileTooLarge(f"contents of more than {limit} bytes, which is the limit")
            file.write(piece)
        file.flush()
        if size % dtype.itemsize:
            raise FormatError(f"{size} bytes do not make elements of {dtype.itemsize}")
        return np.memmap(file, dtype, "r") if size else np.zeros(0, dtype)


def converted(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array as row-major `dtype`: unchanged if it is one, else as a mapped copy made a few rows at a time.

    A float that the new type cannot hold becomes infinite; integers must fit.
    """
    if array.dtype == dtype and array.flags.c_contiguous:
        return array
    if array.ndim == 0 or array.size == 0:
        return np.array(array, dtype)
    size = array.size * dtype.itemsize
    return spool(_rows(array, dtype), dtype, size).reshape(array.shape)


def _rows(array: Array, dtype: np.dtype[Any]) -> Iterator[bytes]:
    for part in chunks(array):
        with np.errstate(over="ignore"):
            yield np.ascontiguousarray(part, dtype).tobytes()


def chunks(array: Array) -> Iterator[Array]:
    """Yield the rows (N, …) in order, in chunks of about `PIECE` bytes."""
    step = max(1, PIECE // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        yield array[start : start + step]
