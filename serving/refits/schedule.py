"""Starts refits by itself: after so many new labels, and each night if there is a new one.

Only the server that runs refits starts them, and never while one runs or waits. New are the labels that came since the
last refit that took examples. It knows nothing of how a refit is run, or of HTTP.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.refits import examples
from breadcrumbs.serving.refits.job import ENDED, Job
from breadcrumbs.serving.refits.jobs import Jobs
from breadcrumbs.serving.refits.refit import RefitRequest
from breadcrumbs.serving.state.store import Store

LOG = logging.getLogger("breadcrumbs.schedule")
ACTOR = "schedule"
"""Who starts its refits, in logs."""
PAUSE = 10.0
"""Seconds between two looks."""
NIGHT = timedelta(hours=6)
"""For how long after its time a nightly refit may still begin, where another one ran or the server was down."""
PAGE = 100
"""Refits that are read together."""


@dataclass(frozen=True)
class Occasions:
    """When refits start.

    Attributes:
        after_labels: new labels that start one. 0 means that none do.
        nightly: time of day, UTC. None means never.
    """

    after_labels: int = 0
    nightly: time | None = None

    def __bool__(self) -> bool:
        return bool(self.after_labels) or self.nightly is not None

    def night(self, now: datetime) -> str | None:
        """Return the day of the night that it is, ISO 8601. None means that it is none."""
        if self.nightly is None:
            return None
        begin = datetime.combine(now.date(), self.nightly, UTC)
        begin = begin if begin <= now else begin - timedelta(days=1)
        return begin.date().isoformat() if now - begin < NIGHT else None


def now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


class Schedule:
    """Looks now and then whether a refit is due.

    Args:
        jobs: of the store.
        store: where refits note their examples.
        labelled: the examples of the store.
        backbone: sha256 of the deployed backbone; examples of others do not count.
        occasions: when refits start.
        clock: tells the time, UTC.
        waiting: is told how many verified labels no refit has taken.
    """

    def __init__(
        self, jobs: Jobs, store: Store, labelled: Examples, backbone: str, occasions: Occasions,
        clock: Callable[[], datetime] = now, waiting: Callable[[int], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._jobs = jobs
        self._store = store
        self._labelled = labelled
        self._backbone = backbone
        self._occasions = occasions
        self._clock = clock
        self._waiting = waiting
        self._taken: dict[str, int | None] = {}  # of ended refits: until when they knew labels; None: they took none
        self._tried = 0
        self._night = ""

    async def run(self, pause: float = PAUSE) -> None:
        """Look until it is cancelled; an error is logged once, and looked past."""
        said = ""
        while True:
            await asyncio.sleep(pause)
            try:
                await self.look()
            except BreadcrumbsError as error:
                if str(error) != said:
                    said = str(error)
                    LOG.error("no refit is started by itself: %s", error)  # noqa: TRY400 - the sentence says it

    async def look(self) -> Job | None:
        """Start a refit if one is due. None means that none is.

        Raises:
            StoreError: the store cannot be read or written.
            Overloaded: the server is stopping.
        """
        if not self._jobs.run_here or await self._jobs.busy():
            return None
        fresh = await self._fresh()
        self._waiting(len(fresh))
        if not fresh:
            return None
        night = self._occasions.night(self._clock())
        if night is not None and night != self._night:
            self._night = night
            return await self._start(fresh, f"the night of {night}", f"nightly {night}")
        enough = 0 < self._occasions.after_labels <= len(fresh)
        return await self._start(fresh, f"{len(fresh)} new labels") if enough and max(fresh) > self._tried else None

    async def _fresh(self) -> list[int]:
        """When each verified label came that no refit has taken, in microseconds since 1970."""
        newest = (await self._labelled.newest()).values()
        since = await self._last()
        return [one.at for one in examples.usable(newest, "verified", self._backbone) if one.at > since]

    async def _last(self) -> int:
        """Until when the last refit that took examples knew labels, in microseconds since 1970. 0: none did."""
        after: str | None = None
        while True:
            page, after = await self._jobs.page(PAGE, after)
            for job in page:
                if (until := await self._until(job)) is not None:
                    return until
            if after is None:
                return 0

    async def _until(self, job: Job) -> int | None:
        if job.state == "interrupted":  # it is to be done again
            return None
        if job.id not in self._taken:
            noted = await examples.noted(self._store, job.id)
            until = None if noted is None else noted.until
            if job.state not in ENDED:
                return until
            self._taken[job.id] = until
        return self._taken[job.id]

    async def _start(self, fresh: list[int], why: str, key: str | None = None) -> Job:
        """Start a refit. What it was started for is not tried again, whatever becomes of it."""
        self._tried = max(fresh)
        job = await self._jobs.start(RefitRequest(examples="verified"), key, ACTOR)
        LOG.info("refit %s started by itself: %s", job.id, why)
        return job
