"""The indexes of answers: beside each segment a small object with the numbers that the queue ranks by.

    indexes/<segment>      the same name as the segment's, below `answers/`

An index is derived: it is made about a minute after its segment, from the segment, and goes after it. Where one is
missing or damaged, the segment is read. This server keeps all of them in memory, 60 bytes an answer. It knows nothing
of how answers are ranked.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from breadcrumbs.serving.learning.columns import Columns, columns, from_records, to_record
from breadcrumbs.serving.learning.means import Means
from breadcrumbs.serving.state.segment_file import decode, encode
from breadcrumbs.serving.state.segments import SETTLED, Segment, Segments
from breadcrumbs.serving.state.store import Conflict, NotFound, Store, StoreError

LOG = logging.getLogger("breadcrumbs.answers")
PREFIX = "indexes"
AT_ONCE = 64
"""Indexes that are read at the same time."""

Measure = Callable[[], Awaitable[tuple[Means | None, str]]]
"""The class means, and the backbone of their space; asked only where an index is made."""


async def unmeasured() -> tuple[Means | None, str]:
    """There is no class mean."""
    return None, ""


class Indexes:
    """The indexes of a store's answers.

    Args:
        store: where they are.
        segments: of the answers.
    """

    def __init__(self, store: Store, segments: Segments) -> None:
        self._store = store
        self._segments = segments
        self._known: dict[str, Columns] = {}

    async def read(self, there: Sequence[Segment], measure: Measure) -> list[Columns]:
        """Return the numbers of segments; those without an index are read.

        Raises:
            NotFound: a segment was merged meanwhile.
            StoreError: the store cannot be read, or a segment is damaged.
        """
        self._forget(there)
        left = [one.name for one in there if one.name not in self._known]
        for start in range(0, len(left), AT_ONCE):
            await self._load(left[start : start + AT_ONCE])
        for one in there:
            if one.name not in self._known:
                self._known[one.name] = await self._made(one, measure)
        return [self._known[one.name] for one in there]

    async def of(self, segment: Segment) -> Columns | None:
        """Return the numbers of one segment. None means that it has no index yet."""
        if segment.name not in self._known:
            await self._load([segment.name])
        return self._known.get(segment.name)

    async def keep(self, now: int, measure: Measure) -> None:
        """Make the indexes that are missing, and remove those whose segments are gone.

        Args:
            now: microseconds since 1970.
            measure: gives the class means.
        """
        written = set(await self._store.names(PREFIX))  # before the segments: an index is written after its segment
        there = await self._segments.listed()
        await self._delete(written - {_named(one.name) for one in there})
        for one in there:
            if _named(one.name) not in written and one.last < now - SETTLED:
                await self._write(one, measure)

    async def drop(self) -> None:
        """Remove the indexes whose segments are gone."""
        written = set(await self._store.names(PREFIX))
        await self._delete(written - {_named(one.name) for one in await self._segments.listed()})

    async def damaged(self, found: Columns) -> None:
        """Forget an index that does not fit its segment; the next reader makes it anew."""
        LOG.warning("the index of %s does not fit it: it is made anew", found.segment)
        self._known.pop(found.segment, None)
        await self._store.delete(_named(found.segment))

    def _forget(self, there: Sequence[Segment]) -> None:
        names = {one.name for one in there}
        self._known = {name: own for name, own in self._known.items() if name in names}

    async def _load(self, names: Sequence[str]) -> None:
        found = await self._store.get_all(_named(name) for name in names)
        self._known |= await asyncio.to_thread(_parsed, names, found)

    async def _made(self, segment: Segment, measure: Measure) -> Columns:
        records = await self._segments.read(segment)
        means, backbone = await measure()
        return await asyncio.to_thread(columns, segment.name, records, means, backbone)

    async def _write(self, segment: Segment, measure: Measure) -> None:
        try:
            found = await self._made(segment, measure)
            data = await asyncio.to_thread(encode, [to_record(found)])
            await self._store.check_room(len(data))
            await self._store.create(_named(segment.name), data)
        except (NotFound, Conflict):  # another server has merged the segment, or made its index
            return
        self._known[segment.name] = found

    async def _delete(self, names: Iterable[str]) -> None:
        for name in names:
            await self._store.delete(name)


def _named(segment: str) -> str:
    return f"{PREFIX}/{segment.rpartition('/')[2]}"


def _parsed(names: Sequence[str], found: dict[str, bytes]) -> dict[str, Columns]:
    """The numbers of those that are sound; the others are read from their segments."""
    parsed: dict[str, Columns] = {}
    for name in names:
        data = found.get(_named(name))
        if data is None:
            continue
        try:
            parsed[name] = from_records(name, decode(_named(name), data))
        except StoreError as error:
            LOG.warning("%s; the segment is read in its place", error)
    return parsed
