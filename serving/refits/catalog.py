"""The refits of a store that this server knows: found by scanning the store, listed, counted.

It knows nothing of who runs them.
"""

import asyncio
import logging
import time
from collections import Counter

from breadcrumbs.serving.refits.job import ENDED, History, Job, State, create, read
from breadcrumbs.serving.refits.refit import RefitRequest
from breadcrumbs.serving.refusals import BadRequest
from breadcrumbs.serving.state.store import AT_ONCE, NotFound, Store, StoreError

LOG = logging.getLogger("breadcrumbs.jobs")
FIRST, SELDOM = 0.1, 300.0
"""Seconds before a folder without a job is read again: first and at most. The pause doubles each time."""


class Catalog:
    """The jobs of a store, by id.

    Args:
        store: where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._histories: dict[str, History] = {}
        self._absent: dict[str, tuple[float, float]] = {}  # name: when to read it again, and the pause before that
        self._damaged = set[str]()
        self._scanning = asyncio.Lock()

    def get(self, job: str) -> History | None:
        """Return a job that is known."""
        return self._histories.get(job)

    def of_key(self, key: str) -> History | None:
        """Return the known job with an Idempotency-Key."""
        return next((history for history in self._histories.values() if history.key == key), None)

    def unfinished(self) -> list[History]:
        """Return the jobs that have not ended."""
        return [history for history in self._histories.values() if history.job.state not in ENDED]

    def counts(self) -> Counter[State]:
        """Return how many jobs are in each state."""
        return Counter(history.job.state for history in self._histories.values())

    async def create(
        self, request: RefitRequest, key: str | None, actor: str, *, elsewhere: bool
    ) -> History | None:  # fmt: skip
        """Create a job in the store; None means that the key has one already."""
        async with self._scanning:  # so that a scan does not take our own job for another server's
            history = await create(self._store, request, key, actor, elsewhere=elsewhere)
            if history is not None:
                self._histories[history.job.id] = history
        return history

    async def scan(self, wanted: str = "") -> list[History]:
        """Read the jobs of the store that are not known yet, return them, and forget those that were removed.

        Args:
            wanted: a job to read even if it was missing a moment ago.
        """
        async with self._scanning:
            self._absent.pop(wanted, None)
            names = set(await self._store.folders("refits"))
            for gone in [name for name, one in self._histories.items() if name not in names and one.job.state in ENDED]:
                del self._histories[gone]
            self._absent = {name: when for name, when in self._absent.items() if name in names}
            now = time.monotonic()
            unknown = sorted(names - self._histories.keys() - self._damaged)
            unknown = [name for name in unknown if self._absent.get(name, (0.0, 0.0))[0] <= now]
            fresh = []
            for start in range(0, len(unknown), AT_ONCE):
                fresh += await asyncio.gather(*map(self._read, unknown[start : start + AT_ONCE]))
        return [history for history in fresh if history is not None]

    async def _read(self, name: str) -> History | None:
        """Read a job; None means that it is missing or damaged."""
        try:
            history = await read(self._store, name)
        except NotFound:  # its writer was killed, or is still at work
            pause = min(2 * self._absent.get(name, (0.0, FIRST))[1], SELDOM)
            self._absent[name] = (time.monotonic() + pause, pause)
            return None
        except StoreError:
            LOG.exception("a refit is damaged and left out")
            self._damaged.add(name)
            return None
        self._absent.pop(name, None)
        self._histories[name] = history
        return history

    def page(self, limit: int, after: str | None = None) -> tuple[list[Job], str | None]:
        """Return a page of the known jobs, the newest first; as `Jobs.page`."""
        found = sorted(((one.job.created, name) for name, one in self._histories.items()), reverse=True)
        if after is not None:
            created, slash, name = after.partition("/")
            if not slash:
                if after not in self._histories:
                    raise BadRequest(f"after={after!r:.100}: expected `next` of a page, or a refit that is there")
                created, name = self._histories[after].job.created, after
            found = [one for one in found if one < (created, name)]
        chosen = found[:limit]
        more = "/".join(chosen[-1]) if len(chosen) < len(found) else None
        return [self._histories[name].job for _, name in chosen], more
