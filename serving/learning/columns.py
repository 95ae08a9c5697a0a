"""What the queue needs of a segment of answers, without the features: numbers of each answer, and where it lies.

    thing       first 8 bytes of the id that an example of it would have
    at          microseconds since 1970
    rare        summed probability of the classes with few training images
    uncertain   1 − (p₁ − p₂), of the two most probable classes
    far         distance to the nearest class mean when this was made; infinite where there was none
    backbone, owner     places in the lists of their names
    told … check        where the answer lies in its segment

60 bytes an answer, where a feature of 768 numbers takes 1,536. It knows nothing of where this is kept.

Letters: N answers, D feature dimensions.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.serving.learning.answer import Answer, from_record
from breadcrumbs.serving.learning.example import identity
from breadcrumbs.serving.learning.means import Means, distances
from breadcrumbs.serving.state.segment_file import Place, Record, places
from breadcrumbs.serving.state.store import StoreError
from breadcrumbs.serving.state.unhurried import unhurried

ROW = np.dtype(
    [
        ("thing", "<u8"), ("at", "<u8"), ("rare", "<f4"), ("uncertain", "<f4"), ("far", "<f4"),
        ("backbone", "<u4"), ("owner", "<u4"),
        ("told", "<u4"), ("told_size", "<u4"), ("blob", "<u8"), ("blob_size", "<u4"), ("check", "<u4"),
    ]
)  # fmt: skip
PLACE = Place._fields


@dataclass(frozen=True, eq=False)
class Columns:
    """The numbers of one segment.

    Attributes:
        segment: name of the object.
        rows: of `ROW`, (N,), in the order of the segment.
        backbones: names of the spaces.
        owners: of the answers. None means those without one.
    """

    segment: str
    rows: NDArray[Any] = field(repr=False)
    backbones: tuple[str, ...]
    owners: tuple[str | None, ...]

    def places(self, chosen: Sequence[int]) -> list[Place]:
        """Return where some rows' answers lie."""
        return [Place(*(int(value) for value in row)) for row in self.rows[list(PLACE)][list(chosen)].tolist()]


def columns(segment: str, records: Sequence[Record], means: Means | None, backbone: str) -> Columns:
    """Return the numbers of all records of a segment.

    Args:
        segment: name of the object.
        records: all that are in it, in order.
        means: (C, D). None means that there are none.
        backbone: whose space the means are in.
    """
    answers = [from_record(record) for record in unhurried(records)]
    backbones = tuple(dict.fromkeys(one.origin.backbone for one in answers))
    owners = tuple(dict.fromkeys(one.origin.owner for one in answers))
    numbers = {name: place for place, name in enumerate(backbones)}
    owned = {name: place for place, name in enumerate(owners)}
    rows = np.empty(len(answers), ROW)
    for row, (one, place) in enumerate(unhurried(zip(answers, places(records), strict=True))):
        origin = one.origin
        rows[row] = (
            short(identity(origin.owner, origin.content)), one.at, one.rare, uncertainty(one), np.inf,
            numbers[origin.backbone], owned[origin.owner], *place,
        )  # fmt: skip
    if means is not None:
        _measure(rows, answers, means, backbone)
    return Columns(segment, rows, backbones, owners)


def _measure(rows: NDArray[Any], answers: Sequence[Answer], means: Means, backbone: str) -> None:
    """Set `far` of the answers of the means' space."""
    wide = defaultdict(list)
    for row, one in enumerate(answers):
        if one.origin.backbone == backbone and len(one.feature) == means.shape[1]:
            wide[one.feature.dtype].append(row)
    for own in wide.values():
        rows["far"][own] = distances(np.stack([answers[row].feature for row in own]), means)


def short(thing: str) -> int:
    """Return the first 8 bytes of an example's id."""
    return int(thing[:16], 16)


def uncertainty(answer: Answer) -> float:
    """Return 1 − (p₁ − p₂); a head may have one class."""
    first, second = (*(one["probability"] for one in answer.classes[:2]), 0.0)[:2]
    return 1 - (first - second)


def to_record(found: Columns) -> Record:
    """Return what the store keeps of them: the blob is the rows."""
    data = {"backbones": found.backbones, "owners": found.owners}
    return Record(found.segment.rpartition("/")[2], 0, (), data, found.rows.tobytes())


def from_records(segment: str, records: Sequence[Record]) -> Columns:
    """Return the numbers that the store keeps of a segment.

    Raises:
        StoreError: they are of another segment, or have another form.
    """
    try:
        (record,) = records
        rows = np.frombuffer(record.blob, ROW).copy()
        backbones, owners = tuple(record.data["backbones"]), tuple(record.data["owners"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"the index of {segment} is damaged: expected one record of rows") from error
    known = not len(rows) or (rows["backbone"].max() < len(backbones) and rows["owner"].max() < len(owners))
    if record.id != segment.rpartition("/")[2] or not known:
        raise StoreError(f"the index of {segment} is damaged: it is another segment's, or names what it does not list")
    return Columns(segment, rows, backbones, owners)
