"""Reading and writing safetensors files whose contents are not trusted.

The header is parsed here, not by the library, because the library accepts what must be refused: a name
twice, header space for hundreds of thousands of empty tensors, offsets that overlap. What passes is mapped into
memory, never copied. It knows nothing of snapshots or heads.

Format: 8 bytes little-endian header length, the header as JSON, then the tensors' bytes without gaps.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.files import open_regular
from breadcrumbs.models.spool import chunks

HEADER_LIMIT = 4 * 2**20
"""Bytes. The class names live in the header: 4 MiB is room for about 100,000 of them."""

DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
}

_NAMES = {dtype: name for name, dtype in DTYPES.items()}

Tensor = NDArray[Any]
Extent = tuple[np.dtype[Any], tuple[int, ...], int, int]
"""A tensor's type and shape, and where it begins and ends among the tensors' bytes."""


def encode(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a safetensors file: the same bytes for the same contents, as content addressing needs.

    Raises:
        FormatError: the header would be longer than a reader accepts.
    """
    return b"".join(_pieces(tensors, metadata))


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file piece by piece, so that mapped tensors are never in memory whole; raises as `encode`."""
    with path.open("wb") as file:
        file.writelines(_pieces(tensors, metadata))
        file.flush()
        os.fsync(file.fileno())


def _pieces(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[bytes]:
    """The header, then the tensors some rows at a time.

    The library writes metadata in an order that changes from process to process, so the header is written here:
    metadata by name, tensors by width then name, padded with spaces so that every tensor lies as its type needs.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0]))
    end = 0
    for name, array in ordered:
        entry = {"dtype": _NAMES[array.dtype], "shape": array.shape, "data_offsets": (end, end + array.nbytes)}
        header[name] = entry
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT:
        raise FormatError(f"safetensors header would have {len(text)} bytes; the limit is {HEADER_LIMIT}")
    yield len(text).to_bytes(8, "little") + text
    for _, array in ordered:
        for part in chunks(array):
            yield np.ascontiguousarray(part).tobytes()


def read(path: Path, known: Mapping[str, tuple[str, ...]]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Map a safetensors file into memory, after checking all of its header.

    Args:
        path: the file.
        known: the tensor names that may occur, each with the safetensors dtypes it may have.

    Returns:
        The tensors, read-only, by name; and the metadata, strings by strings.

    Raises:
        FormatError: naming the defect: what was expected and what came.
    """
    with open_regular(path) as file:
        start, extents, metadata = _layout(file, os.fstat(file.fileno()).st_size, known)
    return {name: _map(path, start, *extent) for name, extent in extents.items()}, metadata


def decode(data: bytes, known: Mapping[str, tuple[str, ...]]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file that is in memory, as `read` does."""
    start, extents, metadata = _layout(io.BytesIO(data), len(data), known)
    tensors = {
        name: np.frombuffer(data[start + begin : start + end], dtype).reshape(shape)
        for name, (dtype, shape, begin, end) in extents.items()
    }
    return tensors, metadata


def _layout(
    file: IO[bytes], size: int, known: Mapping[str, tuple[str, ...]]
) -> tuple[int, dict[str, Extent], dict[str, str]]:
    """Where the tensors begin, what and where each of them is, and the metadata: all of the header, checked."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise FormatError(f"not a safetensors file: {size} bytes, header said to have {length}")
    if length > HEADER_LIMIT:
        raise FormatError(f"safetensors header has {length} bytes; the limit is {HEADER_LIMIT}")
    header = _parse(file.read(length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FormatError("safetensors metadata: expected strings by name")
    extents = {name: _extent(name, entry, known) for name, entry in header.items()}
    _check_layout(extents, size - 8 - length)
    return 8 + length, extents, metadata


def _parse(raw: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise FormatError(f"safetensors header names '{twice}' twice")
        return dict(pairs)

    try:
        header = json.loads(raw, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"safetensors header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise FormatError(f"safetensors header: expected an object, got {type(header).__name__}")
    return header


def _extent(name: str, entry: object, known: Mapping[str, tuple[str, ...]]) -> Extent:
    if name not in known:
        raise FormatError(f"unexpected tensor '{name[:80]}'; expected only {', '.join(known)}")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"tensor '{name}': expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in known[name]:
        raise FormatError(f"tensor '{name}': expected dtype {' or '.join(known[name])}, got {dtype!r:.40}")
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2 or len(shape) > 8:
        raise FormatError(f"tensor '{name}': shape and data_offsets must be whole numbers, not negative")
    count = 1
    for side in shape:
        count *= side
    if count * DTYPES[dtype].itemsize != offsets[1] - offsets[0]:
        raise FormatError(f"tensor '{name}': shape {shape} of {dtype} does not fill data_offsets {offsets}")
    return DTYPES[dtype], tuple(shape), offsets[0], offsets[1]


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**62 for item in value)


def _check_layout(extents: Mapping[str, Extent], size: int) -> None:
    end = 0
    for name, (_, _, begin, stop) in sorted(extents.items(), key=lambda item: item[1][2:]):
        if begin != end:
            raise FormatError(f"tensor '{name}' begins at byte {begin}; expected {end} (a gap, or an overlap)")
        end = stop
    if end != size:
        raise FormatError(f"the tensors end at byte {end}; the file holds {size} bytes of data")


def _map(path: Path, start: int, dtype: np.dtype[Any], shape: tuple[int, ...], begin: int, end: int) -> Tensor:
    if begin == end:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", start + begin, shape)
