"""What the answers of a trial came to, counted by each process and added up over all.

    trial-counts/00000012/<process>.json
    trial-counts/00000012/all.json

Every process replaces its own object when its counts changed. A process that is killed loses what it counted since,
one or two seconds. When a trial has long ended, `settle` makes their sum one object in place of theirs; it is no part
of the trial's end, since every server reads all of that log. It knows nothing of how heads are compared.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, ValidationError

from breadcrumbs.serving.state.store import Conflict, Item, Store

LOG = logging.getLogger("breadcrumbs.trials")


class ClassCount(BaseModel):
    """Answers of one class."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    compared: int = 0
    """Answers for which both heads said a class, this one by the head that the trial compares with."""
    disagreed: int = 0
    """Those where the head on trial said another class."""


class Counts(BaseModel):
    """What was counted."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    answered: dict[int, int] = {}
    """Answers by the version of the head that gave them."""
    classes: dict[str, ClassCount] = {}
    """By the class that the compared head says."""
    errors: int = 0
    """Answers for which the head on trial failed."""
    dropped: int = 0
    """Answers that were not compared, since too many waited."""
    placed: int = 0
    """Answers of which it was looked at how well they are known; only with `stop_if.unknown`."""
    unknown: int = 0
    """Those that only the head on trial does not know."""
    unknown_against: int = 0
    """Those that only the other head does not know."""

    @property
    def compared(self) -> int:
        """Answers for which both heads said a class."""
        return sum(one.compared for one in self.classes.values())

    @property
    def disagreed(self) -> int:
        """Those for which they said different classes."""
        return sum(one.disagreed for one in self.classes.values())

    def count(self, name: str, compared: int, disagreed: int) -> None:
        """Add answers of a class."""
        one = self.classes.setdefault(name, ClassCount())
        one.compared += compared
        one.disagreed += disagreed

    def add(self, other: "Counts") -> None:
        """Add what another process counted."""
        for version, count in other.answered.items():
            self.answered[version] = self.answered.get(version, 0) + count
        for name, one in other.classes.items():
            self.count(name, one.compared, one.disagreed)
        self.errors += other.errors
        self.dropped += other.dropped
        self.placed += other.placed
        self.unknown += other.unknown
        self.unknown_against += other.unknown_against


class CountsStore:
    """The counts of a store, as one process writes and reads them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._token = secrets.token_hex(8)
        self._written: dict[int, bytes] = {}
        self._writing = asyncio.Lock()

    async def write(self, trial: int, counts: Counts) -> None:
        """Write this process's counts of a trial if they changed.

        Raises:
            StoreError: the store cannot be written.
        """
        async with self._writing:
            data = counts.model_dump_json().encode()
            if counts != Counts() and self._written.get(trial) != data:
                await self._store.replace(f"{_folder(trial)}/{self._token}.json", data)
                self._written[trial] = data

    async def read(self, trial: int) -> Counts:
        """Return what all processes have written of a trial; an object that is damaged is left out, and logged.

        Raises:
            StoreError: the store cannot be read.
        """
        names = await self._store.names(_folder(trial))
        settled = _settled(trial)
        found = await self._store.get_all([settled] if settled in names else names)
        return _sum(_parsed(found.items()))

    def forget(self, trial: int) -> None:
        """Forget a trial that has ended."""
        self._written.pop(trial, None)


async def unsettled(store: Store, trial: int) -> list[Item]:
    """Return what `settle` would remove of a trial."""
    return [item for item in await store.items(_folder(trial)) if item.name != _settled(trial)]


async def settle(store: Store, trial: int) -> None:
    """Write the sum of a trial's counts as one object, and remove the others. Whatever comes later does not count.

    Raises:
        StoreError: the store cannot be read or written; a second time goes on.
    """
    gone = await unsettled(store, trial)
    counts = await CountsStore(store).read(trial)
    with contextlib.suppress(Conflict):  # it was settled before
        await store.create(_settled(trial), counts.model_dump_json().encode())
    for item in gone:
        await store.delete(item.name)


def _settled(trial: int) -> str:
    return f"{_folder(trial)}/all.json"


def _folder(trial: int) -> str:
    return f"trial-counts/{trial:08d}"


def _parsed(found: Iterable[tuple[str, bytes]]) -> Iterable[Counts]:
    for name, data in found:
        try:
            yield Counts.model_validate_json(data)
        except ValidationError as error:
            LOG.warning("%s is damaged, and left out: %s", name, error.errors()[0]["msg"])


def _sum(found: Iterable[Counts]) -> Counts:
    whole = Counts()
    for one in found:
        whole.add(one)
    return whole
