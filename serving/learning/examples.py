"""Examples: what people said the class of an image is, as rows for refits.

    examples/<segment>

Every label is a record of its own, with the feature that it is about, and is durable when `add` returns. The newest
label of a thing is its example; the older ones are its history. It knows nothing of HTTP, or of what a refit does with
examples.

Letters: D feature dimensions.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.errors import BreadcrumbsError, FormatError
from breadcrumbs.serving.learning import answer_ids
from breadcrumbs.serving.learning.example import (
    Example,
    Label,
    Said,
    example_of,
    label_of,
    names_of,
    said_of,
    to_record,
)
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


@dataclass(frozen=True, eq=False)
class _Latest:
    """The newest label of each thing, kept up with what is added: going over all labels at each would take too long.

    Attributes:
        by_id: the newest labels by what they are about.
        segments: in which they were looked for.
        marks: what was erased then.
    """

    by_id: dict[str, Said] = field(default_factory=dict)
    segments: frozenset[str] = frozenset()
    marks: Mapping[str, int] = field(default_factory=dict)

    def after(self, known: Mapping[str, Sequence[Said]], marks: Mapping[str, int]) -> "_Latest":
        """Return the newest labels of all segments. This one is used up where segments were only added."""
        segments = frozenset(known)
        found = self.by_id if marks == self.marks and self.segments <= segments else {}
        for name in segments - self.segments if found is self.by_id else segments:
            for said in known[name]:
                there = found.get(said.id)
                if (there is None or there.place < said.place) and not erasure.erases(marks, names_of(said), said.at):
                    found[said.id] = said
        return _Latest(found, segments, marks)


class Examples:
    """The examples of a store, of all servers on it. Every method raises `StoreError` as `Segments` does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._segments = Segments(store, PREFIX)
        self._known: dict[str, list[Said]] = {}
        self._latest = _Latest()
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
        return [example_of(one) for one in newest if verified is None or one.data["verified"] == verified]

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
            await self._read()
            newest: dict[str, Said] = {}
            now = time.time_ns() // 1000
            changes: list[Change] = []
            records = []
            for label in labels:
                known = newest.get(label.said.id) or self._latest.by_id.get(label.said.id)
                if known is not None and known.told == label.said.told:
                    changes.append("same")
                    continue
                now = max(now, known.at if known is not None else 0) + 1
                said = replace(label.said, at=now, record=answer_ids.make(now // 1000))
                records.append(to_record(said, label.feature))
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
                yield [label_of(record) for record in some[start : start + PART]]

    async def newest(self) -> dict[str, Said]:
        """Return the newest label of each thing, without features."""
        await self._read()
        return dict(self._latest.by_id)

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
        """Return all labels, without features."""
        marks = await self._read()
        unique = {said.record: said for some in self._known.values() for said in some}
        return [said for said in unique.values() if not erasure.erases(marks, names_of(said), said.at)]

    async def _read(self) -> Mapping[str, int]:
        """Read the labels that are not in memory, and return what is erased. Segments never change."""
        marks = await erasure.marks(self._store)
        there = {segment.name for segment in await self._segments.listed()}
        self._known = {name: said for name, said in self._known.items() if name in there}
        known = frozenset(self._known)
        async for segment, records in self._segments.records(lambda one: one.name not in known):
            self._known[segment.name] = [said_of(record) for record in records]
        self._latest = self._latest.after(self._known, marks)
        return marks

    async def features(self, labels: Sequence[Said]) -> dict[str, Floats]:
        """Return the features f32 (D,) of labels, by the id of the label's record; without those that were erased."""
        wanted = {one.record for one in labels}
        times = sorted(one.at for one in labels)
        found: dict[str, Floats] = {}
        async for _, records in self._segments.records(lambda segment: segment.may_have_some(times)):
            found |= {one.id: example_of(one).feature for one in records if one.id in wanted}
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


def _brought(label: Label, marks: Mapping[str, int], known: dict[str, Said], counts: Counter[str]) -> Record | None:
    """Return what is to be kept of a label in a file, and count it. None means nothing."""
    said = replace(label.said, record=answer_ids.make(label.said.at // 1000))
    there = known.get(said.id)
    if erasure.erases(marks, names_of(said), said.at):
        counts["erased"] += 1
        return None
    if there is not None and (there.told == said.told or there.at > said.at):
        counts["same" if there.told == said.told else "older"] += 1
        return None
    counts["new" if there is None else "changed"] += 1
    known[said.id] = said
    return to_record(said, label.feature)


def _size(label: Label) -> int:
    """Bytes that a label takes in the store, about."""
    return label.feature.nbytes + 2 * len(label.said.label) + 1000
