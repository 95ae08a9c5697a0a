"""The refits of a server: one at a time, a bounded queue behind it, none lost without a word.

What was queued or running when the server ended is `interrupted`, never silently run again. What a job is, is
`serving.job`'s; how one refit goes is `serving.refit`'s. It knows nothing of HTTP.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from models.bundle import Bundle
from models.errors import BreadcrumbsError
from serving import child, refit
from serving import heads as stored
from serving import job as jobs
from serving.engine import BoundHead
from serving.job import ENDED, Job, State, Trail
from serving.limits import Overloaded
from serving.live import Live
from serving.refit import Made, RefitFailed, RefitRequest
from serving.store import Conflict, NotFound, Store, StoreError

LOG = logging.getLogger("breadcrumbs.jobs")
EVENTS = 2_000
"""Events that a child may cause in one job; later ones are dropped, the job's end is not."""
PROGRESS_SECONDS = 0.25
"""Between two progress events that are kept; each is a write to the store."""
INTERRUPTED = {"type": "interrupted", "message": "the server ended before the refit did; start it again"}


class KeyReused(Conflict):
    """An Idempotency-Key that came before, with another request."""


class Jobs:
    """Starts, runs and stops refits.

    Args:
        store: where they are kept.
        bundle: whose backbone the heads are for.
        live: what they are compared with, and may replace.
        command: the child, without its arguments.
        queue: jobs waiting behind the running one at most.
        limits: what a child may take.
    """

    def __init__(
        self, store: Store, bundle: Bundle, live: Live, command: Sequence[str], queue: int, limits: child.Limits
    ) -> None:
        self._store = store
        self._bundle = bundle
        self._live = live
        self._command = tuple(command)
        self._queue = queue
        self._limits = limits
        self._trails: dict[str, Trail] = {}
        self._line: asyncio.Queue[Trail] = asyncio.Queue()
        self._withdrawn = set[str]()
        self._starting = asyncio.Lock()
        self._running: tuple[Trail, asyncio.Task[Any]] | None = None
        self._worker: asyncio.Task[None] | None = None

    async def open(self, *, own: bool = True) -> None:
        """Read back what the store knows, mark what was cut short, and begin to work.

        Args:
            own: whether refits run here; where they do not, what is unfinished is another server's.
        """
        for name in await self._store.names("refits"):
            if not name.endswith("/request.json"):
                continue
            try:
                trail = await jobs.read(self._store, name.split("/")[1])
            except StoreError:
                LOG.exception("a refit is left out")
                continue
            self._trails[trail.job.id] = trail
            if own and trail.job.state not in ENDED:
                await self._conclude(trail)
        self._worker = asyncio.create_task(self._work())

    async def _conclude(self, trail: Trail) -> None:
        """Say of a job that a dead server left what became of it: its head may be there already, and even live."""
        made = [head for head in await stored.records(self._store) if head.lineage.refit == trail.job.id]
        verdict = None
        if made and (report := await self.report(trail.job.id)) is not None:
            verdict = refit.concluded(made[0], report, await self._live.log())
        if verdict is None:
            await trail.end("interrupted", error=INTERRUPTED)
        else:
            await trail.end("succeeded", verdict=verdict.model_dump(mode="json"))

    async def again(self, job: str, actor: str = "api") -> Job:
        """Queue a refit that came to nothing once more, from its stored inputs, as a new job.

        Raises:
            NotFound: there is none.
            Conflict: it has not ended, or it succeeded.
            Overloaded: too many wait.
        """
        known = self.trail(job).job
        if known.state not in ENDED or known.state == "succeeded":
            raise Conflict(f"refit {job} is {known.state}; only one that came to nothing can be started again")
        return await self.start(known.request, None, actor)

    async def start(self, request: RefitRequest, key: str | None = None, actor: str = "api") -> Job:
        """Queue a refit; the same key and request give the job they gave before.

        Args:
            request: what to refit from.
            key: the client's own name for this wish.
            actor: who asks.

        Raises:
            KeyReused: the key came before with another request.
            Overloaded: too many wait.
        """
        async with self._starting:
            if self._worker is None:
                raise Overloaded("the server is stopping")
            for trail in self._trails.values():
                if key is not None and trail.key == key:
                    if trail.job.request != request:
                        raise KeyReused(f"Idempotency-Key {key!r} came before with another request: {trail.job.id}")
                    return trail.job
            counts = self.counts()
            if counts["queued"] + counts["running"] > self._queue:
                raise Overloaded(f"{counts['queued']} refits are waiting behind one; the limit is {self._queue}", 30)
            trail = await jobs.create(self._store, request, key, actor)
            self._trails[trail.job.id] = trail
            self._line.put_nowait(trail)
            return trail.job

    def trail(self, job: str) -> Trail:
        """Return a job with its events.

        Raises:
            NotFound: there is none.
        """
        if job not in self._trails:
            raise NotFound(f"there is no refit {job!r:.80}")
        return self._trails[job]

    def all(self) -> list[Job]:
        """Return all jobs, the newest first."""
        return sorted((trail.job for trail in self._trails.values()), key=lambda job: job.created, reverse=True)

    def counts(self) -> Counter[State]:
        """Return how many jobs are in each state."""
        return Counter(trail.job.state for trail in self._trails.values())

    def using(self, sha: str) -> str | None:
        """Return a job that still needs a snapshot, if there is one."""
        for job in self.all():
            if job.state not in ENDED and sha in {*job.request.snapshots, job.request.holdout}:
                return job.id
        return None

    async def report(self, job: str) -> bytes | None:
        """Return a job's report as JSON, if it has come so far."""
        try:
            return await self._store.get(f"refits/{self.trail(job).job.id}/report.json")
        except NotFound:
            return None

    async def page(self, job: str) -> bytes:
        """Return a job's report as a page.

        Raises:
            NotFound: there is no such job, or it has not come so far.
        """
        known = self.trail(job).job
        try:
            return await self._store.get(f"refits/{known.id}/report.html")
        except NotFound as error:
            raise NotFound(f"refit {known.id} has no report: it is {known.state}") from error

    async def cancel(self, job: str) -> Job:
        """End a job that waits or runs; one that was cancelled before stays so.

        Raises:
            NotFound: there is none.
            Conflict: it has ended otherwise, or its head is being stored.
        """
        trail = self.trail(job)
        if self._running and self._running[0] is trail:
            if not self._running[1].cancel():
                raise Conflict(f"refit {job} has made its head; it cannot be cancelled any more")
        elif trail.job.state == "queued" and job not in self._withdrawn:
            self._withdrawn.add(job)
            await trail.end("cancelled")
        async with trail.changed:
            await trail.changed.wait_for(lambda: trail.job.state in ENDED)
        if trail.job.state != "cancelled":
            raise Conflict(f"refit {job} has {trail.job.state}; it cannot be cancelled any more")
        return trail.job

    async def close(self) -> None:
        """Stop the running child; what was not finished is interrupted."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        for trail in list(self._trails.values()):
            if trail.job.state == "queued" and trail.job.id not in self._withdrawn:
                self._withdrawn.add(trail.job.id)
                await trail.end("interrupted", error=INTERRUPTED)
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker

    async def _work(self) -> None:
        while True:
            trail = await self._line.get()
            if trail.job.id not in self._withdrawn:
                await self._run(trail)

    async def _run(self, trail: Trail) -> None:
        """Bring one job to its end, whatever happens."""
        began = time.monotonic()
        try:
            await self._refit(trail)
        except RefitFailed as error:
            await trail.end("failed", error={"type": error.kind, "message": str(error)})
        except BreadcrumbsError as error:
            await trail.end("failed", error={"type": "refit", "message": str(error)})
        except asyncio.CancelledError:
            stopping = self._worker is None
            if trail.job.state not in ENDED:
                await trail.end(
                    "interrupted" if stopping else "cancelled", **({"error": INTERRUPTED} if stopping else {})
                )
            if stopping:
                raise
        except Exception:
            LOG.exception("refit %s: this is a bug", trail.job.id)
            await trail.end(
                "failed", error={"type": "internal", "message": "an unexpected error; see the server's log"}
            )
        finally:
            self._running = None
            LOG.info("refit %s: %s after %.1f s", trail.job.id, trail.job.state, time.monotonic() - began)

    async def _refit(self, trail: Trail) -> None:
        compared = self._live.head
        making = asyncio.create_task(self._make(trail, compared))
        self._running = (trail, making)
        try:
            made = await making
        except asyncio.CancelledError:
            with contextlib.suppress(asyncio.CancelledError, BreadcrumbsError):
                await making  # the child is being stopped
            raise
        settling = asyncio.create_task(self._settle(trail, compared.version, made))
        try:
            await asyncio.shield(settling)
        except asyncio.CancelledError:
            await settling  # a head that was made is not lost to a server that is stopping
            raise

    async def _make(self, trail: Trail, compared: BoundHead) -> Made:
        job = trail.job
        await trail.say({"event": "state", "state": "running", "compared": compared.version})
        return await refit.make(
            job.id, job.request, self._store, self._bundle, compared.head, self._command, self._limits, _Hearing(trail)
        )

    async def _settle(self, trail: Trail, compared: int, made: Made) -> None:
        job = trail.job
        await self._store.create(f"refits/{job.id}/report.json", made.text)
        if made.page is not None:
            await self._store.create(f"refits/{job.id}/report.html", made.page)
        verdict = await refit.settle(
            job.id, job.request, self._store, self._bundle, self._live, compared, made.head, made.report, trail.actor
        )
        await trail.end("succeeded", verdict=verdict.model_dump(mode="json"))


class _Hearing:
    """Keeps what a child says, within bounds: progress at most every so often, and not for ever."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._last = -PROGRESS_SECONDS

    async def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] not in {"stage", "progress"} or len(self._trail.events) >= EVENTS:
            return
        if event["event"] == "progress":
            if time.monotonic() - self._last < PROGRESS_SECONDS:
                return
            self._last = time.monotonic()
        await self._trail.say(event)
