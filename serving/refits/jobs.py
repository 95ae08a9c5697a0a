"""All refits of a store: started, listed, followed and cancelled from any server, run by the one that has the lease.

Servers talk through the store. The server that takes a request writes it there. The server that runs refits reads it,
and alone writes what becomes of it; the others read that. A request to cancel is an object, too. The servers that
could run refits and do not have the lease wait for it. It knows nothing of HTTP, or of how a refit is run.
"""

import asyncio
import contextlib
import json
import logging
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.refits.catalog import Catalog
from breadcrumbs.serving.refits.job import ENDED, History, Job, State, named
from breadcrumbs.serving.refits.refit import RefitRequest
from breadcrumbs.serving.refits.worker import Refitter
from breadcrumbs.serving.refusals import Overloaded, TooManyJobs
from breadcrumbs.serving.state.keys import NO_KEY, owner_of
from breadcrumbs.serving.state.lease import POLL, RENEW, Lease, Lost
from breadcrumbs.serving.state.store import Conflict, NotFound, Store, StoreError

LOG = logging.getLogger("breadcrumbs.jobs")
PATIENCE = 20.0
"""Seconds to wait until another server has cancelled a refit."""


class KeyReused(Conflict):
    """An Idempotency-Key that was used before for another request."""


class Jobs:
    """The refits of a store, as this server knows them.

    Args:
        store: where they are kept.
        queue: largest number of jobs that wait behind the running one.
        own: runs them here while this server has the lease. None means that another server on this store runs them.
        lease: says which server runs them.
        poll: seconds between two polls of the store. 0 means no polling, except while another server has the lease.
        started: is told who starts a refit.
    """

    def __init__(
        self, store: Store, queue: int, own: Refitter | None, lease: Lease, poll: float = 0.0,
        started: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._store = store
        self._queue = queue
        self._own = own
        self._lease = lease
        self._leads = False
        self._leading: asyncio.Task[None] | None = None
        self._seconds = poll
        self._started = started
        self._polling: asyncio.Task[None] | None = None
        self._catalog = Catalog(store)
        self._starting = asyncio.Lock()
        self._open = False

    @property
    def _refitter(self) -> Refitter | None:
        """What runs refits, if this server runs them now."""
        return self._own if self._leads else None

    @property
    def waits_for(self) -> str:
        """The server that runs refits in this one's place, in words; empty if there is none."""
        if self._own is None or self._leads:
            return ""
        return "a server that is not known yet" if self._lease.holder is None else self._lease.holder.told

    @property
    def run_here(self) -> bool:
        """Whether this server runs refits now."""
        return self._refitter is not None

    async def busy(self) -> bool:
        """Whether a refit runs or waits, on whatever server it was started."""
        await self.poll()
        return bool(self._catalog.unfinished())

    async def open(self) -> None:
        """Read the jobs of the store; if refits run here, close those that were cut short, and begin to work."""
        await self._catalog.scan()
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
            self._polling = asyncio.create_task(self._keep_polling())

    async def _keep_lease(self) -> None:
        """Keep the lease, or wait for it, until cancelled."""
        while True:
            await asyncio.sleep(RENEW if self._leads else POLL)
            if self._leads:
                await self._go_on_leading()
                continue
            await self._try_to_lead()
            if not self._leads and not self._seconds:  # type: ignore[redundant-expr]  # awaiting may have changed it
                with contextlib.suppress(BreadcrumbsError):
                    await self.poll()

    async def _go_on_leading(self) -> None:
        try:
            await self._lease.renew()
        except Lost as error:
            self._leads = False
            LOG.error("refits do not run here any more: %s", error)  # noqa: TRY400 - the sentence says it
            if self._own is not None:
                await self._own.abandon()
        except StoreError as error:  # no other server is known to have taken over
            LOG.warning("the lease of refits cannot be renewed: %s", error)

    async def _try_to_lead(self) -> None:
        """Run refits here if no other server does: those that wait, and those that a dead server left."""
        try:
            if self._own is None or not await self._lease.acquire():
                return
        except StoreError as error:
            LOG.warning("refits do not run here yet: %s", error)
            return
        async with self._starting:
            await self._catalog.scan()
            for history in self._catalog.unfinished():
                with contextlib.suppress(NotFound):
                    await history.read(quiet=0)
                if history.job.state == "queued" and history.elsewhere:
                    await self._own.add(history)
                elif history.job.state not in ENDED:
                    await self._own.conclude(history)
            self._own.open()
            self._leads = True
        LOG.info("refits of this store run here")

    async def _keep_polling(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.poll()
            except BreadcrumbsError as error:
                if str(error) != said:
                    said = str(error)
                    LOG.error("refits of other servers are not seen: %s", error)  # noqa: TRY400 - the sentence says it

    async def poll(self, wanted: str = "") -> None:
        """Read what other servers did: jobs started, jobs to cancel, and, if refits do not run here, their events.

        Args:
            wanted: a job to read even if it was missing a moment ago.
        """
        for history in await self._catalog.scan(wanted):
            if self._refitter is not None and history.job.state == "queued":
                await self._refitter.add(history)
        for history in self._catalog.unfinished():
            await self._see(history)

    async def _see(self, history: History) -> None:
        """Read what another server wrote about a job: the request to cancel it, or its events."""
        if self._refitter is None:
            await history.read()
        elif await self._store.has(f"refits/{history.job.id}/cancel.json"):
            with contextlib.suppress(Conflict):
                await self._refitter.cancel(history)

    async def again(self, job: str, actor: str = NO_KEY, most: int | None = None) -> Job:
        """Queue a failed refit again, from its stored inputs, as a new job.

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
        self, request: RefitRequest, key: str | None = None, actor: str = NO_KEY, most: int | None = None
    ) -> Job:
        """Queue a refit; the same key and request return the same job, on any server.

        Args:
            request: what to refit from.
            key: the Idempotency-Key.
            actor: who starts it.
            most: largest number of refits of the actor that wait or run. None means no limit.

        Raises:
            KeyReused: the key came before with another request.
            TooManyJobs: the actor has `most` refits that wait or run.
            Overloaded: the queue is full.
        """
        async with self._starting:
            if not self._open:
                raise Overloaded("the server is stopping")
            if key is not None and (known := await self._of(key)) is not None:
                return self._same(known, request, key)
            if most is not None:
                await self._check_share(owner_of(actor), most)
            counts = self._catalog.counts()
            if counts["queued"] + counts["running"] > self._queue:
                raise Overloaded(f"{counts['queued']} refits are waiting behind one; the limit is {self._queue}", 30)
            history = await self._catalog.create(request, key, actor, elsewhere=self._refitter is None)
            if history is None:  # another server created the job of this key first
                return self._same(await self.find(named(key or "")), request, key)
            self._started(actor)
            if self._refitter is not None:
                await self._refitter.add(history)
            return history.job

    async def _check_share(self, owner: str | None, most: int) -> None:
        await self.poll()
        own = [history.job.id for history in self._catalog.unfinished() if history.job.owner == owner]
        if len(own) >= most:
            raise TooManyJobs(
                f"{len(own)} refits of the key {owner!r} wait or run; its limit is {most}: wait for one to end, cancel "
                f"one, or have its max_jobs raised",
                30,
            )

    async def _of(self, key: str) -> History | None:
        if (known := self._catalog.of_key(key)) is not None:
            return known
        with contextlib.suppress(NotFound):
            return await self.find(named(key))
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
        if self._catalog.get(job) is None:
            await self.poll(job)
        history = self._catalog.get(job)
        if history is None:
            raise NotFound(f"there is no refit {job!r:.80}")
        if self._refitter is None and history.job.state not in ENDED:
            await history.read(quiet=0)  # whoever has heard of the end elsewhere must find it here
        return history

    async def page(self, limit: int, after: str | None = None) -> tuple[list[Job], str | None]:
        """Return a page of jobs, the newest first.

        Args:
            limit: largest number of jobs.
            after: what the page before returned beside its jobs, or the id of its last job.

        Returns:
            The jobs, and the next page's `after`. None means that this is the last page.

        Raises:
            BadRequest: `after` is neither, or that job is gone.
        """
        if self._refitter is None:
            await self.poll()
        return self._catalog.page(limit, after)

    def counts(self) -> Counter[State]:
        """Return how many jobs are in each state."""
        return self._catalog.counts()

    async def using(self, sha: str) -> str | None:
        """Return the id of an unfinished job that needs a snapshot, if there is one."""
        await self.poll()
        for history in self._catalog.unfinished():
            if sha in {*history.job.request.snapshots, history.job.request.holdout}:
                return history.job.id
        return None

    async def report(self, job: str) -> bytes | None:
        """Return a job's report as JSON. None means that there is none yet."""
        try:
            return await self._store.get(f"refits/{(await self.find(job)).job.id}/report.json")
        except NotFound:
            return None

    async def report_page(self, job: str) -> bytes:
        """Return a job's report as HTML.

        Raises:
            NotFound: there is no such job, or it has no report yet.
        """
        known = (await self.find(job)).job
        try:
            return await self._store.get(f"refits/{known.id}/report.html")
        except NotFound as error:
            raise NotFound(f"refit {known.id} has no report: it is {known.state}") from error

    async def cancel(self, job: str, actor: str = NO_KEY) -> Job:
        """Cancel a job that waits or runs; a cancelled job stays cancelled.

        Raises:
            NotFound: there is none.
            Conflict: it has ended in another way, or its head is being stored.
            Overloaded: the server that runs it did not answer.
        """
        history = await self.find(job)
        if self._refitter is not None:
            await self._refitter.cancel(history)
            await history.ended()
        elif history.job.state not in ENDED and history.job.verdict is None:
            request = json.dumps({"actor": actor, "at": datetime.now(UTC).isoformat(timespec="milliseconds")})
            with contextlib.suppress(Conflict):
                await self._store.create(f"refits/{job}/cancel.json", request.encode() + b"\n")
            try:
                await asyncio.wait_for(history.decided(), PATIENCE)
            except TimeoutError as error:
                raise Overloaded(
                    f"refit {job} is to be cancelled, but the server that runs refits has not done so in {PATIENCE:g} s"
                ) from error
        if history.job.state != "cancelled":
            how = history.job.state if history.job.state in ENDED else "made its head"
            raise Conflict(f"refit {job} has {how}; it cannot be cancelled any more")
        return history.job

    async def close(self) -> None:
        """Stop the refits that run here; the unfinished jobs that were started here are interrupted."""
        self._open = False
        if self._polling is not None:
            self._polling.cancel()
        if self._refitter is not None:
            await self._refitter.close([history for history in self._catalog.unfinished() if not history.elsewhere])
        if self._leading is not None:
            self._leading.cancel()
        self._leads = False
        await self._lease.release()
