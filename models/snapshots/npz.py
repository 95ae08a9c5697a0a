"""A snapshot from an untrusted `.npz` file: a zip archive of `.npy` arrays, as `numpy.savez` writes it.

The standard library's `zipfile` reads the archive. The size of its directory is bounded before that; every member is
checked before one is inflated; see `docs/formats.md`. It knows nothing of how the parts become a snapshot.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import numpy as np

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.files import open_regular
from breadcrumbs.models.snapshots import npy
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
    "dataset": TEXT,
    "lineage": TEXT,
}
"""The arrays that may be there, each with the dtypes it may have."""

SCALARS = ("format", "backbone", "epoch", "created", "dataset", "lineage")
SCALAR_LIMIT = 16_384
"""Bytes of a scalar's member."""
CLASSES_LIMIT = 64 * 2**20
"""Bytes of the member `classes`: numpy gives every name the room of the longest."""
LIMITS = dict.fromkeys(SCALARS, SCALAR_LIMIT) | {"classes": CLASSES_LIMIT}
RATIO = 200
"""Inflated bytes of the whole archive over its own, at most."""
FREE = 16 * 2**20
"""Inflated bytes that are exempt from the ratio: sorted labels alone shrink a thousandfold."""
DIRECTORY_LIMIT = 65_536
"""Bytes of the archive's directory, of which `zipfile` makes one object for each entry."""

_LISTED = ", ".join(f"{name}.npy" for name in KNOWN)
_ENCRYPTED = 0x2041  # bits 0, 6 and 13 of the flags: encrypted, strongly, or with its directory
_LOCAL_HEADER = 30  # bytes, without the name
_DAMAGE = (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, OverflowError, struct.error, zlib.error)
"""What `zipfile` raises for a damaged archive; NotImplementedError is a RuntimeError."""


def read(path: Path, limit: int) -> Parts:
    """Read the parts of a snapshot; large arrays are mapped from nameless files.

    Args:
        path: the file.
        limit: bytes that its arrays may take together, inflated.

    Raises:
        FormatError: naming the defect.
        FileTooLarge: over `limit`, or over the ratio that inflating may have.
    """
    with open_regular(path) as file, _opened(file) as archive:
        size = path.stat().st_size
        members = _members(archive.infolist(), archive.comment, size)
        _check_sizes(members, size, limit)
        arrays = {name: _array(archive, member, name, limit) for name, member in members.items()}
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


class _Directory:
    """A file as `zipfile` reads the directory from it: no read of more than the limit."""

    def __init__(self, file: BufferedReader) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, size: int = -1) -> bytes:
        if size > DIRECTORY_LIMIT:
            raise FormatError(f"zip directory of {size} bytes; the limit is {DIRECTORY_LIMIT}")
        return self._read(size)  # without a size, the end of the file: at most a comment and its header


def _opened(file: BufferedReader) -> ZipFile:
    try:
        archive = ZipFile(_Directory(file))  # seek, tell and read are all that it calls
    except _DAMAGE as error:
        raise FormatError(f"damaged zip archive: {error}"[:200]) from error
    archive.fp = file  # members are read in pieces of bounded size
    return archive


def _members(entries: Sequence[ZipInfo], comment: bytes, size: int) -> dict[str, ZipInfo]:
    """The archive's members by the name of their array."""
    if comment:
        raise FormatError("zip archive does not end with its directory: expected no comment")
    if len(entries) > len(KNOWN):
        raise FormatError(f"zip archive of {len(entries)} members; expected at most {len(KNOWN)}: {_LISTED}")
    found: dict[str, ZipInfo] = {}
    for entry in entries:
        # `filename` is cut at a NUL byte; `orig_filename` is the whole name.
        label, name = entry.orig_filename, entry.orig_filename.removesuffix(".npy")
        if name not in KNOWN or label == name:
            raise FormatError(f"unexpected zip member {label!r:.80}; expected only {_LISTED}")
        if name in found:
            raise FormatError(f"zip archive names '{label}' twice")
        if entry.flag_bits & _ENCRYPTED:
            raise FormatError(f"zip member '{label}' is encrypted")
        if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise FormatError(
                f"zip member '{label}': compression method {entry.compress_type}; expected 0 (stored) or 8 (deflated)"
            )
        found[name] = entry
    end = 0
    for entry in sorted(found.values(), key=lambda one: one.header_offset):
        if entry.header_offset < end:
            raise FormatError(f"zip member '{entry.filename}' begins inside the one before it, or before the archive")
        end = entry.header_offset + _LOCAL_HEADER + len(entry.filename) + entry.compress_size
        if end > size:
            raise FormatError(f"zip member '{entry.filename}' is cut off")
    return found


def _check_sizes(members: dict[str, ZipInfo], size: int, limit: int) -> None:
    total = sum(member.file_size for member in members.values())
    if total > limit:
        raise FileTooLarge(f"zip members of {total} bytes inflated; the limit is {limit}")
    if total > max(FREE, RATIO * size):
        raise FileTooLarge(f"zip archive of {size} bytes would inflate to {total}; the limit is {RATIO} to 1")
    for name, member in members.items():
        if member.file_size > LIMITS.get(name, limit):
            raise FileTooLarge(
                f"zip member '{name}.npy' of {member.file_size} bytes; the limit is {LIMITS.get(name, limit)}"
            )


def _array(archive: ZipFile, member: ZipInfo, name: str, limit: int) -> Array:
    try:
        with archive.open(member) as source:
            return npy.read(source, member.file_size, KNOWN[name], limit)
    except FileTooLarge:
        raise
    except FormatError as error:
        raise FormatError(f"array '{name}': {error}") from error
    except _DAMAGE as error:
        raise FormatError(f"array '{name}': damaged zip member: {error}"[:200]) from error


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
