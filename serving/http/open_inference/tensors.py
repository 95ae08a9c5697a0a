"""Tensors of the Open Inference Protocol: declared, and to and from JSON and raw bytes.

Only the types that the models here take are read: UINT8 for pixels, FP32 for features, BYTES for image files. Numbers
go out as FP32. It knows nothing of requests, HTTP or models.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.serving.http.base64_text import from_base64
from breadcrumbs.serving.refusals import Refused, TooLarge

DATATYPES = frozenset(
    {"BOOL", "BYTES", "BF16", "FP16", "FP32", "FP64"}
    | {f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)}
)
"""Those of the protocol."""

Bytes = NDArray[np.uint8]
Numbers = Bytes | Floats
NUMBERS: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}
"""The types of elements that are numbers."""


class Malformed(Refused):
    """A request that is not what the Open Inference Protocol says."""


@dataclass(frozen=True)
class Declared:
    """A tensor of a model, as its metadata shows it.

    Attributes:
        name: of the tensor.
        datatype: of its elements.
        shape: −1 for what is free.
    """

    name: str
    datatype: Literal["UINT8", "BYTES", "FP32"]
    shape: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """As in the model's metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def check(self, datatype: str, shape: Sequence[int]) -> int:
        """Return the number of elements of a tensor that came.

        Raises:
            Malformed: its type or shape is not the declared one.
        """
        if datatype not in DATATYPES:
            raise Malformed(f"input '{self.name}': datatype {datatype!r:.40} is none of {', '.join(sorted(DATATYPES))}")
        if datatype != self.datatype:
            raise Malformed(f"input '{self.name}': expected datatype {self.datatype}, got {datatype}")
        came = list(shape)
        if self.datatype == "BYTES":  # clients write a column of N elements as [N, 1]
            came = came[:1] if all(size == 1 for size in came[1:]) else came
        if len(came) != len(self.shape) or not all(
            size >= 0 if wanted < 0 else size == wanted for size, wanted in zip(came, self.shape, strict=True)
        ):
            raise Malformed(f"input '{self.name}': expected shape {list(self.shape)}, got {list(shape)!s:.80}")
        if 0 in came:
            raise Malformed(f"input '{self.name}': expected at least one {self.one}, got shape {list(shape)!s:.80}")
        return math.prod(came)

    @property
    def one(self) -> str:
        """What a row is of."""
        return "feature" if self.datatype == "FP32" else "image"

    def size(self, count: int) -> int:
        """Return the bytes of so many elements, which are numbers."""
        return count * NUMBERS[self.datatype].itemsize

    def from_bytes(self, data: memoryview, shape: Sequence[int]) -> Numbers:
        """Read elements that are numbers; no copy is made. The size has been checked.

        Raises:
            Malformed: a number is not finite.
        """
        return _finite(self.name, np.frombuffer(data, NUMBERS[self.datatype]).reshape(shape))

    def from_json(self, data: list[Any], shape: Sequence[int]) -> Numbers:
        """Read elements that are numbers from JSON, nested or flat.

        Raises:
            Malformed: not as many numbers as the shape says, or not of the type.
        """
        if self.datatype == "UINT8":
            return pixels_from_json(self.name, data, shape)
        return features_from_json(self.name, data, shape)


def _finite(name: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise Malformed(f"input '{name}': expected finite numbers, got {bad} of {values.size} that are not")
    return values


def features_from_json(name: str, data: list[Any], shape: Sequence[int]) -> Floats:
    """Read FP32 elements from JSON, nested or flat.

    Raises:
        Malformed: not as many finite numbers as the shape says.
    """
    found = _elements(name, data, shape, {int, float}, "numbers")
    try:
        with np.errstate(over="ignore"):
            values = found.astype(np.float64).astype(np.float32)
    except OverflowError as error:
        raise Malformed(f"input '{name}': expected numbers of FP32, got a larger one") from error
    return _finite(name, values)


def pixels_from_json(name: str, data: list[Any], shape: Sequence[int]) -> Bytes:
    """Read UINT8 elements from JSON, nested or flat.

    Raises:
        Malformed: not as many integers of 0 … 255 as the shape says.
    """
    found = _elements(name, data, shape, {int}, "integers of 0 … 255")
    least, most = found.min(), found.max()
    if least < 0 or most > 255:
        raise Malformed(f"input '{name}': expected integers of 0 … 255, got {least!s:.40} … {most!s:.40}")
    return found.astype(np.uint8)


def _elements(name: str, data: list[Any], shape: Sequence[int], types: set[type], words: str) -> NDArray[Any]:
    """Elements as JSON has them, each of one of the types, in a shape that they fill.

    They stay Python's objects until their types are known: numpy makes all texts as wide as the longest.
    """
    try:
        flat = np.array(data, object).ravel()
    except ValueError as error:
        raise Malformed(f"input '{name}': data is no regular array: {error!s:.200}") from error
    strange = set(map(type, flat)) - types
    if list in strange:
        raise Malformed(f"input '{name}': data is no regular array; expected lists of one length at each depth")
    if strange:
        first = next(item for item in flat if type(item) in strange)
        raise Malformed(f"input '{name}': expected {words}, got {first!r:.40}")
    if flat.size != math.prod(shape):
        raise Malformed(
            f"input '{name}': expected {math.prod(shape)} elements for shape {list(shape)}, got {flat.size}"
        )
    return flat.reshape(shape)


def elements_from_bytes(name: str, data: memoryview, count: int, most: int) -> list[bytes]:
    """Read BYTES elements: each a length, uint32 little-endian, and as many bytes.

    Raises:
        Malformed: an element ends beyond the data, or data is left over.
        TooLarge: there are more than `most`, of which an empty one has 4 bytes.
    """
    found, place = [], 0
    for number in range(count):
        if number == most:
            raise TooLarge(f"{count} images came; the limit is {most}")
        end = place + 4
        size = int.from_bytes(data[place:end], "little")
        if end > len(data) or end + size > len(data):
            raise Malformed(f"input '{name}': element {number} ends beyond its {len(data)} bytes")
        found.append(bytes(data[end : end + size]))
        place = end + size
    if place != len(data):
        raise Malformed(f"input '{name}': {len(data) - place} unexpected additional bytes after {count} elements")
    return found


def elements_from_json(name: str, data: list[Any], count: int) -> list[bytes]:
    """Read BYTES elements from JSON: strings in base64, nested or flat.

    Raises:
        Malformed: not as many strings as the shape says, or one is no base64.
    """
    flat = list(_flat(data))
    if len(flat) != count or not all(isinstance(item, str) for item in flat):
        raise Malformed(f"input '{name}': expected {count} strings, got {len(flat)} values")
    try:
        return [from_base64(item) for item in flat]
    except ValueError as error:
        raise Malformed(f"input '{name}': expected strings in base64, or binary data: {error}") from error


def _flat(data: list[Any]) -> Any:
    for item in data:
        yield from _flat(item) if isinstance(item, list) else (item,)


def to_bytes(values: Floats | list[list[bytes]]) -> bytes:
    """The raw bytes of FP32 numbers or of BYTES elements."""
    if isinstance(values, list):
        return b"".join(len(item).to_bytes(4, "little") + item for row in values for item in row)
    return np.ascontiguousarray(values, "<f4").tobytes()


def classified(values: Floats, names: Sequence[str], count: int) -> list[list[bytes]]:
    """The classification extension: of each row the largest values, as `value:index:name`."""
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    return [
        [f"{float(row[index]):f}:{index}:{names[index]}".encode() for index in best.tolist()]
        for row, best in zip(values, order, strict=True)
    ]
