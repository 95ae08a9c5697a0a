"""Runs refits, one after another. Whatever happens to a refit, its last event says what became of it.

Only one of the servers on a store runs refits. `serving.refits.jobs` has the list of refits, `serving.refits.job` the
state of one, `serving.refits.refit` its steps. It knows nothing of HTTP.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.processes import child
from breadcrumbs.serving.refits import refit
from breadcrumbs.serving.refits.job import ENDED, History, State
from breadcrumbs.serving.refits.outputs import Made, RefitFailed, Report
from breadcrumbs.serving.refits.pinned import Pinned
from breadcrumbs.serving.refits.refit import First, RefitRequest, Verdict
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.activation_log import Log
from breadcrumbs.serving.state.lease import Lost
from breadcrumbs.serving.state.line_names import DEFAULT
from breadcrumbs.serving.state.lines import Lines, folder
from breadcrumbs.serving.state.live_head import Live
from breadcrumbs.serving.state.store import Conflict, NotFound, Store

LOG = logging.getLogger("breadcrumbs.refitter")
EVENTS = 2_000
"""Largest number of events from a child; later ones are dropped, except the job's end."""
PROGRESS_SECONDS = 0.25
"""Seconds between two progress events that are kept; each is a write to the store."""
INTERRUPTED = {"type": "interrupted", "message": "the server ended before the refit did; start it again"}
STOPPED = "the server ended before it was made"


class Refitter:
    """A queue of refits, and the task that runs them.

    Args:
        store: where they are kept.
        bundle: whose backbone the heads are for.
        lines: whose live heads they are compared with, and may replace.
        command: the child, without its arguments.
        limits: what a child may take.
        run: runs the child, here or on another machine.
        retries: how often a job is restarted whose server was lost or stopped; after that it is interrupted.
        confirm: raises `Lost` if another server now runs the refits of this store.
        pinned: the hold-out that judges every refit. None means the request's, or else the bundle's.
        first: starts the trial of a head that could go live. None means that it goes live without one.
    """

    def __init__(
        self, store: Store, bundle: Bundle, lines: Lines, command: Sequence[str], limits: child.Limits,
        run: child.Run = child.run, retries: int = 0, confirm: Callable[[], Awaitable[None]] | None = None,
        pinned: Pinned | None = None, first: First | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._bundle = bundle
        self._lines = lines
        self._command = tuple(command)
        self._limits = limits
        self._child = run
        self._retries = retries
        self._confirm = confirm or _nothing
        self._pinned = pinned
        self._first = first
        self._line: asyncio.Queue[History] = asyncio.Queue()
        self._withdrawn = set[str]()
        self._running: tuple[History, asyncio.Task[Any] | None] | None = None  # no task: it cannot be cancelled
        self._worker: asyncio.Task[None] | None = None
        self._abandoned = False

    def open(self) -> None:
        """Begin to work."""
        self._abandoned = False
        self._worker = asyncio.create_task(self._work())

    async def add(self, history: History) -> None:
        """Put a job at the end of the queue."""
        if not history.events:
            await history.say({"event": "state", "state": "queued"})
        self._line.put_nowait(history)

    async def conclude(self, history: History) -> None:
        """End or restart a job that a dead server left; its head may be stored already, and even live."""
        job = history.job.id
        verdict = history.job.verdict or await self._concluded(history)
        if verdict is not None:
            if not await self._store.has(f"refits/{job}/report.json"):
                verdict = refit.without_report(verdict, STOPPED)
            await history.end("succeeded", verdict=verdict.model_dump(mode="json"))
        elif self._may_again(history):
            await self._again(history)
            self._line.put_nowait(history)
        else:
            await history.end("interrupted", error=INTERRUPTED)

    async def _concluded(self, history: History) -> Verdict | None:
        """The verdict on a job whose head is stored, from what the store has of it. None means that it is not."""
        job, request = history.job.id, history.job.request
        made = [head for head in await heads.records(self._store) if head.lineage.refit == job]
        if made:
            with contextlib.suppress(NotFound):
                judged = await self._store.get(f"refits/{job}/judged.json")
                records = await Log(self._store, folder(request.line or DEFAULT)).readable()
                return await refit.concluded(job, request, made[0], judged, records, history.actor, self._first)
        return None

    def _may_again(self, history: History) -> bool:
        """Whether an interrupted job is restarted by itself."""
        starts = sum(event.get("state") == "running" for event in history.events)
        return history.elsewhere and history.job.verdict is None and starts <= self._retries

    async def _again(self, history: History) -> None:
        """Put a job back into the state `queued`."""
        for name in ("judged.json", "report.json", "report.html"):
            await self._store.delete(f"refits/{history.job.id}/{name}")
        await history.say({"event": "state", "state": "queued", "message": "its server was lost; it is restarted"})

    async def cancel(self, history: History) -> None:
        """Cancel a job that waits or runs.

        Raises:
            Conflict: its head is being stored, or is stored and only its report is missing.
        """
        if history.job.state in ENDED:
            return
        if self._running and self._running[0] is history:
            if self._running[1] is None or not self._running[1].cancel():
                raise Conflict(f"refit {history.job.id} has made its head; it cannot be cancelled any more")
        elif history.job.state == "queued" and history.job.id not in self._withdrawn:
            self._withdrawn.add(history.job.id)
            await history.end("cancelled")

    async def close(self, waiting: Sequence[History]) -> None:
        """Stop the running child; it and those that are `waiting` are interrupted."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        for history in waiting:
            if history.job.state == "queued" and history.job.id not in self._withdrawn:
                self._withdrawn.add(history.job.id)
                await history.end("interrupted", error=INTERRUPTED)
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker

    async def abandon(self) -> None:
        """Stop without writing events: another server now runs the jobs."""
        worker, self._worker, self._abandoned = self._worker, None, True
        if worker is not None:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker
        self._line = asyncio.Queue()

    async def _work(self) -> None:
        while True:
            history = await self._line.get()
            if history.job.id not in self._withdrawn:
                await self._run(history)

    async def _run(self, history: History) -> None:
        """Run one job to its end, whatever happens."""
        began = time.monotonic()
        try:
            await self._refit(history)
        except Lost as error:
            LOG.warning("refit %s is left to another server: %s", history.job.id, error)
        except RefitFailed as error:
            await self._fail(history, "failed", {"type": error.kind, "message": str(error)})
        except BreadcrumbsError as error:
            await self._fail(history, "failed", {"type": "refit", "message": str(error)})
        except asyncio.CancelledError:
            stopping = self._worker is None
            if self._abandoned:
                raise
            if stopping and history.job.state not in ENDED and self._may_again(history):
                await self._again(history)
            elif stopping:
                await self._fail(history, "interrupted", INTERRUPTED, STOPPED)
            else:
                await self._fail(history, "cancelled")
            if stopping:
                raise
        except Exception:
            LOG.exception("refit %s: this is a bug", history.job.id)
            told = {"type": "internal", "message": "an unexpected error; see the server's log"}
            await self._fail(history, "failed", told)
        finally:
            self._running = None
            LOG.info("refit %s: %s after %.1f s", history.job.id, history.job.state, time.monotonic() - began)

    async def _fail(
        self, history: History, state: State, error: dict[str, str] | None = None, why: str = ""
    ) -> None:  # fmt: skip
        """End a job that has no report, for which `why` is the reason; if its head is stored, it has succeeded."""
        verdict = history.job.verdict
        if verdict is None:
            await history.end(state, **({} if error is None else {"error": error}))
            return
        why = why or ("it was cancelled" if error is None else error["message"])
        LOG.warning("refit %s: head %d is stored, and has no report: %s", history.job.id, verdict.head, why)
        await history.end("succeeded", verdict=refit.without_report(verdict, why).model_dump(mode="json"))

    async def _refit(self, history: History) -> None:
        making = asyncio.create_task(self._make(history))
        self._running = (history, making)
        try:
            report = await making
        except asyncio.CancelledError:
            await child.to_the_end(_over(making))  # the child is being stopped
            raise
        await child.to_the_end(self._finish(history, report))

    async def _make(self, history: History) -> Report:
        job = history.job
        await self._confirm()
        line = await self._lines.find(job.request.line or DEFAULT)
        compared = line.head
        await history.say({"event": "state", "state": "running", "compared": compared.version})
        request = await refit.whole(job.request, self._store, compared.version, compared.head)

        async def take(made: Made) -> None:
            await self._settle(history, request, line, compared.version, made)

        return await refit.make(
            job.id, request, self._store, self._bundle, compared.head, self._command, self._limits,
            _Hearing(history), take, self._child, self._pinned,
        )  # fmt: skip

    async def _settle(self, history: History, request: RefitRequest, line: Live, compared: int, made: Made) -> None:
        """Store the head, make it live if it may be, and say so; from now on the job cannot be cancelled."""
        self._running = (history, None)
        job = history.job.id
        await self._confirm()
        await self._store.create(f"refits/{job}/judged.json", made.text)
        verdict = await refit.settle(
            job,
            request,
            self._store,
            self._bundle,
            line,
            compared,
            made,
            history.actor,
            self._pinned,
            self._first,
        )
        await history.insist({"event": "live" if verdict.activated else "stored", **verdict.model_dump(mode="json")})

    async def _finish(self, history: History, report: Report) -> None:
        """Store the report and end the job."""
        job = history.job
        await self._confirm()
        await self._store.create(f"refits/{job.id}/report.json", report.text)
        if report.page is not None:
            await self._store.create(f"refits/{job.id}/report.html", report.page)
        await history.end("succeeded", **job.model_dump(mode="json", include={"verdict"}))


async def _nothing() -> None:
    return None


async def _over(making: "asyncio.Task[Report]") -> None:
    """Wait for the end of what was cancelled."""
    making.cancel()
    with contextlib.suppress(asyncio.CancelledError, BreadcrumbsError):
        await making


class _Hearing:
    """Keeps a child's events, within limits on their rate and number."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._last = -PROGRESS_SECONDS

    async def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] not in {"stage", "progress"} or len(self._history.events) >= EVENTS:
            return
        if event["event"] == "progress":
            if time.monotonic() - self._last < PROGRESS_SECONDS:
                return
            self._last = time.monotonic()
        await self._history.say(event)
