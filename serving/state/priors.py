"""Named priors in the store, each an object `priors/NAME.json`, and the copies of them that requests use.

A copy is compared with the store when a request needs it and `follow` seconds have passed, so what other servers
change reaches this one in that time. While the store cannot be read, the copy goes on. It knows nothing of HTTP.
"""

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from breadcrumbs.models.prior import Prior, PriorError
from breadcrumbs.models.snapshots.fields import CLASS_LIMIT
from breadcrumbs.serving.refusals import tell
from breadcrumbs.serving.state.pages import cut
from breadcrumbs.serving.state.store import NotFound, Store, StoreError

LOG = logging.getLogger("breadcrumbs.priors")

NAME = "[a-z0-9-]{1,64}"
"""What a prior may be called."""
CACHE = 64
"""Priors that are kept in memory at most."""
CACHE_BYTES = 16 * 2**20
"""Bytes of their objects at most, if there is more than one; in memory they take some times that."""

_OBJECT = re.compile(rf"priors/({NAME})\.json")


class PriorWeights(BaseModel):
    """A prior: weights of classes, or a list of the classes that can be there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: Annotated[dict[str, float], Field(max_length=CLASS_LIMIT)] | None = Field(
        default=None, description="weight of each class, 0 or more; a class that is not named cannot be"
    )
    classes: Annotated[tuple[str, ...], Field(max_length=CLASS_LIMIT)] | None = Field(
        default=None, description="the classes that can be, all with one weight"
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.weights is None) == (self.classes is None):
            raise ValueError(f"expected either weights or classes, got {'neither' if self.weights is None else 'both'}")
        return self

    @property
    def named(self) -> tuple[str, ...]:
        """The classes that it names."""
        return tuple(self.weights or self.classes or ())

    def prior(self) -> Prior:
        """Return it as numbers.

        Raises:
            PriorError: it is no prior.
        """
        if self.weights is None:
            return Prior(dict.fromkeys(self.classes or (), 1.0), listed=True)
        return Prior(self.weights)


class PriorRecord(PriorWeights):
    """A named prior as it is stored; `priors/NAME.json`."""

    name: str = Field(pattern=f"^{NAME}$", description="what requests call it")
    actor: str = Field(description="who stored it")
    at: str = Field(description="when, ISO 8601")


@dataclass(frozen=True, eq=False)
class _Copy:
    """A prior in memory: its bytes in the store, and when they were read."""

    prior: Prior
    data: bytes
    read: float


class Priors:
    """The named priors of a store.

    Args:
        store: where they are.
        follow: seconds that a copy is used before it is compared with the store; 0: for ever.
    """

    def __init__(self, store: Store, follow: float) -> None:
        self._store = store
        self._follow = follow or float("inf")
        self._copies: OrderedDict[str, _Copy] = OrderedDict()
        self._writing = asyncio.Lock()

    async def named(self, name: str) -> Prior:
        """Return a prior for a request.

        Raises:
            NotFound: there is none of that name.
            StoreError: it is damaged, or the store cannot be read and there is no copy.
        """
        if not re.fullmatch(NAME, name):
            raise NotFound(f"a prior cannot be called {name!r:.80}; expected a to z, 0 to 9 and hyphens, 64 at most")
        copy = self._copies.get(name)
        if copy is None or time.monotonic() - copy.read > self._follow:
            read = await self._compared(name, copy)
            if self._copies.get(name) is copy:  # otherwise a newer one was stored meanwhile, or it was deleted
                self._keep(name, read)
            copy = self._copies.get(name, read)
        return copy.prior

    async def _compared(self, name: str, copy: _Copy | None) -> _Copy:
        """Read a prior again; the same bytes leave the copy as it is, with what it has computed."""
        now = time.monotonic()
        try:
            await self.expect(name)
            data = await self._store.get(object_name(name))
            if copy is not None and copy.data == data:
                return replace(copy, read=now)
            return _Copy(_parse(name, data).prior(), data, now)
        except NotFound:
            self._copies.pop(name, None)
            raise
        except StoreError as error:
            if copy is None:
                raise
            LOG.warning("prior %s goes on as it was: %s", name, error)
            return replace(copy, read=now)

    def _keep(self, name: str, copy: _Copy) -> None:
        self._copies[name] = copy
        self._copies.move_to_end(name)
        size = sum(len(one.data) for one in self._copies.values())
        while len(self._copies) > CACHE or (len(self._copies) > 1 and size > CACHE_BYTES):
            _, oldest = self._copies.popitem(last=False)
            size -= len(oldest.data)

    async def put(self, name: str, weights: PriorWeights, actor: str) -> tuple[PriorRecord, bool]:
        """Store a prior, and return its record and whether the name is new.

        Raises:
            PriorError: it is no prior.
            StoreFull: there is no room.
        """
        prior = weights.prior()
        record = PriorRecord(
            **weights.model_dump(), name=name, actor=actor, at=datetime.now(UTC).isoformat(timespec="seconds")
        )
        data = record.model_dump_json(exclude_none=True).encode() + b"\n"
        await self._store.check_room(len(data))
        async with self._writing:
            new = not await self._store.has(object_name(name))
            await self._store.replace(object_name(name), data)
            self._keep(name, _Copy(prior, data, time.monotonic()))
        return record, new

    async def record(self, name: str) -> PriorRecord:
        """Return a prior's record.

        Raises:
            NotFound: there is none of that name.
            StoreError: it is damaged.
        """
        await self.expect(name)
        return _parse(name, await self._store.get(object_name(name)))

    async def expect(self, name: str) -> None:
        """Refuse a name that no prior has.

        Raises:
            NotFound: there is none.
        """
        if not await self._store.has(object_name(name)):
            raise NotFound(f"there is no prior {name!r:.80}")

    async def delete(self, name: str) -> None:
        """Remove a prior; none of that name is no error."""
        async with self._writing:
            await self._store.delete(object_name(name))
            self._copies.pop(name, None)

    async def names(self) -> list[str]:
        """Return the names of all priors, sorted."""
        return sorted(found[1] for name in await self._store.names("priors") if (found := _OBJECT.fullmatch(name)))

    async def page(self, limit: int, after: str | None = None) -> tuple[list[PriorRecord], str | None]:
        """Return a page of records, by name.

        Args:
            limit: records at most.
            after: the last name of the page before; None: the first page.

        Returns:
            The records, and the next page's `after`. None means that this is the last page.
        """
        names = [name for name in await self.names() if after is None or name > after]
        data = await self._store.get_all(object_name(name) for name in names[:limit])
        read = [(name, data[object_name(name)]) for name in names[:limit] if object_name(name) in data]
        shown = cut(read, limit, lambda one: len(one[1]))
        last = shown[-1][0] if shown and shown[-1][0] != names[-1] else None
        return _readable(shown), last


def _readable(read: Sequence[tuple[str, bytes]]) -> list[PriorRecord]:
    """The records that are not damaged; the others are logged."""
    found = []
    for name, data in read:
        try:
            found.append(_parse(name, data))
        except StoreError as error:
            LOG.error("%s", error)  # noqa: TRY400 - the sentence says it; a traceback would not add to it
    return found


def object_name(name: str) -> str:
    """Return the name of a prior's object."""
    return f"priors/{name}.json"


def _parse(name: str, data: bytes) -> PriorRecord:
    try:
        record = PriorRecord.model_validate_json(data)
        record.prior()
    except ValidationError as error:
        raise StoreError(f"prior {name} is damaged: {tell(error)}; PUT it again") from error
    except PriorError as error:
        raise StoreError(f"prior {name} is damaged: {error}; PUT it again") from error
    if record.name != name:
        raise StoreError(f"prior {name} is damaged: it says that it is {record.name!r:.80}; PUT it again")
    return record
