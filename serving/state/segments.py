"""Many small records in few objects: each segment is one object of the store, written whole and never changed.

    <prefix>/<first>-<last>-<count>-<token>

The name tells the times of the first and the last record (microseconds since 1970, 16 hex digits), how many there are
(6 hex digits), and has a random token, so that several writers never meet. A segment is read only if its name says that
it may have what is wanted.

Segments are merged into larger ones, and written anew without records that were erased. Both first write the new
segment and then delete the old ones, so a reader may find a record twice; a record's id tells. An erasure first leaves
its mark (`serving.state.erasure`) and then looks for segments; a writer first writes its segment and then looks for
marks. So at least one of the two sees the other. It knows nothing of what records mean.
"""

import asyncio
import re
import secrets
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from breadcrumbs.serving.state import erasure
from breadcrumbs.serving.state.segment_file import Place, Record, decode, encode, record_at
from breadcrumbs.serving.state.store import Conflict, NotFound, Store, StoreError
from breadcrumbs.serving.state.unhurried import PAUSE

NAME = re.compile(r"(?P<first>[0-9a-f]{16})-(?P<last>[0-9a-f]{16})-(?P<count>[0-9a-f]{6})-[0-9a-f]{16}")
TRIES = 20
"""Attempts at reading segments that are merged meanwhile."""
AT_ONCE = 8
"""Segments that are read at the same time."""
FEWEST = 8
"""Segments that are merged at least."""
SETTLED = 10_000_000
"""Microseconds after which a segment may be merged: until then it is looked for most."""


@dataclass(frozen=True)
class Segment:
    """What the name of a segment tells, and its bytes.

    Attributes:
        name: of the object.
        first, last: times of its records.
        count: of them.
        size: in bytes.
    """

    name: str
    first: int
    last: int
    count: int
    size: int

    def may_have(self, at: int) -> bool:
        """Whether a record of that time may be in it."""
        return self.first <= at <= self.last

    def may_have_some(self, times: Sequence[int]) -> bool:
        """Whether a record of one of these times, in ascending order, may be in it."""
        place = bisect_left(times, self.first)
        return place < len(times) and times[place] <= self.last


Wanted = Callable[[Segment], bool]


class Segments:
    """The segments below one prefix of a store. Every method raises `StoreError` as `Store` does."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def append(self, records: Sequence[Record], pause: float = PAUSE) -> Segment:
        """Write records, at least one, as a new segment. They are durable when this returns.

        Args:
            records: in their order.
            pause: seconds, of `encode`.

        Raises:
            StoreFull: there is no room; nothing was written.
        """
        data = await asyncio.to_thread(encode, records, pause)
        await self._store.check_room(len(data))
        times = [record.at for record in records]
        while True:
            name = f"{min(times):016x}-{max(times):016x}-{len(records):06x}-{secrets.token_hex(8)}"
            try:
                await self._store.create(f"{self._prefix}/{name}", data)
            except Conflict:
                continue
            return Segment(f"{self._prefix}/{name}", min(times), max(times), len(records), len(data))

    async def listed(self) -> list[Segment]:
        """Return all segments, the oldest first."""
        items = await self._store.items(self._prefix)
        return [found for item in items if (found := _parsed(item.name, item.size)) is not None]

    async def read(self, segment: Segment) -> list[Record]:
        """Return all records of a segment, also those that were erased meanwhile.

        Raises:
            NotFound: it is not there any more.
            StoreError: it is damaged.
        """
        return await asyncio.to_thread(decode, segment.name, await self._store.get(segment.name))

    async def read_some(self, segment: str, places: Sequence[Place]) -> list[Record | None]:
        """Return the records at some places of a segment, also those that were erased meanwhile.

        None means that the bytes there are not what was written.

        Raises:
            NotFound: it is not there any more.
        """
        spans = [span for one in places for span in ((one.told, one.told_size), (one.blob, one.blob_size))]
        parts = await self._store.get_parts(segment, spans)
        return [record_at(place, *parts[2 * k : 2 * k + 2]) for k, place in enumerate(places)]

    async def records(self, wanted: Wanted = lambda _: True) -> AsyncIterator[tuple[Segment, list[Record]]]:
        """Yield the records of each wanted segment: each record once, without those that were erased.

        Raises:
            StoreError: a segment is damaged, or segments go faster than they can be read.
        """
        done, seen = set[str](), set[str]()
        for _ in range(TRIES):
            marks = await erasure.marks(self._store)
            left = [one for one in await self.listed() if wanted(one) and one.name not in done]
            for start in range(0, len(left), AT_ONCE):
                some = left[start : start + AT_ONCE]
                found = await self._store.get_all(one.name for one in some)
                for one in some:
                    if one.name not in found:  # it was merged meanwhile
                        continue
                    done.add(one.name)
                    records = await asyncio.to_thread(decode, one.name, found[one.name])
                    fresh = [record for record in records if record.id not in seen]
                    seen |= {record.id for record in fresh}
                    yield one, [record for record in fresh if not erasure.erases(marks, record.names, record.at)]
            if done >= {one.name for one in left}:
                return
        raise StoreError(f"the segments of {self._prefix} were merged {TRIES} times while they were read; ask again")

    async def drop_erased(self, wanted: Wanted = lambda _: True) -> None:
        """Write the wanted segments that have erased records anew, without them."""
        marks = await erasure.marks(self._store)
        if not marks:
            return
        for segment in await self.listed():
            if wanted(segment):
                await self._drop_from(segment, marks)

    async def _drop_from(self, segment: Segment, marks: Mapping[str, int]) -> None:
        try:
            records = await self.read(segment)
        except NotFound:  # whoever merged it looks for marks after that
            return
        kept = [one for one in records if not erasure.erases(marks, one.names, one.at)]
        if len(kept) == len(records):
            return
        if kept:
            await self.append(kept)
        await self._store.delete(segment.name)

    async def delete(self, segment: Segment) -> None:
        """Delete a segment with all its records."""
        await self._store.delete(segment.name)

    async def merge(self, now: int, size: int, count: int) -> None:
        """Merge small settled segments.

        Args:
            now: microseconds since 1970.
            size: bytes of a merged segment, about.
            count: records of a merged segment at most.
        """
        settled = [one for one in await self.listed() if one.last < now - SETTLED]
        small = [one for one in settled if one.size < size // 2 and one.count <= count // 2]
        for group in _groups(small, size, count):
            await self._merge(group)

    async def _merge(self, group: Sequence[Segment]) -> None:
        found: dict[str, Record] = {}
        for segment in group:
            try:
                found |= {record.id: record for record in await self.read(segment)}
            except NotFound:  # another server merges, too
                return
        merged = await self.append(list(found.values()))
        for segment in group:
            await self.delete(segment)
        await self.drop_erased(lambda segment: segment.name == merged.name)


def _groups(segments: Sequence[Segment], size: int, count: int) -> Iterator[list[Segment]]:
    """Neighbours of at most `count` records and about `size` bytes together, `FEWEST` of them at least."""
    group: list[Segment] = []
    bytes_left, records_left = size, count
    for segment in segments:
        if group and (bytes_left <= 0 or segment.count > records_left):
            if len(group) >= FEWEST:
                yield group
            group = []
        if not group:
            bytes_left, records_left = size, count
        group.append(segment)
        bytes_left, records_left = bytes_left - segment.size, records_left - segment.count
    if len(group) >= FEWEST:
        yield group


def _parsed(name: str, size: int) -> Segment | None:
    found = NAME.fullmatch(name.rpartition("/")[2])
    if found is None:
        return None
    return Segment(name, int(found["first"], 16), int(found["last"], 16), int(found["count"], 16), size)
