"""A snapshot from an `.npz` file that is not trusted: a zip archive of `.npy` arrays, as `numpy.savez` writes it.

The archive's directory is checked whole before a byte is inflated, each array's header before its data; see
`docs/formats.md`. numpy's loader is not used. It knows nothing of how the parts become a snapshot.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.files import open_regular
from breadcrumbs.models.snapshots import archive, npy
from breadcrumbs.models.snapshots.archive import Member
from breadcrumbs.models.snapshots.fields import Parts, encoded
from breadcrumbs.models.snapshots.npy import FLOATS, INTEGERS, TEXT
from breadcrumbs.models.spool import Array, FileTooLarge, chunks

KNOWN: dict[str, tuple[str, ...]] = {
    "features": FLOATS,
    "labels": INTEGERS + TEXT,
    "ids": INTEGERS,
    "weight": FLOATS,
    "bias": FLOATS,
    "classes": TEXT,
    "format": TEXT,
    "backbone": TEXT,
    "epoch": INTEGERS + TEXT,
    "created": TEXT,
}
"""The arrays that may be there, each with the dtypes it may have."""

SCALARS = ("format", "backbone", "epoch", "created")
SCALAR_LIMIT = 16_384
"""Bytes of a scalar's member."""
CLASSES_LIMIT = 64 * 2**20
"""Bytes of the member `classes`: numpy gives every name the room of the longest."""


def read(path: Path, limit: int) -> Parts:
    """Read the parts of a snapshot; large arrays are mapped from nameless files.

    Args:
        path: the file.
        limit: bytes that its arrays may take together, inflated.

    Raises:
        FormatError: naming the defect.
        FileTooLarge: over `limit`, or over the ratio that inflating may have.
    """
    with open_regular(path) as file:
        found = archive.members(file, [f"{name}.npy" for name in KNOWN], limit)
        for member in found.values():
            _check_small(member)
        arrays = {member.name[:-4]: _array(file, member, limit) for member in found.values()}
    for name in ("features", "labels"):
        if name not in arrays:
            raise FormatError(f"array '{name}' is missing")
    labels, names = arrays["labels"], None
    if labels.dtype.kind == "U":
        labels, names = encoded(_names("labels", labels))
    classes = arrays.get("classes")
    return Parts(
        features=arrays["features"],
        labels=labels,
        names=names,
        ids=arrays.get("ids"),
        weight=arrays.get("weight"),
        bias=arrays.get("bias"),
        says={name: _scalar(name, arrays[name]) for name in SCALARS if name in arrays},
        classes=None if classes is None else tuple(name for part in _names("classes", classes) for name in part),
    )


def _check_small(member: Member) -> None:
    limits = {"classes.npy": CLASSES_LIMIT} | {f"{name}.npy": SCALAR_LIMIT for name in SCALARS}
    limit = limits.get(member.name, member.size)
    if member.size > limit:
        raise FileTooLarge(f"zip member '{member.name}' of {member.size} bytes; the limit is {limit}")


def _array(file: BinaryIO, member: Member, limit: int) -> Array:
    name = member.name[:-4]
    try:
        return npy.read(archive.pieces(file, member), member.size, KNOWN[name], limit)
    except FileTooLarge:
        raise
    except FormatError as error:
        raise FormatError(f"array '{name}': {error}") from error


def _names(name: str, array: Array) -> Iterator[list[str]]:
    """The text of an array (N,), some rows together."""
    if array.ndim != 1:
        raise FormatError(f"array '{name}': expected shape (N,), got {array.shape}")
    for part in chunks(array):
        yield _text(name, part)


def _scalar(name: str, array: Array) -> str:
    if array.shape != ():
        raise FormatError(f"array '{name}': expected a scalar, of shape (), got {array.shape}")
    if array.dtype.kind == "U":
        return _text(name, array.reshape(1))[0]
    return str(array[()])


def _text(name: str, array: Array) -> list[str]:
    """The text of an array (N,), after its code points were looked at: numpy trusts them."""
    points = np.ascontiguousarray(array).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    if ((points > 0x10FFFF) | ((points >= 0xD800) & (points <= 0xDFFF))).any():
        raise FormatError(f"array '{name}': text that is no Unicode")
    found: list[str] = array.tolist()
    return found
