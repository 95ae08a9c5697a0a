"""A remembered answer, and the record that it is kept as.

Letters: D feature dimensions, C classes.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.head import RankedClass, ranked, softmax
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


def answered(
    name: str, at: int, scores: Scores, origin: Origin, few: NDArray[np.bool_], thumbnail: bytes | None = None
) -> Answer:
    """Return the answer that some scores are.

    Args:
        name: its id.
        at: when it was made, in microseconds since 1970.
        scores: feature (D,), logits (C,), head.
        origin: where it comes from.
        few: which of the head's classes have few training images, (C,).
        thumbnail: JPEG, if one is kept.
    """
    head = scores.head
    rare = float(softmax(scores.logits)[few].sum())
    classes = ranked(scores.logits, head.head.classes, CLASSES)
    feature = narrowed(scores.feature)
    return Answer(name, at, origin, head.version, head.head.digest, classes, rare, feature, thumbnail)


def narrowed(feature: Floats) -> Floats:
    """Return a copy of a feature (D,) as f16, or as f32 where that would not be finite."""
    with np.errstate(over="ignore"):
        narrow = feature.astype(np.float16)
    return narrow if np.isfinite(narrow).all() else feature.astype(np.float32)


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
