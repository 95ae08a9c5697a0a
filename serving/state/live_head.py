"""The live head of a line, kept the same in its activation log and in what answers.

Changes are made one at a time, first in the log, then in memory. So a line serves the head that its log names, or,
during a swap, the one before. `serving.state.lines` has all lines. It knows nothing of HTTP or of how heads are made.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.head import LinearHead
from breadcrumbs.serving.predict.engine import BoundHead
from breadcrumbs.serving.state import activation_log, heads
from breadcrumbs.serving.state.activation_log import Activation, Kind, Log
from breadcrumbs.serving.state.bound_heads import BoundHeads, sound
from breadcrumbs.serving.state.heads import HeadRecord, Lineage
from breadcrumbs.serving.state.line_names import DEFAULT
from breadcrumbs.serving.state.stop_rules import Bake
from breadcrumbs.serving.state.store import Conflict, Store, StoreError

LOG = logging.getLogger("breadcrumbs.live")


async def first(
    store: Store, bundle: Bundle, log: Log, instead: Callable[[], Awaitable[HeadRecord]] | None = None
) -> Activation:
    """Find the head that is live at start, and append to the log if that changes.

    An empty store gets the bundle's own head. If the live head or its log record is damaged, or it was fitted to
    another backbone, the last activated head that is sound replaces it, or else the bundle's own. If another starting
    server appends first, its record counts.

    Args:
        store: where heads and log are.
        bundle: whose backbone the heads must fit.
        log: of the line.
        instead: gives the head where the log has no sound one. None means the bundle's own.

    Raises:
        NotFound: the line was removed meanwhile.
        StoreError: the store cannot be read or written.
    """
    while True:
        try:
            return await _first(store, bundle, log, instead)
        except Conflict as error:
            LOG.info("%s; reading it again", error)


async def _first(
    store: Store, bundle: Bundle, log: Log, instead: Callable[[], Awaitable[HeadRecord]] | None
) -> Activation:
    records = await log.readable()
    number, defects = log.next, [log.bad_end] if log.bad_end else []
    for defect in log.defects:
        LOG.error("%s", defect)
    for record in reversed(records):
        if record.kind == "remove":  # what a line of this name had before is not this line's
            break
        try:
            known, _ = await _recorded(store, bundle, record)
        except StoreError as error:
            LOG.error("%s", error)  # noqa: TRY400 - the sentence says it; a traceback would not add to it
            defects.append(str(error))
            continue
        if not defects:
            return record
        return await log.append(known, "server", defects[0], number=number)
    if instead is not None:
        return await log.append(await instead(), "server", defects[0] if defects else "no head was live", number=number)
    metrics = bundle.manifest.metrics.get("balanced", {})
    known = await heads.add(store, bundle.head(), bundle, Lineage(), metrics, bundle.known())
    actor, reason = ("server", defects[0]) if defects else ("bundle", "the head that came with the bundle")
    return await log.append(known, actor, reason, number=number)


async def _recorded(store: Store, bundle: Bundle, record: Activation) -> tuple[HeadRecord, LinearHead]:
    """Read the head that an activation names; raises as `sound`, and if its digest has changed."""
    known, head = await sound(store, bundle, record.head)
    if known.digest != record.digest:
        raise StoreError(
            f"activation {record.number} is of digest {record.digest}; head {record.head} has {known.digest}"
        )
    return known, head


def _nothing(_: object) -> None:
    return None


class Live:
    """The live head of a line, and the only way to change it.

    Args:
        heads: of the store.
        log: of what went live in this line.
        activation: the newest one.
        head: that it made live.
        swap: given every head that goes live.
        observe: called after every change.
        line: its name.

    Attributes:
        line: its name.
    """

    def __init__(
        self,
        heads: BoundHeads,
        log: Log,
        activation: Activation,
        head: BoundHead,
        swap: Callable[[BoundHead], None] = _nothing,
        observe: Callable[[Activation], None] = _nothing,
        line: str = DEFAULT,
    ) -> None:
        self._heads = heads
        self._log = log
        self._swap = swap
        self._observe = observe
        self._activation = activation
        self._head = head
        self._changing = asyncio.Lock()
        self.line = line

    @property
    def head(self) -> BoundHead:
        """The live head."""
        return self._head

    @property
    def activation(self) -> Activation:
        """The activation that made it live."""
        return self._activation

    @property
    def removed(self) -> bool:
        """Whether the line is no more."""
        return self._activation.kind == "remove"

    async def named(self, version: int) -> BoundHead:
        """Return a version, ready to compute; raises as `sound`."""
        return await self._heads.named(version)

    async def had(self, version: int) -> bool:
        """Whether a version is or was live in this line; what other servers did since the last look is read."""
        if not self._log.had(version):
            await self._log.readable()
        return self._log.had(version)

    async def follow(self, seconds: float) -> None:
        """Follow what other servers on this store make live, until cancelled; errors of the store are retried."""
        refused = 0
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.catch_up()
            except BreadcrumbsError as error:
                number = self._log.next
                if number != refused:  # logged once, not at every poll
                    refused = number
                    LOG.error("head %d goes on: %s", self.head.version, error)  # noqa: TRY400 - the sentence says it

    async def catch_up(self) -> None:
        """Serve what the log says, if another server changed it.

        Raises:
            BreadcrumbsError: that cannot be; the head before goes on.
        """
        async with self._changing:
            await self._catch_up()

    async def _catch_up(self) -> None:
        if await self._log.is_newest(self._activation.number):
            return
        newest = (await self._log.readable())[-1]
        if newest.number > self._activation.number:
            await self._take_up(newest)
        if self._log.bad_end:
            raise StoreError(self._log.bad_end)

    async def _take_up(self, newest: Activation) -> None:
        if newest.kind != "remove":
            _, head = await _recorded(self._heads.store, self._heads.bundle, newest)
            self._head = self._heads.bind(newest.head, head)
            self._swap(self._head)
        self._activation = newest
        self._observe(newest)
        LOG.info(
            "line %s: %s: head %d, by %s on another server: %s", self.line, newest.kind, newest.head, newest.actor,
            newest.reason,
        )  # fmt: skip

    async def _in_step(self) -> bool:
        """Catch up, and return whether the engine serves what the log says. A damaged newest head is only logged."""
        try:
            await self._catch_up()
        except StoreError as error:
            LOG.warning("the newest activation cannot be taken up: %s", error)
            return False
        return True

    async def log(self) -> list[Activation]:
        """Return what was live when, oldest first, as far as it can be read."""
        return await self._log.readable()

    async def activate(
        self, version: int, actor: str, reason: str, expected_live: int | None = None, bake: Bake | None = None
    ) -> Activation:
        """Make a version live; if it is, nothing changes and its activation is returned.

        Args:
            version: of the head.
            actor: who does it.
            reason: why.
            expected_live: the head that must be live. None means any.
            bake: how the head is watched then.

        Raises:
            Conflict: another head is live than `expected_live`, it was fitted to another backbone, or it is live
                already and would be watched.
            NotFound, StoreError: there is no such head, or it is damaged.
        """
        async with self._changing:
            there = await self._in_step() and not self.removed
            if there and version == self.head.version and expected_live in {None, version}:
                if bake is not None:
                    raise Conflict(f"head {version} is live already: only a head that goes live can be watched")
                return self._activation
            return await self._change(version, actor, reason, expected_live, back=False, bake=bake)

    async def rollback(self, actor: str, reason: str, expected_live: int | None = None) -> Activation:
        """Go back to the head that was live before; raises as `activate` does.

        Raises:
            Conflict: there is none.
        """
        async with self._changing:
            await self._in_step()
            records = await self._log.readable()
            activation_log.check_live(records, expected_live)
            version = activation_log.before(records)
            if version is None:
                raise Conflict("there is no head to go back to: the live one was the first")
            return await self._change(version, actor, reason, expected_live, back=True)

    async def remove(self, actor: str, reason: str) -> Activation:
        """End the line; its log stays.

        Raises:
            NotFound: it was removed.
            StoreError: the store cannot be read or written.
        """
        async with self._changing:
            await self._in_step()
            known = await heads.record(self._heads.store, self.head.version)
            self._activation = await self._log.append(known, actor, reason, kind="remove")
            self._observe(self._activation)
            LOG.info("line %s was removed, by %s: %s", self.line, actor, reason)
            return self._activation

    async def _change(
        self, version: int, actor: str, reason: str, expected_live: int | None, back: bool, bake: Bake | None = None
    ) -> Activation:
        """Append to the log, then swap."""
        known, head = await sound(self._heads.store, self._heads.bundle, version)
        bound = self._heads.bind(version, head)
        kind: Kind = "rollback" if back else "activate"
        self._activation = await self._log.append(known, actor, reason, expected_live, kind, bake=bake)
        self._head = bound
        self._swap(bound)
        self._observe(self._activation)
        LOG.info("line %s: %s: head %d is live, by %s: %s", self.line, kind, version, actor, reason)
        return self._activation
