"""Ends trials by their rules: stops them, rolls back, makes a head live, or says that their time is over.

Of all servers on a store the one with the lease judges. Each step is a record in a log that only one writer can add, so
a judge that dies between two steps, or a second one, does no harm: rolling back names the head that must be live, and
what is left of a trial then is ended as overtaken. It knows nothing of HTTP or of how evidence is gathered.
"""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.state.lease import Lease, Lost
from breadcrumbs.serving.state.live_head import Live
from breadcrumbs.serving.state.store import Conflict
from breadcrumbs.serving.trials.pair import Pair
from breadcrumbs.serving.trials.starting import bake, bake_due
from breadcrumbs.serving.trials.state import tallies
from breadcrumbs.serving.trials.trials import PAUSE, Trials
from breadcrumbs.serving.trials.verdicts import Decision, decide
from breadcrumbs.serving.trials.verified import Verified

LOG = logging.getLogger("breadcrumbs.trials")


class Judge:
    """Judges the trials of a store where this server has the lease.

    Args:
        trials: of the store.
        live: the live head.
        verified: what labels say.
        lease: which server judges.
    """

    def __init__(self, trials: Trials, live: Live, verified: Verified, lease: Lease) -> None:
        self._trials = trials
        self._live = live
        self._verified = verified
        self._lease = lease

    async def run(self) -> None:
        """Write this server's counts and judge until it is cancelled; an error is logged once."""
        said = ""
        while True:
            await asyncio.sleep(PAUSE)
            try:
                await self._trials.flush()
                await self.look()
                said = ""
            except BreadcrumbsError as error:
                if str(error) != said:
                    said = str(error)
                    LOG.error("trials: %s; this is tried again", error)  # noqa: TRY400 - the sentence says it
            except Exception:
                LOG.exception("trials: an unexpected error; this is a bug")

    async def look(self) -> None:
        """Judge all trials once, if there are any and this server has the lease.

        Raises:
            StoreError: the store cannot be read or written.
        """
        due = bake_due(self._trials, self._live.activation)
        if not (due or self._trials.log.running) or not await self._judges():
            return
        if due:
            with contextlib.suppress(Conflict):
                await bake(self._trials, self._live.activation)
        await self._end_what_is_over()
        for pair in self._trials.pairs:
            await self._judge(pair)

    async def _end_what_is_over(self) -> None:
        """End trials whose time has passed, or beside which another head went live."""
        for start in self._trials.log.running:
            activation = self._live.activation
            if activation.number > start.activation and activation.head != start.live:
                reason = f"head {activation.head} went live, by {activation.actor}: {activation.reason}"
                await self._trials.end(start.number, "overtaken", "server", reason)
            elif start.is_over(datetime.now(UTC)):
                await self._trials.end(start.number, "over", "server", "its time is over")

    async def _judges(self) -> bool:
        """Whether this server has the lease, or gets it now."""
        if self._lease.held:
            with contextlib.suppress(Lost):
                await self._lease.renew()
                return True
        return await self._lease.acquire()

    async def _judge(self, pair: Pair) -> None:
        start = pair.start
        if start.stop_if.none and start.margin is None:
            return
        counts = await self._trials.counts.read(start.number)
        labels = tallies(await self._verified.of(pair), pair.groups)
        decision = decide(start, counts, labels)
        if decision is None:
            return
        try:
            await self._act(pair, decision)
        except Conflict as error:  # another head went live meanwhile; the next look ends the trial
            LOG.warning("trial %d: %s", start.number, error)

    async def _act(self, pair: Pair, decision: Decision) -> None:
        start, actor = pair.start, f"trial {pair.start.number}"
        if decision.act == "activate":
            await self._live.activate(start.head, actor, decision.reason, start.against)
            await self._trials.end(start.number, "activated", actor, decision.reason)
        elif start.mode == "bake":
            await self._live.rollback(actor, decision.reason, start.head)
            await self._trials.end(start.number, "rolled_back", actor, decision.reason)
        else:
            await self._trials.end(start.number, "stopped", actor, decision.reason)

    async def close(self) -> None:
        """Let another server judge at once."""
        await self._lease.release()
