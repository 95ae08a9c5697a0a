"""A remembered answer, and the record that it is kept as.

Letters: N answers, D feature dimensions, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.head import RankedClass, ranked_rows, softmax
from breadcrumbs.serving.predict.engine import Scores
from breadcrumbs.serving.state.segment_file import Record

CLASSES = 5
"""Top classes that are kept of an answer."""
Kind = Literal["image", "feature"]


@dataclass(frozen=True, eq=False)
class Origin:
    """Where an answer comes from.

    Attributes:
        kind: whether an image or a feature was sent.
        content: sha256 of it.
        backbone: sha256 of what made the feature.
        owner: name of the key that asked. None means that no key came.
        ref: the sender's own name for it; may be empty.
    """

    kind: Kind
    content: str
    backbone: str
    owner: str | None
    ref: str


@dataclass(frozen=True, eq=False)
class Answer:
    """One answer.

    Attributes:
        id: of `serving.learning.answer_ids`.
        at: microseconds since 1970.
        origin: where it comes from.
        head: version of the head that answered.
        digest: of that head.
        classes: the top classes, the most probable first.
        rare: summed probability of the classes with few training images.
        feature: (D,), f16, or f32 where a value is beyond f16's.
        thumbnail: JPEG. None means that none was kept.
    """

    id: str
    at: int
    origin: Origin
    head: int
    digest: str
    classes: list[RankedClass]
    rare: float
    feature: Floats = field(repr=False)
    thumbnail: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Asked:
    """An answer as it was given, of which nothing is worked out yet.

    Attributes:
        id: of `serving.learning.answer_ids`.
        at: when it was made, in microseconds since 1970.
        scores: feature (D,), logits (C,), head.
        origin: where it comes from.
    """

    id: str
    at: int
    scores: Scores
    origin: Origin


def answered(some: Sequence[Asked], few: NDArray[np.bool_], thumbnails: Sequence[bytes | None] = ()) -> list[Answer]:
    """Return some answers of one head, worked out together: one by one they would cost ten times as much.

    Args:
        some: N of them, with features of one length.
        few: which of the head's classes have few training images, (C,).
        thumbnails: a JPEG or None for each; empty: there is none.
    """
    if not some:
        return []
    head = some[0].scores.head
    logits = np.stack([one.scores.logits for one in some])
    probabilities = softmax(logits)
    rare = probabilities[:, few].sum(1).tolist()
    ranks = ranked_rows(logits, probabilities, head.head.classes, CLASSES)
    features = narrowed(np.stack([one.scores.feature for one in some]))
    parts = zip(some, ranks, rare, features, thumbnails or [None] * len(some), strict=True)
    return [
        Answer(one.id, one.at, one.origin, head.version, head.head.digest, classes, share, feature, small)
        for one, classes, share, feature, small in parts
    ]


def narrowed(features: Floats) -> list[Floats]:
    """Return copies of features (N, D) as f16, or as f32 those that would not be finite."""
    with np.errstate(over="ignore"):
        narrow = features.astype(np.float16)
    found: list[Floats] = list(narrow)
    for row in np.flatnonzero(np.abs(features).max(1) >= BEYOND).tolist():
        found[row] = features[row].astype(np.float32)
    return found


def to_record(answer: Answer) -> Record:
    """Return what the store keeps of an answer: its blob is the feature, then the thumbnail."""
    data = {
        "kind": answer.origin.kind, "content": answer.origin.content, "backbone": answer.origin.backbone,
        "owner": answer.origin.owner, "ref": answer.origin.ref, "head": answer.head, "digest": answer.digest,
        "classes": answer.classes, "rare": answer.rare, "dtype": dtype_name(answer.feature),
        "feature_dim": len(answer.feature),
    }  # fmt: skip
    blob = to_bytes(answer.feature) + (answer.thumbnail or b"")
    return Record(answer.id, answer.at, (answer.id,), data, blob)


def from_record(record: Record) -> Answer:
    """Return the answer of a record."""
    data = record.data
    feature, rest = from_bytes(record.blob, data["dtype"], data["feature_dim"])
    origin = Origin(data["kind"], data["content"], data["backbone"], data["owner"], data["ref"])
    return Answer(
        record.id, record.at, origin, data["head"], data["digest"], data["classes"], data["rare"], feature,
        rest or None,
    )  # fmt: skip


BEYOND = 65520.0
"""From here on, f16 is infinite."""
DTYPES: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4")}


def dtype_name(feature: Floats) -> str:
    """Return the name of a feature's type: `F16` or `F32`."""
    return "F16" if feature.dtype == np.float16 else "F32"


def to_bytes(feature: Floats) -> bytes:
    """Return the bytes of a feature (D,), little-endian."""
    return feature.astype(DTYPES[dtype_name(feature)]).tobytes()


def from_bytes(blob: bytes, dtype: str, width: int) -> tuple[NDArray[Any], bytes]:
    """Return the feature (D,) at the beginning of a blob, and the bytes after it."""
    kind = DTYPES[dtype]
    size = width * kind.itemsize
    return np.frombuffer(blob[:size], kind), blob[size:]
