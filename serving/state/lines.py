"""The lines of a store: named live heads on one backbone, each with an activation log of its own.

The default line is always there, with its log where stores have had it. A named line is what its log says, in
`lines/NAME/activations/`: it is there unless its newest record removed it. It knows nothing of HTTP.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable
from functools import partial

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.near_names import suggestion
from breadcrumbs.serving.predict.engine import BoundHead
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.activation_log import FOLDER, Activation, Log
from breadcrumbs.serving.state.bound_heads import BoundHeads, sound
from breadcrumbs.serving.state.line_names import DEFAULT, NAME, check_name
from breadcrumbs.serving.state.live_head import Live, first
from breadcrumbs.serving.state.store import Conflict, NotFound, Store, StoreError

LOG = logging.getLogger("breadcrumbs.lines")
AT_ONCE = 16
"""Lines that are opened side by side."""


def folder(name: str) -> str:
    """Return the place of a line's log in the store."""
    return FOLDER if name == DEFAULT else f"lines/{name}/{FOLDER}"


async def logs(store: Store) -> dict[str, Log]:
    """Return the log of each line that there is or was, by name, the default one first."""
    named = [name for name in await store.folders("lines") if re.fullmatch(NAME, name)]
    return {name: Log(store, folder(name)) for name in (DEFAULT, *named)}


class Lines:
    """The lines of a store, as one server knows them.

    Args:
        bound: heads, with the store and the bundle.
        default: the line that answers requests that name none.
        most: named lines at most.
        observe: called after every change of a named line.

    Attributes:
        default: the line that answers requests that name none.
    """

    def __init__(
        self, bound: BoundHeads, default: Live, most: int, observe: Callable[[Activation], None] = lambda _: None
    ) -> None:
        self.default = default
        self._bound = bound
        self._store = bound.store
        self._most = most
        self._observe = observe
        self._named: dict[str, Live] = {}
        self._gone: dict[str, int] = {}  # removed lines, and the number that removed each
        self._said: dict[str, str] = {}
        self._changing = asyncio.Lock()

    def __len__(self) -> int:
        return 1 + len(self._named)

    @property
    def all(self) -> list[Live]:
        """All lines that this server knows, the default one first, then by name."""
        return [self.default, *(self._named[name] for name in sorted(self._named))]

    async def find(self, name: str) -> Live:
        """Return a line; one that another server has just created is looked for in the store.

        Raises:
            BadRequest: no line can be called so.
            NotFound: there is none; names that are near are told.
            StoreError: the store cannot be read.
        """
        found = self.default if name == DEFAULT else self._named.get(name)
        if found is None:
            check_name(name)
            if await self._store.has(f"{folder(name)}/{1:08d}.json"):
                async with self._changing:
                    found = self._named.get(name) or await self._open(name)
        if found is None or found.removed:
            raise NotFound(f"there is no line {name!r}{self._near(name)}")
        return found

    def _near(self, name: str) -> str:
        return suggestion(name, [DEFAULT, *self._named]) or "; PUT /v1/lines/NAME creates one"

    async def create(self, name: str, version: int | None, actor: str, reason: str) -> Live:
        """Create a line, with a head that is live in it.

        Args:
            name: of the line.
            version: of its head. None means the one that is live in the default line.
            actor: who does it.
            reason: why.

        Raises:
            BadRequest: no line can be called so.
            Conflict: there is such a line, there are too many, or the head was fitted to another backbone.
            NotFound, StoreError: there is no such head, or it is damaged.
        """
        check_name(name)
        version = self.default.head.version if version is None else version
        async with self._changing:
            await self._take_up(await self._store.names("lines"))
            if name == DEFAULT or name in self._named:
                raise Conflict(
                    f"there is a line {name!r} already; POST /v1/heads/VERSION/activate?line={name} changes its head"
                )
            if len(self._named) >= self._most:
                raise Conflict(f"there are {len(self._named)} lines; the limit is {self._most} (max_lines): remove one")
            known, head = await sound(self._store, self._bound.bundle, version)
            bound, log = self._bound.bind(version, head), Log(self._store, folder(name))
            activation = await log.append(known, actor, reason, kind="create")
            LOG.info("line %s: create: head %d is live, by %s: %s", name, version, actor, reason)
            self._observe(activation)
            return self._add(name, log, activation, bound)

    async def remove(self, name: str, actor: str, reason: str) -> Activation:
        """Remove a line; its heads and its log stay in the store.

        Raises:
            BadRequest: no line can be called so.
            Conflict: it is the default line.
            NotFound: there is none.
            StoreError: the store cannot be read or written.
        """
        if name == DEFAULT:
            raise Conflict("the default line cannot be removed: it answers requests that name no line")
        found = await self.find(name)
        async with self._changing:
            done = await found.remove(actor, reason)
            if name in self._named:
                self._drop(name)
        return done

    async def open(self) -> None:
        """Open all lines of the store.

        Raises:
            StoreError: the store cannot be read.
        """
        async with self._changing:
            await self._take_up(await self._store.names("lines"))

    async def follow(self, seconds: float) -> None:
        """Follow what other servers change, until cancelled; one list tells what is new in all lines."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.open()
                self._said.pop("", None)
            except BreadcrumbsError as error:
                self._say("", f"lines go on as they were: {error}")

    def _say(self, name: str, what: str) -> None:
        """Log what is wrong with a line once, not at every poll."""
        if self._said.get(name) != what:
            self._said[name] = what
            LOG.error("%s", what)

    async def _take_up(self, names: Iterable[str]) -> None:
        """Open lines that are new here, and have the others serve what their logs say."""
        changed = [name for name, number in _newest(names).items() if self._known(name) < number]
        for start in range(0, len(changed), AT_ONCE):
            await asyncio.gather(*map(self._catch_up, changed[start : start + AT_ONCE]))

    def _known(self, name: str) -> int:
        return self._named[name].activation.number if name in self._named else self._gone.get(name, 0)

    async def _catch_up(self, name: str) -> None:
        try:
            if name in self._named:
                await self._named[name].catch_up()
            else:
                await self._open(name)
            self._said.pop(name, None)
        except BreadcrumbsError as error:
            self._say(name, f"line {name} goes on as it was: {error}")
        if name in self._named and self._named[name].removed:
            self._drop(name)

    def _drop(self, name: str) -> None:
        self._gone[name] = self._named.pop(name).activation.number

    async def _open(self, name: str) -> Live | None:
        """Open a line of the store. None means that it was removed."""
        log = Log(self._store, folder(name))
        records = await log.readable()
        newest = records[-1] if records else None
        if newest is not None and newest.kind == "remove":
            self._gone[name] = newest.number
            return None
        try:
            if newest is None or log.bad_end:
                raise StoreError(log.bad_end)
            head = await self._bound.named(newest.head)
            if head.head.digest != newest.digest:
                raise StoreError(f"activation {newest.number} is of another head {newest.head}")
        except StoreError:
            instead = partial(heads.record, self._store, self.default.head.version)
            newest = await first(self._store, self._bound.bundle, log, instead)
            head = await self._bound.named(newest.head)
        return self._add(name, log, newest, head)

    def _add(self, name: str, log: Log, activation: Activation, head: BoundHead) -> Live:
        live = Live(self._bound, log, activation, head, observe=self._observe, line=name)
        self._named[name] = live
        return live


def _newest(names: Iterable[str]) -> dict[str, int]:
    """The newest number in the log of each named line, from the names of objects."""
    found: dict[str, int] = {}
    for name in names:
        match = re.fullmatch(rf"lines/({NAME})/{FOLDER}/([0-9]{{8}})\.json", name)
        if match and match[1] != DEFAULT:
            found[match[1]] = max(found.get(match[1], 0), int(match[2]))
    return found
