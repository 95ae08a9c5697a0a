"""Examples: what people said the class of an image is, as rows for refits.

    examples/<segment>

Every label is a record of its own, with the feature that it is about, and is durable when `add` returns. The newest
label of a thing is its example; the older ones are its history. It knows nothing of HTTP, or of what a refit does with
examples.

Letters: D feature dimensions.
"""

import asyncio
import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.errors import BreadcrumbsError, FormatError
from breadcrumbs.serving.learning import answer_ids
from breadcrumbs.serving.learning.answer import dtype_name, from_bytes, to_bytes
from breadcrumbs.serving.state import erasure
from breadcrumbs.serving.state.segment_file import Record
from breadcrumbs.serving.state.segments import Segment, Segments
from breadcrumbs.serving.state.store import NotFound, Store

PREFIX = "examples"
LARGEST = 16 * 2**20
"""Bytes of a merged segment, about."""
PART = 2048
"""Labels that are in memory at a time while they are streamed."""
MOST = 100_000
"""Records of a merged segment."""

Sums = dict[str, tuple[NDArray[np.float64], int]]
"""Sum (D,) and number of the features of each class."""
Change = Literal["new", "changed", "same"]
"""What a label did: a new example, another label of one, or nothing, since the example has it already."""


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


@dataclass(frozen=True)
class Brought:
    """What became of the rows of a file.

    Attributes:
        new: examples that were not there.
        changed: examples that have another label now.
        same: rows that say what is there already.
        older: rows of examples that have a newer label, which stays.
        erased: rows of what was erased in the last hour, which stays away.
    """

    new: int = 0
    changed: int = 0
    same: int = 0
    older: int = 0
    erased: int = 0


def identity(owner: str | None, content: str) -> str:
    """Return the id of the example that an owner has of some content."""
    return hashlib.sha256(f"{owner or ''}\n{content}".encode()).hexdigest()[:32]


class Examples:
    """The examples of a store, of all servers on it. Every method raises `StoreError` as `Segments` does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._segments = Segments(store, PREFIX)
        self._known: dict[str, list[Said]] = {}
        self._adding = asyncio.Lock()
        self._summed: tuple[object, Sums] | None = None

    async def current(self, *, verified: bool | None = None) -> list[Example]:
        """Return the newest label of each thing with its feature, without what was erased, by id.

        Args:
            verified: only those that are, or are not. None means all.

        Raises:
            StoreError: the store cannot be read, or a segment in it is damaged.
        """
        found: dict[str, tuple[tuple[int, str], Record]] = {}
        async for _, records in self._segments.records():
            for record in records:
                place = (record.at, record.id)
                thing = record.data["id"]
                if thing not in found or found[thing][0] < place:
                    found[thing] = (place, record)
        newest = (record for _, (_, record) in sorted(found.items()))
        return [_example(one) for one in newest if verified is None or one.data["verified"] == verified]

    async def sums(self, backbone: str) -> Sums:
        """Return sum and number of the features of each class in one space; read again only after a change."""
        marks = await erasure.marks(self._store)
        state = backbone, frozenset(marks.items()), frozenset(one.name for one in await self._segments.listed())
        if self._summed is None or self._summed[0] != state:
            own = [one for one in await self.current() if one.backbone == backbone]
            self._summed = state, await asyncio.to_thread(_sums, own)
        return self._summed[1]

    async def add(self, labels: Sequence[Label]) -> list[Change]:
        """Keep labels, all of them or none, and return what each of them did. They are durable then.

        A label that its example has already is not kept again.

        Raises:
            StoreFull: there is no room; nothing was kept.
        """
        async with self._adding:
            newest = await self.newest()
            now = time.time_ns() // 1000
            changes: list[Change] = []
            records = []
            for label in labels:
                known = newest.get(label.said.id)
                if known is not None and known.told == label.said.told:
                    changes.append("same")
                    continue
                now = max(now, known.at if known is not None else 0) + 1
                said = replace(label.said, at=now, record=answer_ids.make(now // 1000))
                records.append(_record(said, label.feature))
                newest[said.id] = said
                changes.append("new" if known is None else "changed")
            if records:
                written = await self._segments.append(records)
                await self._segments.drop_erased(lambda segment: segment.name == written.name)
        return changes

    async def bring(self, parts: Callable[[], Iterator[Sequence[Label]]]) -> Brought:
        """Keep the labels of a file with their own times; where an example has a newer label, that one stays.

        The whole file is checked before anything is kept. What was kept of it goes again where the store fails. The
        same file again changes nothing.

        Args:
            parts: begins to read the file, from its first label on; read twice, a part in memory at a time.

        Raises:
            FormatError: the file has no label, or a damaged one; nothing was kept.
            StoreFull: there is no room; nothing was kept.
        """
        size = await asyncio.to_thread(lambda: sum(_size(label) for part in parts() for label in part))
        if not size:
            raise FormatError("the file has no example; expected one a row")
        await self._store.check_room(size)
        marks, known = await erasure.marks(self._store), await self.newest()
        counts, written, reading = Counter[str](), list[Segment](), parts()
        try:
            while (part := await asyncio.to_thread(next, reading, None)) is not None:
                records = [found for label in part if (found := _brought(label, marks, known, counts)) is not None]
                if records:
                    written.append(await self._segments.append(records))
        except BreadcrumbsError:
            for segment in written:
                await self._segments.delete(segment)
            raise
        names = {segment.name for segment in written}
        await self._segments.drop_erased(lambda segment: segment.name in names)
        return Brought(**counts)

    async def stream(self, wanted: Iterable[Said]) -> AsyncIterator[list[Label]]:
        """Yield labels with their features, in any order, some at a time."""
        records = {said.record for said in wanted}
        async for _, found in self._segments.records():
            some = [record for record in found if record.id in records]
            for start in range(0, len(some), PART):
                yield [_label(record) for record in some[start : start + PART]]

    async def newest(self) -> dict[str, Said]:
        """Return the newest label of each thing, without features."""
        found: dict[str, Said] = {}
        for said in await self.all():
            if said.id not in found or found[said.id].place < said.place:
                found[said.id] = said
        return found

    async def history(self, example: str) -> list[Said]:
        """Return all labels of a thing, the oldest first.

        Raises:
            NotFound: there is no such example.
        """
        found = [said for said in await self.all() if said.id == example]
        if not found:
            raise NotFound(f"there is no example {example!r:.80}")
        return sorted(found, key=lambda said: said.place)

    async def erased(self, examples: Iterable[str], until: int) -> list[str]:
        """Return which things were erased after a time, in order, even if they were labelled again since.

        Args:
            examples: ids of things that had a label then.
            until: the time, in microseconds since 1970.
        """
        left = {said.id for said in await self.all() if said.at <= until}
        return [one for one in examples if one not in left]

    async def all(self) -> list[Said]:
        """Return all labels, without features. Segments never change, so each is read once."""
        marks = await erasure.marks(self._store)
        there = {segment.name for segment in await self._segments.listed()}
        self._known = {name: said for name, said in self._known.items() if name in there}
        known = frozenset(self._known)
        async for segment, records in self._segments.records(lambda one: one.name not in known):
            self._known[segment.name] = [_said(record) for record in records]
        unique = {said.record: said for some in self._known.values() for said in some}
        return [said for said in unique.values() if not erasure.erases(marks, _names(said), said.at)]

    async def features(self, labels: Sequence[Said]) -> dict[str, Floats]:
        """Return the features f32 (D,) of labels, by the id of the label's record; without those that were erased."""
        wanted = {one.record for one in labels}
        times = sorted(one.at for one in labels)
        found: dict[str, Floats] = {}
        async for _, records in self._segments.records(lambda segment: segment.may_have_some(times)):
            found |= {one.id: _example(one).feature for one in records if one.id in wanted}
        return found

    async def erase(self, examples: Sequence[str]) -> None:
        """Remove things with their whole history, so that nothing of them is in the store."""
        await erasure.mark(self._store, examples, time.time_ns() // 1000)
        await self.drop_erased()

    async def drop_erased(self) -> None:
        """Remove what is marked as erased from its segments."""
        await self._segments.drop_erased()

    async def keep(self) -> None:
        """Merge small segments."""
        await self._segments.merge(time.time_ns() // 1000, LARGEST, MOST)


def _sums(examples: Sequence[Example]) -> Sums:
    rows = defaultdict(list)
    for one in examples:
        rows[one.label].append(one.feature)
    return {name: (np.stack(own).sum(0, dtype=np.float64), len(own)) for name, own in rows.items()}


def _names(said: Said) -> tuple[str, ...]:
    return (said.id,) if said.answer is None else (said.id, said.answer)


def _record(said: Said, feature: Floats) -> Record:
    data = {
        "id": said.id, "class": said.label, "by": said.by, "verified": said.verified, "source": said.source,
        "content": said.content, "ref": said.ref, "backbone": said.backbone, "owner": said.owner,
        "dtype": dtype_name(feature), "feature_dim": len(feature),
    }  # fmt: skip
    return Record(said.record, said.at, _names(said), data, to_bytes(feature))


def _brought(label: Label, marks: Mapping[str, int], known: dict[str, Said], counts: Counter[str]) -> Record | None:
    """Return what is to be kept of a label in a file, and count it. None means nothing."""
    said = replace(label.said, record=answer_ids.make(label.said.at // 1000))
    there = known.get(said.id)
    if erasure.erases(marks, _names(said), said.at):
        counts["erased"] += 1
        return None
    if there is not None and (there.told == said.told or there.at > said.at):
        counts["same" if there.told == said.told else "older"] += 1
        return None
    counts["new" if there is None else "changed"] += 1
    known[said.id] = said
    return _record(said, label.feature)


def _size(label: Label) -> int:
    """Bytes that a label takes in the store, about."""
    return label.feature.nbytes + 2 * len(label.said.label) + 1000


def _label(record: Record) -> Label:
    feature, _ = from_bytes(record.blob, record.data["dtype"], record.data["feature_dim"])
    return Label(_said(record), feature)


def _said(record: Record) -> Said:
    data: Mapping[str, Any] = record.data
    return Said(
        data["id"], data["class"], data["by"], data["verified"], data["source"], data["content"], data["ref"],
        data["backbone"], data["owner"], record.at, record.id,
    )  # fmt: skip


def _example(record: Record) -> Example:
    said = _said(record)
    feature, _ = from_bytes(record.blob, record.data["dtype"], record.data["feature_dim"])
    return Example(
        said.id, feature.astype(np.float32), said.label, said.by, said.verified,
        datetime.fromtimestamp(said.at / 1e6, UTC), said.source, said.content, said.ref, said.backbone, said.owner,
    )  # fmt: skip
