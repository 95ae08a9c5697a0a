"""The trials of a store, as one server knows them: followed, counted, ended.

A request asks `answering` which head a canary wants, and tells `saw` what was answered. All else runs beside the
requests: the log is followed, opinions are computed, counts are written each second. `serving.trials.starting` starts
trials, and `serving.trials.judge` ends them by their rules. It knows nothing of HTTP.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.predict.engine import BoundHead, Engine, Scores
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.live_head import Live
from breadcrumbs.serving.state.renames import Renames
from breadcrumbs.serving.state.store import Store, StoreError
from breadcrumbs.serving.trials import verdicts
from breadcrumbs.serving.trials.canary import answering
from breadcrumbs.serving.trials.counts import CountsStore
from breadcrumbs.serving.trials.log import TrialLog, page
from breadcrumbs.serving.trials.opinions import Opinions
from breadcrumbs.serving.trials.pair import Compared, Pair, Points, paired
from breadcrumbs.serving.trials.state import TrialState, TrialSummary, state_of
from breadcrumbs.serving.trials.trial import End, Mode, Outcome, Start, TrialGroup
from breadcrumbs.serving.trials.verdicts import Outlook
from breadcrumbs.serving.trials.verified import Verified

LOG = logging.getLogger("breadcrumbs.trials")
PAUSE = 1.0
"""Seconds between two times that counts are written."""


class Watch(Protocol):
    """Told what happens in trials, for metrics."""

    def compared(self, mode: Mode, group: TrialGroup, compared: int, disagreed: int) -> None:
        """Answers of a group were compared."""

    def failed(self, mode: Mode, errors: int) -> None:
        """The head on trial failed on answers."""

    def running(self, starts: Sequence[Start]) -> None:
        """These trials run."""


class Trials:
    """The trials of a store.

    Args:
        store: where log and counts are.
        live: the live head, and its log.
        engine: computes what heads say.
        verified: what labels say.
        groups: of the bundle's classes.
        remembers: whether this server remembers answers.
        watch: told what happens.

    Attributes:
        log: of what was started and ended.
        counts: of all processes, in the store.
    """

    def __init__(
        self, store: Store, live: Live, engine: Engine, verified: Verified, groups: Mapping[str, TrialGroup],
        remembers: bool, watch: Watch,
    ) -> None:  # fmt: skip
        self.log = TrialLog(store)
        self.counts = CountsStore(store)
        self.live = live
        self.verified = verified
        self.remembers = remembers
        self._store = store
        self._renames = Renames(store)
        self._groups = groups
        self._watch = watch
        self._opinions = Opinions(engine, self._tell)
        self._canaries: list[Start] = []
        self._refused: dict[int, str] = {}  # trials whose heads cannot be bound, and why
        self._taking_up = asyncio.Lock()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The trials that run here."""
        return self._opinions.pairs

    def answering(self, key: str | None, ref: str) -> BoundHead | None:
        """Return the head that a canary answers a request with. None means that the live one answers.

        Args:
            key: name of the request's key, if it has one.
            ref: the sender's own name for its images; may be empty.
        """
        if not self._canaries:
            return None
        chosen = answering(self._canaries, key, ref)
        return next((pair.head for pair in self.pairs if pair.start is chosen), None)

    def saw(self, scores: Sequence[Scores]) -> None:
        """Take note of answers; called before a prior changes their logits."""
        if self.pairs:
            self._opinions.saw(scores)

    def _tell(self, pair: Pair, found: Compared) -> None:
        for group, compared, disagreed in pair.by_group(found):
            self._watch.compared(pair.start.mode, group, compared, disagreed)
        self._watch.failed(pair.start.mode, found.errors)

    async def end(self, number: int, outcome: Outcome, actor: str, reason: str) -> TrialSummary:
        """End a trial; one that has ended stays as it is.

        Raises:
            NotFound: there is no such trial.
            StoreError: the store cannot be read or written.
        """

        def make(record: int, previous: str | None) -> End:
            self.log.trial(number)
            if number in self.log.ends:
                raise _Ended
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            return End(
                number=record, trial=number, outcome=outcome, actor=actor, reason=reason, at=at, previous=previous
            )

        with contextlib.suppress(_Ended):
            await self.log.append(make)
            LOG.info("trial %d: %s, by %s: %s", number, outcome, actor, reason)
        await self.take_up()
        return TrialSummary(start=self.log.trial(number), end=self.log.ends[number])

    async def page(self, limit: int, after: int | None) -> tuple[list[TrialSummary], int | None]:
        """Return some trials, the newest first, and the number after which the next page begins."""
        await self.catch_up()
        found, more = page(self.log.starts, limit, after)
        return [TrialSummary(start=one, end=self.log.ends.get(one.number)) for one in found], more

    async def state(self, number: int) -> TrialState:
        """Return what a trial has come to, by all processes.

        Raises:
            NotFound: there is no such trial.
            StoreError: the store cannot be read, or a head of it is damaged.
        """
        await self.catch_up()
        start, end = self.log.trial(number), self.log.ends.get(number)
        pair = next((one for one in self.pairs if one.start.number == number), None) or await self._pair(start)
        await self._opinions.take_up()
        await self.flush()
        recalls = await self.verified.of(pair)
        notes = [] if end is not None or recalls else await self._notes(pair)
        return state_of(start, end, await self.counts.read(number), recalls, pair.groups, notes)

    async def outlook(self, head: BoundHead, against: BoundHead, seconds: float) -> Outlook:
        """Return what is known of a trial of two heads that may take so many seconds."""
        now = int(datetime.now(UTC).timestamp() * 1e6)
        lately = await self.verified.lately(now) if self.remembers else 0
        points = {one.version: (await heads.record(self._store, one.version)).known for one in (head, against)}
        return Outlook(self.remembers, lately, seconds, head.head.digest == against.head.digest, points)

    async def _notes(self, pair: Pair) -> list[str]:
        start = pair.start
        seconds = (datetime.fromisoformat(start.until) - datetime.now(UTC)).total_seconds()
        return verdicts.notes(start.stop_if, start.margin, await self.outlook(pair.head, pair.against, seconds))

    async def catch_up(self) -> None:
        """Know what other servers have started and ended."""
        if await self.log.follow():
            await self.take_up()

    async def follow(self, seconds: float) -> None:
        """Catch up every so many seconds until it is cancelled; errors of the store are tried again."""
        said = ""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.catch_up()
            except BreadcrumbsError as error:
                if str(error) != said:
                    said = str(error)
                    LOG.error("trials go on as they were: %s", error)  # noqa: TRY400 - the sentence says it

    async def take_up(self) -> None:
        """Bind the heads of running trials, and let go of those that have ended."""
        async with self._taking_up:
            running = self.log.running
            known = {pair.start.number: pair for pair in self.pairs}
            pairs = [known.get(one.number) or await self._bound(one) for one in running]
            self._opinions.pairs = tuple(pair for pair in pairs if pair is not None)
            here = {pair.start.number for pair in self._opinions.pairs}
            self._canaries = [one for one in running if one.mode == "canary" and one.number in here]
            self._watch.running(running)
            for pair in known.values():
                if pair.start.number not in here:
                    await self._let_go(pair)

    async def _let_go(self, pair: Pair) -> None:
        number = pair.start.number
        try:
            await self.counts.write(number, pair.counts)
        except StoreError as error:
            LOG.warning("the last counts of trial %d are lost: %s", number, error)
        self.counts.forget(number)
        self.verified.forget(number)

    async def _bound(self, start: Start) -> Pair | None:
        try:
            return await self._pair(start)
        except BreadcrumbsError as error:
            if self._refused.get(start.number) != str(error):
                LOG.error("trial %d does not run here: %s", start.number, error)  # noqa: TRY400 - the sentence says it
            self._refused[start.number] = str(error)
            return None

    async def _pair(self, start: Start) -> Pair:
        head, against = await self.live.named(start.head), await self.live.named(start.against)
        became = {**await self._renames.of(start.against), **await self._renames.of(start.head)}
        looks = start.stop_if.unknown is not None and start.number not in self.log.ends
        points = await self._points(start) if looks else None
        return paired(start, head, against, became, self._groups, points)

    async def _points(self, start: Start) -> Points | None:
        """By what both heads tell how well a feature is known; they could when the trial started."""
        head, against = [await heads.read_known(self._store, one) for one in (start.head, start.against)]
        return None if head is None or against is None else (head, against)

    async def flush(self) -> None:
        """Write what this process counted.

        Raises:
            StoreError: the store cannot be written.
        """
        for pair in self.pairs:
            await self.counts.write(pair.start.number, pair.counts)

    async def compare(self) -> None:
        """Compute opinions until it is cancelled."""
        await self._opinions.run()

    async def close(self) -> None:
        """Compute what waits, and write the last counts."""
        try:
            await self._opinions.take_up()
            await self.flush()
        except StoreError as error:
            LOG.warning("the last counts of trials are lost: %s", error)
        self._opinions.close()


class _Ended(Exception):
    """The trial has ended already."""
