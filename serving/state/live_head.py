"""The live head, kept the same in the activation log and in the engine.

Changes are made one at a time, first in the log, then in the engine. So the engine serves the head that the log names,
or, during a swap, the one before. It knows nothing of HTTP or of how heads are made.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.head import LinearHead
from breadcrumbs.serving.predict.engine import BoundHead, Engine
from breadcrumbs.serving.state import activation_log, heads
from breadcrumbs.serving.state.activation_log import Activation, Kind, Log
from breadcrumbs.serving.state.heads import HeadRecord, Lineage
from breadcrumbs.serving.state.stop_rules import Bake
from breadcrumbs.serving.state.store import Conflict, Store, StoreError

LOG = logging.getLogger("breadcrumbs.live")
CACHE = 8
"""Heads kept on the device besides the live one, for requests that name a version."""


async def first(store: Store, bundle: Bundle, log: Log) -> Activation:
    """Find the head that is live at start, and append to the log if that changes.

    An empty store gets the bundle's own head. If the live head or its log record is damaged, or it was fitted to
    another backbone, the last activated head that is sound replaces it, or else the bundle's own. If another starting
    server appends first, its record counts.

    Raises:
        StoreError: the store cannot be read or written.
    """
    while True:
        try:
            return await _first(store, bundle, log)
        except Conflict as error:
            LOG.info("%s; reading it again", error)


async def _first(store: Store, bundle: Bundle, log: Log) -> Activation:
    records = await log.readable()
    number, defects = log.next, [log.bad_end] if log.bad_end else []
    for defect in log.defects:
        LOG.error("%s", defect)
    for record in reversed(records):
        try:
            known, _ = await _recorded(store, bundle, record)
        except StoreError as error:
            LOG.error("%s", error)  # noqa: TRY400 - the sentence says it; a traceback would not add to it
            defects.append(str(error))
            continue
        if not defects:
            return record
        return await log.append(known, "server", defects[0], number=number)
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


async def sound(store: Store, bundle: Bundle, version: int) -> tuple[HeadRecord, LinearHead]:
    """Read a head that can serve with this bundle.

    Raises:
        NotFound: there is no such head.
        Conflict: it was fitted to another backbone.
        StoreError: it is damaged.
    """
    known, head = await heads.read(store, version)
    if known.backbone != bundle.backbone_digest:
        raise Conflict(
            f"head {version} was fitted to backbone {known.backbone[:12]}; this one is {bundle.backbone_digest[:12]}"
        )
    return known, head


class Live:
    """The live head, and the only way to change it.

    Args:
        store: where heads and log are.
        bundle: whose backbone the heads must fit.
        engine: runs them; its live head is `activation`'s.
        log: of what went live.
        activation: the newest one.
        observe: called after every change.
    """

    def __init__(
        self,
        store: Store,
        bundle: Bundle,
        engine: Engine,
        log: Log,
        activation: Activation,
        observe: Callable[[Activation], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._bundle = bundle
        self._engine = engine
        self._log = log
        self._observe = observe
        self._activation = activation
        self._changing = asyncio.Lock()
        self._bound: OrderedDict[int, BoundHead] = OrderedDict()

    @property
    def head(self) -> BoundHead:
        """The live head."""
        return self._engine.live

    @property
    def activation(self) -> Activation:
        """The activation that made it live."""
        return self._activation

    async def named(self, version: int) -> BoundHead:
        """Return a version, ready to compute; raises as `sound`."""
        if version == self._engine.live.version:
            return self._engine.live
        if version not in self._bound:
            _, head = await sound(self._store, self._bundle, version)
            self._bound[version] = self._engine.bind(version, head)
        self._bound.move_to_end(version)
        if len(self._bound) > CACHE:
            self._bound.popitem(last=False)
        return self._bound[version]

    async def follow(self, seconds: float) -> None:
        """Follow what other servers on this store make live, until cancelled; errors of the store are retried."""
        refused = 0
        while True:
            await asyncio.sleep(seconds)
            try:
                async with self._changing:
                    await self._catch_up()
            except BreadcrumbsError as error:
                number = self._log.next
                if number != refused:  # logged once, not at every poll
                    refused = number
                    LOG.error("head %d goes on: %s", self.head.version, error)  # noqa: TRY400 - the sentence says it

    async def _catch_up(self) -> None:
        """Serve what the log says, if another server changed it."""
        if await self._log.is_newest(self._activation.number):
            return
        newest = (await self._log.readable())[-1]
        if newest.number > self._activation.number:
            await self._take_up(newest)
        if self._log.bad_end:
            raise StoreError(self._log.bad_end)

    async def _take_up(self, newest: Activation) -> None:
        _, head = await _recorded(self._store, self._bundle, newest)
        self._engine.swap(self._engine.bind(newest.head, head))
        self._activation = newest
        self._observe(newest)
        LOG.info(
            "%s: head %d is live, by %s on another server: %s", newest.kind, newest.head, newest.actor, newest.reason
        )

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
            if await self._in_step() and version == self.head.version and expected_live in {None, version}:
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

    async def _change(
        self, version: int, actor: str, reason: str, expected_live: int | None, back: bool, bake: Bake | None = None
    ) -> Activation:
        """Append to the log, then swap."""
        known, head = await sound(self._store, self._bundle, version)
        bound = self._engine.bind(version, head)
        kind: Kind = "rollback" if back else "activate"
        self._activation = await self._log.append(known, actor, reason, expected_live, kind, bake=bake)
        self._engine.swap(bound)
        self._observe(self._activation)
        LOG.info("%s: head %d is live, by %s: %s", kind, version, actor, reason)
        return self._activation
