"""A label, the thing that it is about, and how both are kept as a record.

It knows nothing of stores, or of other labels.

Letters: D feature dimensions.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from breadcrumbs.models.arrays import Floats
from breadcrumbs.serving.learning.answer import dtype_name, from_bytes, to_bytes
from breadcrumbs.serving.state.segment_file import Record


@dataclass(frozen=True)
class Said:
    """A label, without the feature.

    Attributes:
        id: of the thing that has it, 32 hex digits: the same for every label of it.
        label: name of the class; the live head need not know it.
        by: who said so.
        verified: whether somebody vouches for it.
        source: `answer:<id>`, `image:<sha256>` or `feature:<sha256>`: how the thing came.
        content: sha256 of the image file, or of the feature: equal for the same image, whoever labelled it.
        ref: the sender's own name for it; may be empty.
        backbone: sha256 of what made the feature: the name of its space.
        owner: name of the key that it belongs to. None means that it came without one.
        at: microseconds since 1970.
        record: id of the label's own record.
    """

    id: str
    label: str
    by: str
    verified: bool
    source: str
    content: str
    ref: str
    backbone: str
    owner: str | None
    at: int = 0
    record: str = ""

    @property
    def place(self) -> tuple[int, str]:
        """Its place among the labels of its thing: the last one counts."""
        return self.at, self.record

    @property
    def told(self) -> tuple[str, str, bool, str]:
        """What makes it another label: class, author, whether verified, and the sender's name for it."""
        return self.label, self.by, self.verified, self.ref

    @property
    def answer(self) -> str | None:
        """Id of the answer that it is about. None means that it came as an image or a feature."""
        kind, _, name = self.source.partition(":")
        return name if kind == "answer" else None


@dataclass(frozen=True, eq=False)
class Example:
    """The newest label of one thing, with its feature.

    Attributes:
        id: of the thing, 32 hex digits: the same after every relabelling.
        feature: f32 (D,), finite.
        label: name of the class; the live head need not know it.
        by: who said so, in the words of the one who sent it.
        verified: whether somebody vouches for it.
        at: when the newest label came, UTC.
        source: `answer:<id>`, `image:<sha256>` or `feature:<sha256>`: how it came.
        content: sha256 of the image file, or of the feature: equal for the same image, whoever labelled it.
        ref: the sender's own name for it; may be empty.
        backbone: sha256 of what made the feature: the name of its space.
        owner: name of the key that it belongs to. None means that it came without one.
    """

    id: str
    feature: Floats = field(repr=False)
    label: str
    by: str
    verified: bool
    at: datetime
    source: str
    content: str
    ref: str
    backbone: str
    owner: str | None


@dataclass(frozen=True, eq=False)
class Label:
    """What is to be kept: a label, and the feature (D,) that it is about, f16 or f32."""

    said: Said
    feature: Floats = field(repr=False)


def identity(owner: str | None, content: str) -> str:
    """Return the id of the example that an owner has of some content."""
    return hashlib.sha256(f"{owner or ''}\n{content}".encode()).hexdigest()[:32]


def names_of(said: Said) -> tuple[str, ...]:
    """Return the names by which it is erased: of the thing, and of its answer."""
    return (said.id,) if said.answer is None else (said.id, said.answer)


def to_record(said: Said, feature: Floats) -> Record:
    """Return the record of a label and its feature (D,), f16 or f32."""
    data = {
        "id": said.id, "class": said.label, "by": said.by, "verified": said.verified, "source": said.source,
        "content": said.content, "ref": said.ref, "backbone": said.backbone, "owner": said.owner,
        "dtype": dtype_name(feature), "feature_dim": len(feature),
    }  # fmt: skip
    return Record(said.record, said.at, names_of(said), data, to_bytes(feature))


def label_of(record: Record) -> Label:
    """Return the label that a record keeps, and its feature as it came."""
    feature, _ = from_bytes(record.blob, record.data["dtype"], record.data["feature_dim"])
    return Label(said_of(record), feature)


def said_of(record: Record) -> Said:
    """Return the label that a record keeps."""
    data: Mapping[str, Any] = record.data
    return Said(
        data["id"], data["class"], data["by"], data["verified"], data["source"], data["content"], data["ref"],
        data["backbone"], data["owner"], record.at, record.id,
    )  # fmt: skip


def example_of(record: Record) -> Example:
    """Return the example whose newest label a record keeps."""
    said = said_of(record)
    feature, _ = from_bytes(record.blob, record.data["dtype"], record.data["feature_dim"])
    return Example(
        said.id, feature.astype(np.float32), said.label, said.by, said.verified,
        datetime.fromtimestamp(said.at / 1e6, UTC), said.source, said.content, said.ref, said.backbone, said.owner,
    )  # fmt: skip
