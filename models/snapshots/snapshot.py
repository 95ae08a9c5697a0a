"""Feature snapshots on disk: writing, reading, and every check that can be made without the model.

A snapshot Z^e holds the features of labelled images at epoch *e* (or at any later look at them). The file is
safetensors, as `docs/formats.md` specifies. It knows nothing of EMANATE, bundles or HTTP.

Letters: N rows, D feature dimensions, C classes.
"""

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models import safetensor
from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.files import write_whole
from breadcrumbs.models.head import HeadError, check_classes, parse_classes

FORMAT = "breadcrumbs.snapshot/1"
UNLABELLED = -1  # the label of a row without one
MAPPED = "mapped"  # the lineage of rows that the backbone never made: a map from another backbone's
CHUNK = 65_536  # rows read at a time, so that a large file is never in memory whole

_KNOWN: dict[str, tuple[str, ...]] = {
    "features": ("F32", "F16", "BF16"),
    "labels": ("I64",),
    "ids": ("I64",),
    "weight": ("F32", "F16", "BF16"),
    "bias": ("F32", "F16", "BF16"),
}

Features = NDArray[Any]  # f32, f16 or bf16, as stored
Integers = NDArray[np.int64]


class SnapshotError(FormatError):
    """A snapshot that is damaged, or whose parts do not fit together."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The features of a set of images, computed at one time.

    Attributes:
        features: f32, f16 or bf16 (N, D).
        labels: i64 (N,), each an index into `classes`, or −1 for a row without a label.
        classes: C names.
        backbone: sha256 in hex of the `backbone.onnx`, or of the checkpoint's weights, that made the features.
        epoch: 1 is the first epoch of training; larger is newer.
        ids: i64 (N,), equal for equal images in every snapshot of one data set; None if absent.
        weight, bias: (C, D) and (C,), the classifier of that epoch; None if absent.
        created: ISO 8601.
        dataset: sha256 in hex of the set of images that the ids number, within which they match; empty if unknown.
        lineage: `mapped` if the rows are another backbone's, brought here by a map; empty if the backbone made them.
    """

    features: Features
    labels: Integers
    classes: tuple[str, ...]
    backbone: str
    epoch: int
    ids: Integers | None = None
    weight: Features | None = None
    bias: Features | None = None
    created: str = ""
    dataset: str = ""
    lineage: str = ""

    @property
    def feature_dim(self) -> int:
        """D."""
        return int(self.features.shape[1])

    def counts(self) -> Integers:
        """Rows of each class, i64 (C,); rows without a label do not count."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes)).astype(np.int64)

    def take(self, rows: NDArray[Any]) -> "Snapshot":
        """The same snapshot with some of its rows; `rows` are indices or a mask (N,)."""
        ids = None if self.ids is None else self.ids[rows]
        return replace(self, features=self.features[rows], labels=self.labels[rows], ids=ids)


def to_bytes(snapshot: Snapshot) -> bytes:
    """Return the snapshot as the bytes of its file, after the same checks as on reading."""
    check(snapshot)
    arrays, metadata = _parts(snapshot)
    return safetensor.encode(arrays, {"created": datetime.now(UTC).isoformat(timespec="seconds")} | metadata)


def save(path: Path, snapshot: Snapshot) -> None:
    """Write a checked snapshot piece by piece, as it is: the same one gives the same bytes at any time.

    Unlike `write` it neither checks nor replaces a file in one step, and a `created` that is empty stays out.
    """
    safetensor.save(path, *_parts(snapshot))


def _parts(snapshot: Snapshot) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    arrays: dict[str, NDArray[Any]] = {"features": snapshot.features, "labels": snapshot.labels}
    for name in ("ids", "weight", "bias"):
        array = getattr(snapshot, name)
        if array is not None:
            arrays[name] = array
    metadata = {
        "format": FORMAT,
        "backbone": snapshot.backbone,
        "epoch": str(snapshot.epoch),
        "classes": json.dumps(snapshot.classes),
    }
    known = {"created": snapshot.created, "dataset": snapshot.dataset, "lineage": snapshot.lineage}
    return arrays, metadata | {key: value for key, value in known.items() if value}


def write(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot; the file is whole or absent."""
    write_whole(path, to_bytes(snapshot))


def read(path: Path) -> Snapshot:
    """Read and check a snapshot; the features stay on disk, mapped.

    Raises:
        SnapshotError: naming the defect, what was expected and what came.
    """
    try:
        arrays, metadata = safetensor.read(path, _KNOWN)
        if metadata.get("format") != FORMAT:
            raise FormatError(f"expected format {FORMAT}, got {metadata.get('format')!r:.80}")
        for name in ("features", "labels"):
            if name not in arrays:
                raise FormatError(f"tensor '{name}' is missing")
        snapshot = Snapshot(
            features=arrays["features"],
            labels=np.array(arrays["labels"], np.int64),
            classes=parse_classes(metadata),
            backbone=metadata.get("backbone", ""),
            epoch=parse_epoch(metadata.get("epoch", "")),
            ids=np.array(arrays["ids"], np.int64) if "ids" in arrays else None,
            weight=arrays.get("weight"),
            bias=arrays.get("bias"),
            created=metadata.get("created", ""),
            dataset=metadata.get("dataset", ""),
            lineage=metadata.get("lineage", ""),
        )
    except FormatError as error:
        raise SnapshotError(f"{path.name}: {error}") from error
    check(snapshot, path.name)
    return snapshot


def parse_epoch(text: str) -> int:
    """Parse the epoch in a file's metadata.

    Raises:
        FormatError: it is no whole number of 1 to 9 digits.
    """
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise FormatError(f"metadata 'epoch': expected a whole number, got {text!r:.40}")
    return int(text)


def check(snapshot: Snapshot, name: str = "snapshot") -> None:
    """Check that the parts fit together and that every number is finite.

    Raises:
        SnapshotError: naming the first defect.
    """
    for defect in (_shape_defect, _origin_defect, _label_defect, _classifier_defect, _value_defect):
        message = defect(snapshot)
        if message:
            raise SnapshotError(f"{name}: {message}")


def _shape_defect(s: Snapshot) -> str | None:
    if s.features.ndim != 2 or s.features.shape[0] == 0 or s.features.shape[1] == 0:
        return f"features: expected shape (N, D) with N, D at least 1, got {s.features.shape}"
    if s.labels.shape != (len(s.features),):
        return f"labels: expected shape ({len(s.features)},), got {s.labels.shape}"
    if s.ids is not None and s.ids.shape != s.labels.shape:
        return f"ids: expected shape {s.labels.shape}, got {s.ids.shape}"
    if s.ids is not None and len(np.unique(s.ids)) < len(s.ids):
        return "ids: an id occurs twice"
    return None


def _origin_defect(s: Snapshot) -> str | None:
    if not re.fullmatch(r"[0-9a-f]{64}", s.backbone):
        return f"metadata 'backbone': expected a sha256 of 64 hex digits, got {s.backbone!r:.80}"
    if not re.fullmatch(r"([0-9a-f]{64})?", s.dataset):
        return f"metadata 'dataset': expected a sha256 of 64 hex digits, or none, got {s.dataset!r:.80}"
    if s.lineage not in ("", MAPPED):
        return f"metadata 'lineage': expected {MAPPED}, or none, got {s.lineage!r:.80}"
    return None


def _label_defect(s: Snapshot) -> str | None:
    try:
        check_classes(s.classes)
    except HeadError as error:
        return str(error)
    outside = (s.labels < UNLABELLED) | (s.labels >= len(s.classes))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        return (
            f"labels: {int(outside.sum())} outside 0 … {len(s.classes) - 1}, or −1 for none; the first is "
            f"{int(s.labels[row])} in row {row}"
        )
    return None


def _classifier_defect(s: Snapshot) -> str | None:
    if (s.weight is None) != (s.bias is None):
        return "weight and bias: expected both or neither"
    expected = (len(s.classes), s.features.shape[1])
    if s.weight is not None and s.bias is not None:
        if s.weight.shape != expected or s.bias.shape != expected[:1]:
            return f"weight, bias: expected shapes {expected}, {expected[:1]}, got {s.weight.shape}, {s.bias.shape}"
        if not (np.isfinite(s.weight).all() and np.isfinite(s.bias).all()):
            return "weight or bias has values that are not finite"
    return None


def _value_defect(s: Snapshot) -> str | None:
    step = max(1, min(CHUNK, 2**24 // s.features.shape[1]))
    bad = [
        start + np.flatnonzero(~np.isfinite(s.features[start : start + step]).all(1))
        for start in range(0, len(s.features), step)
    ]
    rows = np.concatenate(bad)
    if len(rows):
        return f"features: {len(rows)} of {len(s.features)} rows have values that are not finite: {rows_told(rows)}"
    return None


def rows_told(rows: NDArray[Any]) -> str:
    """Format row numbers, the first five of them."""
    first = ", ".join(str(int(row)) for row in rows[:5])
    return f"row{'s' if len(rows) > 1 else ''} {first}{', …' if len(rows) > 5 else ''}"
