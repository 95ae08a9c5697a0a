"""All refits of a store: started, listed, followed and cancelled from any server, run by the one that has a refitter.

The store is the line between them. Whoever takes a request writes it down; the one that runs refits finds it there,
and alone writes what becomes of it; the others read that back. A wish to cancel is an object too. Of several that could
run refits, the one with the lease does; the others wait for it and are like those that cannot. It knows nothing of
HTTP, and not how a refit is run.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from datetime import UTC, datetime

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.refits import job as jobs
from breadcrumbs.serving.refits.job import ENDED, History, Job, State
from breadcrumbs.serving.refits.refit import RefitRequest
from breadcrumbs.serving.refits.worker import Refitter
from breadcrumbs.serving.refusals import BadRequest, Overloaded, TooManyJobs
from breadcrumbs.serving.state.keys import owner_of
from breadcrumbs.serving.state.lease import LOOK, RENEW, Lease, Lost
from breadcrumbs.serving.state.store import AT_ONCE, Conflict, NotFound, Store, StoreError

LOG = logging.getLogger("breadcrumbs.jobs")
FIRST, SELDOM = 0.1, 300.0
"""Seconds before a folder without a job is looked into again: twice as long each time."""
PATIENCE = 20.0
"""Seconds that a refit on another server may take to be cancelled."""


class KeyReused(Conflict):
    """An Idempotency-Key that came before, with another request."""


class Jobs:
    """The refits of a store, as this server knows them.

    Args:
        store: where they are kept.
        queue: jobs waiting behind the running one at most.
        own: runs them here while this server has the lease; none: another server on this store runs them.
        lease: says which server on this store does.
        look: seconds between two looks at what other servers did; 0: never, except while another has the lease.
    """

    def __init__(
        self, store: Store, queue: int, own: Refitter | None, lease: Lease, look: float = 0.0
    ) -> None:  # fmt: skip
        self._store = store
        self._queue = queue
        self._own = own
        self._lease = lease
        self._leads = False
        self._leading: asyncio.Task[None] | None = None
        self._absent: dict[str, tuple[float, float]] = {}
        self._seconds = look
        self._histories: dict[str, History] = {}
        self._left_out = set[str]()
        self._starting = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._looks: asyncio.Task[None] | None = None
        self._open = False

    @property
    def _refitter(self) -> Refitter | None:
        """What runs refits here, if they run here now."""
        return self._own if self._leads else None

    @property
    def waits_for(self) -> str:
        """The server that runs the refits which this one could run, in words; empty: none."""
        if self._own is None or self._leads:
            return ""
        return "a server that is not known yet" if self._lease.holder is None else self._lease.holder.told

    async def open(self) -> None:
        """Read back what the store knows; where refits run here, mark what was cut short, and begin to work."""
        await self._take_in()
        self._open = True
        if self._own is not None:
            await self._try_to_lead()
            if not self._leads:
                LOG.warning(
                    "refits do not run here: %s runs those of this store; they run here once it has ended",
                    self.waits_for,
                )
            self._leading = asyncio.create_task(self._keep_lease())
        if self._seconds:
            self._looks = asyncio.create_task(self._keep_looking())

    async def _keep_lease(self) -> None:
        """Keep the lease, or wait for it, for ever."""
        while True:
            await asyncio.sleep(RENEW if self._leads else LOOK)
            if self._leads:
                await self._go_on_leading()
                continue
            await self._try_to_lead()
            if not self._leads and not self._seconds:  # type: ignore[redundant-expr]  # awaiting may have changed it
                with contextlib.suppress(BreadcrumbsError):
                    await self.look()

    async def _go_on_leading(self) -> None:
        try:
            await self._lease.renew()
        except Lost as error:
            self._leads = False
            LOG.error("refits do not run here any more: %s", error)  # noqa: TRY400 - the sentence says it
            if self._own is not None:
                await self._own.abandon()
        except StoreError as error:  # nobody has taken over, as far as anybody can tell
            LOG.warning("the lease of refits cannot be renewed: %s", error)

    async def _try_to_lead(self) -> None:
        """Run refits here if no other server does: those that wait, and what a dead server has left."""
        try:
            if self._own is None or not await self._lease.acquire():
                return
        except StoreError as error:
            LOG.warning("refits do not run here yet: %s", error)
            return
        async with self._starting:
            await self._take_in()
            for history in self._unfinished():
                with contextlib.suppress(NotFound):
                    await history.read(quiet=0)
                if history.job.state == "queued" and history.elsewhere:
                    await self._own.add(history)
                elif history.job.state not in ENDED:
                    await self._own.conclude(history)
            self._own.open()
            self._leads = True
        LOG.info("refits of this store run here")

    def _unfinished(self) -> list[History]:
        return [history for history in self._histories.values() if history.job.state not in ENDED]

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

    async def look(self, wanted: str = "") -> None:
        """See what other servers did: started, wished to cancel, and, where refits do not run here, ran.

        Args:
            wanted: a job that is looked for even if it was not there a moment ago.
        """
        for history in await self._take_in(wanted):
            if self._refitter is not None and history.job.state == "queued":
                await self._refitter.add(history)
        for history in self._unfinished():
            await self._see(history)

    async def _take_in(self, wanted: str = "") -> list[History]:
        """Read the jobs of the store that are not known yet, and return them; forget those that were removed."""
        async with self._looking:
            self._absent.pop(wanted, None)
            names = set(await self._store.folders("refits"))
            for gone in [name for name, one in self._histories.items() if name not in names and one.job.state in ENDED]:
                del self._histories[gone]
            self._absent = {name: when for name, when in self._absent.items() if name in names}
            now = time.monotonic()
            unknown = sorted(names - self._histories.keys() - self._left_out)
            unknown = [name for name in unknown if self._absent.get(name, (0.0, 0.0))[0] <= now]
            fresh = []
            for start in range(0, len(unknown), AT_ONCE):
                fresh += await asyncio.gather(*map(self._read, unknown[start : start + AT_ONCE]))
        return [history for history in fresh if history is not None]

    async def _read(self, name: str) -> History | None:
        """Read a job; None: it is not there, or damaged."""
        try:
            history = await jobs.read(self._store, name)
        except NotFound:  # of a writer that was killed or is at work: nothing was promised; looked for ever less often
            pause = min(2 * self._absent.get(name, (0.0, FIRST))[1], SELDOM)
            self._absent[name] = (time.monotonic() + pause, pause)
            return None
        except StoreError:
            LOG.exception("a refit is left out")
            self._left_out.add(name)
            return None
        self._absent.pop(name, None)
        self._histories[name] = history
        return history

    async def _see(self, history: History) -> None:
        """Read what another server wrote of a job: the wish to cancel it, or how far it has come."""
        if self._refitter is None:
            await history.read()
        elif await self._store.has(f"refits/{history.job.id}/cancel.json"):
            with contextlib.suppress(Conflict):
                await self._refitter.cancel(history)

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
                history = await jobs.create(self._store, request, key, actor, elsewhere=self._refitter is None)
                if history is not None:
                    self._histories[history.job.id] = history
            if history is None:  # another server was first with this key
                return self._same(await self.find(jobs.named(key or "")), request, key)
            if self._refitter is not None:
                await self._refitter.add(history)
            return history.job

    async def _check_share(self, owner: str | None, most: int) -> None:
        await self.look()
        own = [history.job.id for history in self._unfinished() if history.job.owner == owner]
        if len(own) >= most:
            raise TooManyJobs(
                f"{len(own)} refits of the key {owner!r} wait or run; its limit is {most}: wait for one to end, cancel "
                f"one, or have its max_jobs raised",
                30,
            )

    async def _of(self, key: str) -> History | None:
        for history in self._histories.values():
            if history.key == key:
                return history
        with contextlib.suppress(NotFound):
            return await self.find(jobs.named(key))
        return None

    def _same(self, history: History, request: RefitRequest, key: str | None) -> Job:
        if history.job.request != request:
            raise KeyReused(f"Idempotency-Key {key!r} was already used for a different request: {history.job.id}")
        return history.job

    async def find(self, job: str) -> History:
        """Return a job with its events, as the store has them now.

        Raises:
            NotFound: there is none.
        """
        if job not in self._histories:
            await self.look(job)
        if job not in self._histories:
            raise NotFound(f"there is no refit {job!r:.80}")
        history = self._histories[job]
        if self._refitter is None and history.job.state not in ENDED:
            await history.read()
        return history

    async def listed(self, limit: int, after: str | None = None) -> tuple[list[Job], str | None]:
        """Return some jobs, the newest first.

        Args:
            limit: jobs at most.
            after: what the page before returned with its jobs, or the id of its last one.

        Returns:
            The jobs, and what the next page is asked for with; None: there is none.

        Raises:
            BadRequest: `after` is neither, or there is no such job any more.
        """
        if self._refitter is None:
            await self.look()
        found = sorted(((one.job.created, name) for name, one in self._histories.items()), reverse=True)
        if after is not None:
            created, slash, name = after.partition("/")
            if not slash:
                if after not in self._histories:
                    raise BadRequest(f"after={after!r:.100}: expected `next` of a page, or a refit that is there")
                created, name = self._histories[after].job.created, after
            found = [one for one in found if one < (created, name)]
        chosen = found[:limit]
        return [self._histories[name].job for _, name in chosen], "/".join(chosen[-1]) if len(chosen) < len(
            found
        ) else None

    def counts(self) -> Counter[State]:
        """Return how many jobs are in each state."""
        return Counter(history.job.state for history in self._histories.values())

    async def using(self, sha: str) -> str | None:
        """Return a job that still needs a snapshot, if there is one."""
        await self.look()
        for history in self._unfinished():
            if sha in {*history.job.request.snapshots, history.job.request.holdout}:
                return history.job.id
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
        history = await self.find(job)
        if self._refitter is not None:
            await self._refitter.cancel(history)
            await history.ended()
        elif history.job.state not in ENDED:
            wish = json.dumps({"actor": actor, "at": datetime.now(UTC).isoformat(timespec="milliseconds")})
            with contextlib.suppress(Conflict):
                await self._store.create(f"refits/{job}/cancel.json", wish.encode() + b"\n")
            try:
                await asyncio.wait_for(history.ended(), PATIENCE)
            except TimeoutError as error:
                raise Overloaded(
                    f"refit {job} is to be cancelled, but the server that runs refits has not done so in {PATIENCE:g} s"
                ) from error
        if history.job.state != "cancelled":
            raise Conflict(f"refit {job} has {history.job.state}; it cannot be cancelled any more")
        return history.job

    async def close(self) -> None:
        """Stop what runs here; what was not finished, and was asked for here, is interrupted."""
        self._open = False
        if self._looks is not None:
            self._looks.cancel()
        if self._refitter is not None:
            await self._refitter.close([history for history in self._unfinished() if not history.elsewhere])
        if self._leading is not None:
            self._leading.cancel()
        self._leads = False
        await self._lease.release()
