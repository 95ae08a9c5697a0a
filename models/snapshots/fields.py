"""The parts of a snapshot in another format, made into a `Snapshot`.

Other formats leave things open: labels may be names, a key may be missing, floats may be wider than ours. What
each of these means is decided here for all formats. It knows nothing of files.

Letters: N rows, D feature dimensions, C classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import UNLABELLED, Integers, Snapshot, rows_told
from breadcrumbs.models.spool import Array, FileTooLarge, chunks, converted

CLASS_LIMIT = 100_000
"""The most classes: their names must fit into the safetensors header."""

_STORED = (np.dtype("<f4"), np.dtype("<f2"), np.dtype(ml_dtypes.bfloat16))
_WHAT = {
    "backbone": "the sha256 of the backbone that made the features, 64 hex digits",
    "epoch": "a whole number, larger is newer",
    "classes": "the C class names in the order of the labels",
}
NAMELESS = ""  # the label of a row without one, where labels are names


@dataclass(frozen=True)
class Given:
    """The caller's values for what the file leaves out; the file's own values take precedence."""

    backbone: str | None = None
    epoch: int | None = None
    classes: tuple[str, ...] | None = None
    dataset: str | None = None


@dataclass(frozen=True, eq=False)
class Parts:
    """What a reader found in a file.

    Attributes:
        features: floats (N, D).
        labels: integers (N,).
        names: the names that the labels index; None means that the file's labels are numbers.
        ids, weight, bias: as in `Snapshot`, of any integer or float type; None if absent.
        says: the metadata `format`, `backbone`, `epoch`, `created`, `dataset` and `lineage`, those that are there.
        classes: the class names; None if absent.
    """

    features: Array
    labels: Array
    names: tuple[str, ...] | None = None
    ids: Array | None = None
    weight: Array | None = None
    bias: Array | None = None
    says: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None


def complete(parts: Parts, given: Given, limit: int) -> tuple[Snapshot, tuple[str, ...]]:
    """Make a snapshot of the parts; checks that need no conversion come first.

    Args:
        parts: what a reader found.
        given: values for what the file leaves out.
        limit: bytes that the snapshot may take.

    Returns:
        The snapshot, not yet checked as a whole, and what was changed on the way, in words.

    Raises:
        FormatError: naming what is missing or cannot be converted.
        FileTooLarge: it would take more than `limit` bytes.
    """
    told: list[str] = []
    if parts.says.get("format", snapshots.FORMAT) != snapshots.FORMAT:
        raise FormatError(f"expected format {snapshots.FORMAT}, got {parts.says['format']!r:.80}")
    backbone = parts.says.get("backbone") or _given("backbone", given.backbone, told)
    epoch = snapshots.parse_epoch(parts.says.get("epoch") or str(_given("epoch", given.epoch, told)))
    classes, place = _classes(parts, given, told)
    _check_size(parts, limit)
    labels = _integers("labels", parts.labels, told)
    if place is not None:
        labels = _mapped(labels, place)
    snapshot = Snapshot(
        features=_floats("features", parts.features, told),
        labels=labels,
        classes=classes,
        backbone=backbone,
        epoch=epoch,
        ids=None if parts.ids is None else _integers("ids", parts.ids, told),
        weight=None if parts.weight is None else _floats("weight", parts.weight, told),
        bias=None if parts.bias is None else _floats("bias", parts.bias, told),
        created=parts.says.get("created", ""),
        dataset=parts.says.get("dataset") or _set_given(given, told),
        lineage=parts.says.get("lineage", ""),
    )
    return snapshot, tuple(told)


def encoded(pieces: Iterable[Sequence[str]]) -> tuple[Integers, tuple[str, ...]]:
    """Return names as indices (N,) of a list in order of first appearance, and that list.

    Raises:
        FormatError: more than `CLASS_LIMIT` names.
    """
    place: dict[str, int] = {}
    found = [np.zeros(0, np.int64)]
    for piece in pieces:
        found.append(np.array([place.setdefault(name, len(place)) for name in piece], np.int64))
        if len(place) > CLASS_LIMIT:
            raise FormatError(f"labels: more than {CLASS_LIMIT} different names, which is the limit")
    return np.concatenate(found), tuple(place)


def _given(key: str, value: Any, told: list[str]) -> Any:
    if value is None:
        raise FormatError(
            f"the file does not say '{key}' ({_WHAT[key]}), and none was given; write it there or give it"
        )
    told.append(f"{key}: as given")
    return value


def _set_given(given: Given, told: list[str]) -> str:
    """The data set of the ids, which a file may leave out."""
    if given.dataset:
        told.append("dataset: as given")
    return given.dataset or ""


def _classes(parts: Parts, given: Given, told: list[str]) -> tuple[tuple[str, ...], NDArray[np.int64] | None]:
    """The classes, and for labels that are names the class index of each name."""
    if parts.names is None:
        return parts.classes or _given("classes", given.classes, told), None
    if parts.classes is not None:
        classes = parts.classes
    elif given.classes is not None:
        classes = given.classes
        told.append("classes: as given")
    else:
        classes = tuple(sorted(set(parts.names) - {NAMELESS}))
        told.append(f"classes: the {len(classes)} names of the labels, sorted")
    index = {NAMELESS: UNLABELLED} | {name: i for i, name in enumerate(classes)}
    unknown = [name for name in parts.names if name not in index]
    if unknown:
        listed = ", ".join(f"{name:.40}" for name in unknown[:5])
        raise FormatError(f"labels: {len(unknown)} names that are not among the {len(classes)} classes: {listed}")
    told.append("labels: names to indices")
    return classes, np.array([index[name] for name in parts.names], np.int64)


def _check_size(parts: Parts, limit: int) -> None:
    if len(parts.classes or ()) > CLASS_LIMIT:
        raise FormatError(f"classes: {len(parts.classes or ())} names; the limit is {CLASS_LIMIT}")
    width = 4 if parts.features.itemsize > 2 else 2
    size = parts.features.size * width + 8 * parts.labels.size
    size += sum(8 * array.size for array in (parts.ids, parts.weight, parts.bias) if array is not None)
    if size > limit:
        raise FileTooLarge(f"{parts.features.shape} features and {parts.labels.size} labels take {size} bytes; "
                           f"the limit is {limit}")  # fmt: skip


def _floats(name: str, array: Array, told: list[str]) -> Array:
    """F32, F16 or BF16, row-major and little-endian."""
    dtype = array.dtype if array.dtype.kind == "V" else array.dtype.newbyteorder("<")
    wanted = dtype if dtype in _STORED else _STORED[0]
    if array.dtype == wanted:
        return converted(array, wanted)
    narrow = converted(array, wanted)
    told.append(f"{name}: {_told(array.dtype)} to {_told(wanted)}")
    if dtype != wanted and array.ndim == 2:
        rows, start = [], 0
        for wide in chunks(array):
            thin = narrow[start : start + len(wide)]
            rows.append(start + np.flatnonzero((np.isfinite(wide) & ~np.isfinite(thin)).any(1)))
            start += len(wide)
        beyond = np.concatenate(rows or [np.zeros(0, np.int64)])
        if len(beyond):
            raise FormatError(f"{name}: {len(beyond)} rows have values beyond {_told(wanted)}: {rows_told(beyond)}")
    return narrow


def _integers(name: str, array: Array, told: list[str]) -> Integers:
    """I64, in memory."""
    if array.dtype.kind == "u" and array.dtype.itemsize == 8 and array.size and array.max() >= 2**63:
        raise FormatError(f"{name}: {int(array.max())} does not fit int64")
    if array.dtype != np.dtype("<i8"):
        told.append(f"{name}: {_told(array.dtype)} to int64")
    return np.array(array, np.int64, order="C")


def _mapped(labels: Integers, place: NDArray[np.int64]) -> Integers:
    return place[labels] if len(labels) else labels


def _told(dtype: np.dtype[Any]) -> str:
    """A dtype in words, with its byte order if that is big-endian."""
    big = dtype.byteorder == ">"
    return f"{'big-endian ' if big else ''}{dtype.name}"
