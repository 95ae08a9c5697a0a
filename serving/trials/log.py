"""The log of trials: one immutable record for each start and each end, each with the sha256 of the one before it.

    trials/00000012.json

Appending creates the next number if it is absent: of two writers one succeeds, and the other reads what the first one
wrote and checks again. So of many servers one ends a trial. A damaged record is reported and skipped; the next one has
the hash of its bytes. It knows nothing of heads or answers.
"""

import asyncio
import hashlib
import logging
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from breadcrumbs.serving.state.store import Conflict, NotFound, Store, StoreError
from breadcrumbs.serving.trials.trial import End, Start

LOG = logging.getLogger("breadcrumbs.trials")
NAME = re.compile(r"trials/[0-9]{8}\.json")
Record = Annotated[Start | End, Field(discriminator="kind")]
READER: TypeAdapter[Start | End] = TypeAdapter(Record)

Make = Callable[[int, str | None], Start | End]
"""Makes the record of a number, with the hash of the one before. It looks at the log, and may refuse."""


def _name(number: int) -> str:
    return f"trials/{number:08d}.json"


class TrialLog:
    """The log of a store. Records are read once; later only new ones are read.

    Attributes:
        starts: of all trials, by number, as of the last reading.
        ends: of those that have ended, by the trial's number.
        defects: what is wrong with the log, in words.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hash: str | None = None
        self._next = 1
        self._busy = asyncio.Lock()
        self.starts: dict[int, Start] = {}
        self.ends: dict[int, End] = {}
        self.defects: list[str] = []

    @property
    def running(self) -> list[Start]:
        """The trials that have not ended, the oldest first."""
        return [start for number, start in sorted(self.starts.items()) if number not in self.ends]

    def trial(self, number: int) -> Start:
        """Return the start of a trial.

        Raises:
            NotFound: there is no such trial.
        """
        if number not in self.starts:
            raise NotFound(f"there is no trial {number}; the newest is {max(self.starts, default=0)}")
        return self.starts[number]

    async def follow(self) -> bool:
        """Read what is new, and return whether anything was; where nothing is, one name is looked at.

        Raises:
            StoreError: the store cannot be read.
        """
        if not await self._store.has(_name(self._next)):
            return False
        await self.read()
        return True

    async def read(self) -> None:
        """Read what is new.

        Raises:
            StoreError: the store cannot be read.
        """
        async with self._busy:
            await self._read()

    async def _read(self) -> None:
        names = [name for name in await self._store.names("trials") if NAME.fullmatch(name)]
        for name in names[bisect_right(names, _name(self._next - 1)) :]:
            self._take(name, await self._store.get(name))

    def _take(self, name: str, data: bytes) -> None:
        number = int(Path(name).stem)
        if number != self._next:
            self._defect(f"{_name(self._next)} is missing: {name} comes instead")
        before, self._hash, self._next = self._hash, hashlib.sha256(data).hexdigest(), number + 1
        try:
            record = READER.validate_json(data)
        except ValidationError as error:
            self._defect(f"{name} is damaged: {error.errors()[0]['msg']}")
            return
        if record.number != number:
            self._defect(f"{name} is damaged: expected record {number}, got {record.number}")
            return
        if record.previous != before:
            self._defect(f"{name} does not carry the hash of the record before it: the log was changed")
        if isinstance(record, Start):
            self.starts[number] = record
        else:
            self.ends.setdefault(record.trial, record)

    def _defect(self, told: str) -> None:
        LOG.error("the log of trials: %s", told)
        self.defects.append(told)

    async def append(self, make: Make) -> Start | End:
        """Append a record; where another server was first, its record is read and `make` decides again.

        Raises:
            StoreError: the store cannot be written; or what `make` raises.
        """
        async with self._busy:
            while True:
                await self._read()
                record = make(self._next, self._hash)
                data = record.model_dump_json(indent=1).encode() + b"\n"
                name = _name(record.number)
                try:
                    await self._store.create(name, data)
                except Conflict:
                    # a retry inside the store's client may have met its own first write
                    if (await self._stored(name)) != data:
                        continue
                self._take(name, data)
                return record

    async def _stored(self, name: str) -> bytes:
        try:
            return await self._store.get(name)
        except NotFound as error:
            raise StoreError(f"{name} exists, and cannot be read") from error


def page(starts: Mapping[int, Start], limit: int, after: int | None) -> tuple[list[Start], int | None]:
    """Return some trials, the newest first, and the number after which the next page begins; None: there is none."""
    older = [start for number, start in sorted(starts.items(), reverse=True) if after is None or number < after]
    return older[:limit], older[limit - 1].number if len(older) > limit else None
