"""All refits of a store: started, listed, followed and cancelled from any server, run by the one that has a refitter.

The store is the line between them. Whoever takes a request writes it down; the one that runs refits finds it there,
and alone writes what becomes of it; the others read that back. A wish to cancel is an object too. It knows nothing of
HTTP, and not how a refit is run.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from datetime import UTC, datetime

from models.errors import BreadcrumbsError
from serving import job as jobs
from serving.job import ENDED, Job, State, Trail
from serving.keys import owner_of
from serving.limits import Overloaded, TooManyJobs
from serving.refit import RefitRequest
from serving.refitter import Refitter
from serving.store import Conflict, NotFound, Store, StoreError

LOG = logging.getLogger("breadcrumbs.jobs")
PATIENCE = 20.0
"""Seconds that a refit on another server may take to be cancelled."""


class KeyReused(Conflict):
    """An Idempotency-Key that came before, with another request."""


class Jobs:
    """The refits of a store, as this server knows them.

    Args:
        store: where they are kept.
        queue: jobs waiting behind the running one at most.
        refitter: runs them here; none: another server on this store does.
        look: seconds between two looks at what other servers did; 0: never.
    """

    def __init__(self, store: Store, queue: int, refitter: Refitter | None, look: float = 0.0) -> None:
        self._store = store
        self._queue = queue
        self._refitter = refitter
        self._seconds = look
        self._trails: dict[str, Trail] = {}
        self._left_out = set[str]()
        self._starting = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._looks: asyncio.Task[None] | None = None
        self._open = False

    async def open(self) -> None:
        """Read back what the store knows; where refits run here, mark what was cut short, and begin to work."""
        await self._take_in()
        self._open = True
        if self._refitter is not None:
            for trail in self._unfinished():
                if trail.job.state == "queued" and trail.elsewhere:
                    await self._refitter.add(trail)
                else:
                    await self._refitter.conclude(trail)
            self._refitter.open()
        if self._seconds:
            self._looks = asyncio.create_task(self._keep_looking())

    def _unfinished(self) -> list[Trail]:
        return [trail for trail in self._trails.values() if trail.job.state not in ENDED]

    async def _keep_looking(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.look()
            except BreadcrumbsError as error:
                if str(error) != said:
                    said = str(error)
                    LOG.error("refits of other servers are not seen: %s", error)  # noqa: TRY400 - the sentence says it

    async def look(self) -> None:
        """See what other servers did: started, wished to cancel, and, where refits do not run here, ran."""
        for trail in await self._take_in():
            if self._refitter is not None and trail.job.state == "queued":
                await self._refitter.add(trail)
        for trail in self._unfinished():
            await self._see(trail)

    async def _take_in(self) -> list[Trail]:
        """Read the jobs of the store that are not known yet, and return them."""
        fresh = []
        async with self._looking:
            for name in await self._store.folders("refits"):
                if name in self._trails or name in self._left_out:
                    continue
                try:
                    trail = await jobs.read(self._store, name)
                except NotFound:  # of a writer that was killed: nothing was promised
                    continue
                except StoreError:
                    LOG.exception("a refit is left out")
                    self._left_out.add(name)
                    continue
                self._trails[name] = trail
                fresh.append(trail)
        return fresh

    async def _see(self, trail: Trail) -> None:
        """Read what another server wrote of a job: the wish to cancel it, or how far it has come."""
        if self._refitter is None:
            await trail.read()
        elif await self._store.has(f"refits/{trail.job.id}/cancel.json"):
            with contextlib.suppress(Conflict):
                await self._refitter.cancel(trail)

    async def again(self, job: str, actor: str = "api", most: int | None = None) -> Job:
        """Queue a refit that came to nothing once more, from its stored inputs, as a new job.

        Raises:
            NotFound: there is none.
            Conflict: it has not ended, or it succeeded.
            Overloaded, TooManyJobs: as `start`.
        """
        known = (await self.find(job)).job
        if known.state not in ENDED or known.state == "succeeded":
            raise Conflict(
                f"refit {job} is {known.state}; only an interrupted, failed or cancelled one can be restarted"
            )
        return await self.start(known.request, None, actor, most)

    async def start(
        self, request: RefitRequest, key: str | None = None, actor: str = "api", most: int | None = None
    ) -> Job:
        """Queue a refit; the same key and request give the job they gave before, on whatever server.

        Args:
            request: what to refit from.
            key: the client's own name for this wish.
            actor: who asks.
            most: refits of theirs that may wait or run; None: no limit of their own.

        Raises:
            KeyReused: the key came before with another request.
            TooManyJobs: `most` of theirs wait or run.
            Overloaded: too many wait.
        """
        async with self._starting:
            if not self._open:
                raise Overloaded("the server is stopping")
            if key is not None and (known := await self._of(key)) is not None:
                return self._same(known, request, key)
            if most is not None:
                await self._check_share(owner_of(actor), most)
            counts = self.counts()
            if counts["queued"] + counts["running"] > self._queue:
                raise Overloaded(f"{counts['queued']} refits are waiting behind one; the limit is {self._queue}", 30)
            async with self._looking:  # so that a look does not take our own for another server's
                trail = await jobs.create(self._store, request, key, actor, elsewhere=self._refitter is None)
                if trail is not None:
                    self._trails[trail.job.id] = trail
            if trail is None:  # another server was first with this key
                return self._same(await self.find(jobs.named(key or "")), request, key)
            if self._refitter is not None:
                await self._refitter.add(trail)
            return trail.job

    async def _check_share(self, owner: str | None, most: int) -> None:
        await self.look()
        own = [trail.job.id for trail in self._unfinished() if trail.job.owner == owner]
        if len(own) >= most:
            raise TooManyJobs(
                f"{len(own)} refits of the key {owner!r} wait or run; its limit is {most}: wait for one to end, cancel "
                f"one, or have its max_jobs raised",
                30,
            )

    async def _of(self, key: str) -> Trail | None:
        for trail in self._trails.values():
            if trail.key == key:
                return trail
        with contextlib.suppress(NotFound):
            return await self.find(jobs.named(key))
        return None

    def _same(self, trail: Trail, request: RefitRequest, key: str | None) -> Job:
        if trail.job.request != request:
            raise KeyReused(f"Idempotency-Key {key!r} was already used for a different request: {trail.job.id}")
        return trail.job

    async def find(self, job: str) -> Trail:
        """Return a job with its events, as the store has them now.

        Raises:
            NotFound: there is none.
        """
        if job not in self._trails:
            await self.look()
        if job not in self._trails:
            raise NotFound(f"there is no refit {job!r:.80}")
        trail = self._trails[job]
        if self._refitter is None and trail.job.state not in ENDED:
            await trail.read()
        return trail

    async def all(self) -> list[Job]:
        """Return all jobs, the newest first."""
        if self._refitter is None:
            await self.look()
        return sorted((trail.job for trail in self._trails.values()), key=lambda job: job.created, reverse=True)

    def counts(self) -> Counter[State]:
        """Return how many jobs are in each state."""
        return Counter(trail.job.state for trail in self._trails.values())

    async def using(self, sha: str) -> str | None:
        """Return a job that still needs a snapshot, if there is one."""
        await self.look()
        for trail in self._unfinished():
            if sha in {*trail.job.request.snapshots, trail.job.request.holdout}:
                return trail.job.id
        return None

    async def report(self, job: str) -> bytes | None:
        """Return a job's report as JSON, if it has come so far."""
        try:
            return await self._store.get(f"refits/{(await self.find(job)).job.id}/report.json")
        except NotFound:
            return None

    async def page(self, job: str) -> bytes:
        """Return a job's report as a page.

        Raises:
            NotFound: there is no such job, or it has not come so far.
        """
        known = (await self.find(job)).job
        try:
            return await self._store.get(f"refits/{known.id}/report.html")
        except NotFound as error:
            raise NotFound(f"refit {known.id} has no report: it is {known.state}") from error

    async def cancel(self, job: str, actor: str = "api") -> Job:
        """End a job that waits or runs; one that was cancelled before stays so.

        Raises:
            NotFound: there is none.
            Conflict: it has ended otherwise, or its head is being stored.
            Overloaded: the server that runs it did not answer.
        """
        trail = await self.find(job)
        if self._refitter is not None:
            await self._refitter.cancel(trail)
            await trail.ended()
        elif trail.job.state not in ENDED:
            wish = f'{{"actor": "{actor}", "at": "{datetime.now(UTC).isoformat(timespec="milliseconds")}"}}\n'
            with contextlib.suppress(Conflict):
                await self._store.create(f"refits/{job}/cancel.json", wish.encode())
            try:
                await asyncio.wait_for(trail.ended(), PATIENCE)
            except TimeoutError as error:
                raise Overloaded(
                    f"refit {job} is to be cancelled, but the server that runs refits has not done so in {PATIENCE:g} s"
                ) from error
        if trail.job.state != "cancelled":
            raise Conflict(f"refit {job} has {trail.job.state}; it cannot be cancelled any more")
        return trail.job

    async def close(self) -> None:
        """Stop what runs here; what was not finished, and was asked for here, is interrupted."""
        self._open = False
        if self._looks is not None:
            self._looks.cancel()
        if self._refitter is not None:
            await self._refitter.close([trail for trail in self._unfinished() if not trail.elsewhere])
