"""Remembered answers: kept in memory for a second, then in segments of the store, until they are too old or too many.

    answers/<segment>

A request only puts its scores on a list; `flush` writes what came, `keep` removes what is over the bounds, merges
segments and makes their indexes (`serving.learning.remembering` calls both). What was not written when the process is
killed is lost. It knows nothing of HTTP or of labels.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.groups import Group
from breadcrumbs.models.images.errors import ImageError
from breadcrumbs.models.images.thumbnail import thumbnail
from breadcrumbs.serving.learning import answer_ids
from breadcrumbs.serving.learning.answer import Answer, Asked, Origin, answered, from_record, to_record
from breadcrumbs.serving.learning.bounds import DAY, Bounds, beyond
from breadcrumbs.serving.learning.columns import Columns
from breadcrumbs.serving.learning.indexes import Indexes, Measure, unmeasured
from breadcrumbs.serving.predict.engine import BoundHead, Scores
from breadcrumbs.serving.state import erasure
from breadcrumbs.serving.state.segment_file import Record
from breadcrumbs.serving.state.segments import Segments
from breadcrumbs.serving.state.store import NotFound, Store, StoreError
from breadcrumbs.serving.state.unhurried import PAUSE

LOG = logging.getLogger("breadcrumbs.answers")
PREFIX = "answers"
LATE = 10_000_000
"""Microseconds after which an answer that is nowhere is not waited for."""
PATIENCE = 2.0
"""Seconds that a younger one is waited for: another server may not have written it yet."""
AGAIN = 0.25
"""Seconds between two looks for it."""
SOON = 60_000_000
"""Microseconds that the clock of another server may be ahead."""
PENDING_BYTES = 64 * 2**20
"""Memory for what is not written yet; beyond it, thumbnails and then answers are not remembered."""
SHARES = 16
"""Parts of the bounds; a segment is merged until it is one, so that what is removed at a time is no more."""
GENTLE = 5e-3
"""Seconds of a pause, at most, while answers are written beside requests: one of a few milliseconds then meets a piece
of that work, and not all of it."""
LARGEST = 4 * 2**20
"""Bytes of a merged segment, about."""
TOGETHER = 8
"""Answers that are worked out together, in a third of a millisecond; of more a request would wait longer for Python."""


class Expired(NotFound):
    """An answer that was remembered once."""


@dataclass(frozen=True, eq=False)
class _Pending(Asked):
    image: bytes | Pixels | None = field(repr=False)
    size: int


class Answers:
    """The remembered answers of a store, of all servers on it.

    Args:
        store: where they are kept.
        bounds: what is remembered.
        groups: of the bundle's classes.
    """

    def __init__(self, store: Store, bounds: Bounds, groups: Mapping[str, Group]) -> None:
        self._store = store
        self._segments = Segments(store, PREFIX)
        self._indexes = Indexes(store, self._segments)
        self._bounds = bounds
        self._groups = groups
        self._pending: dict[str, _Pending] = {}
        self._size = 0
        self._writing = asyncio.Lock()
        self._full = False
        self._rare: tuple[tuple[str, ...], NDArray[np.bool_]] | None = None

    @property
    def on(self) -> bool:
        """Whether answers are remembered."""
        return self._bounds.count > 0

    def remember(self, scores: Scores, origin: Origin, image: bytes | Pixels | None = None) -> str | None:
        """Remember an answer from now on, and return its id. None means that there is no memory left for it."""
        now = time.time_ns() // 1_000_000
        kept = image if self._bounds.images else None
        size = scores.feature.nbytes + scores.logits.nbytes + _size(kept)
        if self._size + size > PENDING_BYTES:
            if not self._full:
                LOG.warning("answers come faster than the store takes them: some are not remembered")
            self._full = True
            return None
        one = _Pending(answer_ids.make(now), now * 1000, scores, origin, kept, size)
        self._pending[one.id] = one
        self._size += size
        return one.id

    async def flush(self, over: float = 0.0) -> None:
        """Write what came; it stays in memory if the store cannot be written.

        Args:
            over: seconds that the work may be spread over.

        Raises:
            StoreError: the store cannot be written.
        """
        async with self._writing:
            some = list(self._pending.values())
            if not some:
                return
            pause = max(PAUSE, min(GENTLE, over * TOGETHER / len(some)))
            records = await asyncio.to_thread(self._records, some, pause)
            for start in range(0, len(records), self._share):
                await self._segments.append(records[start : start + self._share], pause)
            for one in some:
                del self._pending[one.id]
                self._size -= one.size
            self._full = False

    @property
    def _share(self) -> int:
        """Answers of a segment at most."""
        return max(1, self._bounds.count // SHARES)

    def _records(self, some: Sequence[_Pending], pause: float) -> list[Record]:
        """What is written of answers, in their order; a pause, in seconds, comes after each few of them."""
        made: dict[str, Record] = {}
        for own in _alike(some):
            small = [None if one.image is None else _thumbnail(one.image) for one in own]
            made |= {one.id: to_record(one) for one in answered(own, self._few(own[0].scores.head), small)}
            time.sleep(pause)
        return [made[one.id] for one in some]

    def _unwritten(self, ids: Iterable[str]) -> dict[str, Answer]:
        """Those answers that are not written yet, without thumbnails."""
        some = [self._pending[one] for one in ids if one in self._pending]
        return {one.id: one for own in _alike(some) for one in answered(own, self._few(own[0].scores.head))}

    def _few(self, head: BoundHead) -> NDArray[np.bool_]:
        """Which classes of a head have few training images, (C,)."""
        classes, known = head.head.classes, self._rare  # which another thread may replace
        if known is None or known[0] is not classes:
            known = classes, np.array([self._groups.get(name, "few") == "few" for name in classes])
            self._rare = known
        return known[1]

    async def find(self, ids: Iterable[str]) -> dict[str, Answer]:
        """Return answers by their ids; one that another server has just given is waited for.

        One that is not written yet has no thumbnail.

        Raises:
            NotFound: there is no such answer; the message says which.
            Expired: it was remembered once.
        """
        wanted = {one: self._time(one) for one in ids}
        found: dict[str, Answer] = {}
        until = time.monotonic() + PATIENCE
        while True:
            left = {one: at for one, at in wanted.items() if one not in found}
            found |= self._unwritten(left)
            found |= await self._stored({one: at for one, at in left.items() if one not in found})
            left = {one: at for one, at in left.items() if one not in found}
            if not left:
                return found
            young = max(left.values()) > time.time_ns() // 1000 - LATE
            if not young or time.monotonic() > until or left.keys() & (await erasure.marks(self._store)).keys():
                break
            await asyncio.sleep(AGAIN)
        raise await self._missing(left)

    def _time(self, answer: str) -> int:
        """When an answer was made, by its id, in microseconds since 1970."""
        made = answer_ids.made_at(answer)
        now = time.time_ns() // 1000
        if made is None or made * 1000 > now + SOON:
            raise NotFound(f"there is no answer {answer!r:.80}; expected the id of a prediction")
        if made * 1000 < now - self._bounds.days * DAY:
            raise Expired(self._told_expired(answer))
        return made * 1000

    async def _stored(self, wanted: Mapping[str, int]) -> dict[str, Answer]:
        if not wanted:
            return {}
        times = sorted(wanted.values())
        try:
            return await self._by_index(wanted, times)
        except NotFound:  # a segment was merged meanwhile
            found: dict[str, Answer] = {}
            async for _, records in self._segments.records(lambda segment: segment.may_have_some(times)):
                found |= {one.id: from_record(one) for one in records if one.id in wanted}
            return found

    async def _by_index(self, wanted: Mapping[str, int], times: Sequence[int]) -> dict[str, Answer]:
        """Only what is asked for is read of a segment that has an index."""
        marks = await erasure.marks(self._store)
        found: dict[str, Answer] = {}
        for segment in await self._segments.listed():
            if not segment.may_have_some(times):
                continue
            index = await self._indexes.of(segment)
            if index is None:
                own = await self._segments.read(segment)
            else:
                rows = np.flatnonzero(np.isin(index.rows["at"], times)).tolist()
                own = await self._read(index, rows)
            kept = [one for one in own if one.id in wanted and not erasure.erases(marks, one.names, one.at)]
            found |= {one.id: from_record(one) for one in kept}
        return found

    async def _read(self, index: Columns, rows: Sequence[int]) -> list[Record]:
        """The records of some rows."""
        found = await self._segments.read_some(index.segment, index.places(rows))
        fitting = [record for record in found if record is not None]
        if len(fitting) < len(found):
            await self._indexes.damaged(index)
            raise NotFound(f"the index of {index.segment} does not fit it")
        return fitting

    async def _missing(self, left: Mapping[str, int]) -> NotFound:
        """Why there is not the first of these answers."""
        marks = await erasure.marks(self._store)
        answer, at = min(left.items(), key=lambda one: one[0] not in marks)
        if answer in marks:
            return NotFound(f"there is no answer {answer!r:.80}: it was erased")
        segments = await self._segments.listed()
        if segments and at < segments[0].first:
            return Expired(self._told_expired(answer))
        return NotFound(f"there is no answer {answer!r:.80}: it was never remembered, or was erased")

    def _told_expired(self, answer: str) -> str:
        bounds = self._bounds
        return (
            f"the answer {answer} is not kept any more (answers are kept for {bounds.days:g} days, and at most "
            f"{bounds.count}): send the image or its feature in its place"
        )

    async def stream(self) -> AsyncIterator[list[Answer]]:
        """Yield all answers in the store, some at a time, after what this server remembers is written."""
        await self.flush()
        async for _, records in self._segments.records():
            yield [from_record(one) for one in records]

    async def columns(self, measure: Measure) -> list[Columns]:
        """Return the numbers of all answers in the store, by segment, after what this server remembers is written.

        Args:
            measure: gives the class means.

        Raises:
            NotFound: a segment was merged meanwhile.
            StoreError: the store cannot be read, or a segment is damaged.
        """
        await self.flush()
        return await self._indexes.read(await self._segments.listed(), measure)

    async def at(self, places: Sequence[tuple[Columns, int]]) -> list[Answer | None]:
        """Return the answers at some places. None means that it was erased.

        Raises:
            NotFound: a segment was merged meanwhile, or its index does not fit it.
        """
        marks = await erasure.marks(self._store)
        rows: dict[Columns, list[int]] = {}
        for index, row in places:
            rows.setdefault(index, []).append(row)
        found: dict[tuple[Columns, int], Answer | None] = {}
        for index, own in rows.items():
            for row, record in zip(own, await self._read(index, own), strict=True):
                gone = erasure.erases(marks, record.names, record.at)
                found[index, row] = None if gone else from_record(record)
        return [found[place] for place in places]

    async def erase(self, answer: str) -> None:
        """Remove an answer from memory and store; its mark must be there (`erasure.mark`)."""
        await self.flush()
        made = answer_ids.made_at(answer)
        if made is not None:
            await self._segments.drop_erased(lambda segment: segment.may_have(made * 1000))
            await self._indexes.drop()

    async def drop_erased(self) -> None:
        """Remove what is marked as erased from its segments."""
        await self._segments.drop_erased()
        await self._indexes.drop()

    async def keep(self, now: int | None = None, measure: Measure = unmeasured) -> None:
        """Remove what is over the bounds, merge small segments, and make the indexes that are missing.

        Args:
            now: microseconds since 1970; absent: the time.
            measure: gives the class means.
        """
        now = time.time_ns() // 1000 if now is None else now
        segments = await self._segments.listed()
        for segment in beyond(segments, self._bounds, now):
            await self._segments.delete(segment)
        await self._segments.merge(now, min(LARGEST, self._bounds.size // SHARES), self._share)
        await self._indexes.keep(now, measure)

    async def close(self) -> None:
        """Write what came last."""
        try:
            await self.flush()
        except StoreError as error:
            LOG.warning("the last %d answers are not remembered: %s", len(self._pending), error)


def _alike(some: Sequence[_Pending]) -> Iterator[list[_Pending]]:
    """Groups of one head and one length of features, `TOGETHER` at most."""
    groups: dict[tuple[int, int], list[_Pending]] = {}
    for one in some:
        groups.setdefault((id(one.scores.head), len(one.scores.feature)), []).append(one)
    for own in groups.values():
        yield from (own[start : start + TOGETHER] for start in range(0, len(own), TOGETHER))


def _thumbnail(image: bytes | Pixels) -> bytes | None:
    with contextlib.suppress(ImageError):
        return thumbnail(image)
    return None


def _size(image: bytes | Pixels | None) -> int:
    return 0 if image is None else len(image) if isinstance(image, bytes) else image.nbytes
