"""The log of what went live: one immutable record a change, each carrying the sha256 of the one before it.

Each line of a store has one. The record with the highest number is live. Appending creates the next number if it is
absent: of two writers one succeeds and the other gets a Conflict. A damaged record is reported and skipped; the next
record carries the hash of its bytes, so that the log continues. It knows nothing of engines.
"""

import asyncio
import contextlib
import hashlib
import logging
import re
from bisect import bisect_right
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from breadcrumbs.serving.state.heads import HeadRecord
from breadcrumbs.serving.state.stop_rules import Bake
from breadcrumbs.serving.state.store import Conflict, NotFound, Store, StoreError

LOG = logging.getLogger("breadcrumbs.activations")
Kind = Literal["activate", "rollback", "create", "remove"]
FOLDER = "activations"
"""Where the log of the default line is."""
_FILE = re.compile(r"[0-9]{8}\.json")


class Activation(BaseModel):
    """One change of what is live; `activations/<number>.json`, in the folder of its line."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    number: int
    """1 is the first; the highest is what is live."""
    head: int
    """Version of the head that went live."""
    digest: str
    """sha256 over that head's classes, weight and bias."""
    kind: Kind = "activate"
    """`rollback`: the previous head was restored. `create`: the line began with this head. `remove`: it ended."""
    actor: str
    """Who did it: `bundle`, `api`, `refit <id>`, `server`."""
    reason: str
    """Why, in the actor's words."""
    at: str
    """ISO 8601."""
    previous: str | None
    """sha256 of the record before this one, as it lies in the store."""
    bake: Bake | None = None
    """How long and by which rules the head is watched; null: it is not."""


def _parse(name: str, data: bytes) -> Activation:
    try:
        record = Activation.model_validate_json(data)
    except ValidationError as error:
        raise StoreError(f"{name} is damaged: {error.errors()[0]['msg']}") from error
    if int(Path(name).stem) != record.number:
        raise StoreError(f"{name} is damaged: expected activation {int(Path(name).stem)}, got {record.number}")
    return record


class Log:
    """The log of a line. Records are read and verified once; later only new ones are read.

    Args:
        store: where it is.
        folder: its place in the store.

    Attributes:
        folder: its place in the store.
        next: the number that the next record gets, as of the last reading.
    """

    def __init__(self, store: Store, folder: str = FOLDER) -> None:
        self._store = store
        self.folder = folder
        self._records: list[Activation] = []
        self._hash: str | None = None
        self._defects: list[str] = []
        self._at_end: list[str] = []
        self._end: str | None = None
        self.next = 1
        self._busy = asyncio.Lock()

    def _name(self, number: int) -> str:
        return f"{self.folder}/{number:08d}.json"

    def had(self, head: int) -> bool:
        """Whether a head was ever live, as of the last reading."""
        return any(record.head == head for record in self._records)

    @property
    def defects(self) -> list[str]:
        """The defects of the log, as of the last reading, in words."""
        return self._defects + self._at_end

    @property
    def bad_end(self) -> str:
        """The defect of the newest record; empty if it has none."""
        return self._at_end[-1] if self._at_end else ""

    async def read(self) -> list[Activation]:
        """Return the whole log, oldest first.

        Raises:
            StoreError: a record is missing or damaged, or does not carry the hash of the one before it.
        """
        found = await self.readable()
        if self.defects:
            raise StoreError(self.defects[0])
        return found

    async def readable(self) -> list[Activation]:
        """Return the records that can be read, oldest first; `defects` has the errors of the others.

        Raises:
            StoreError: the store cannot be read.
        """
        async with self._busy:
            return await self._read()

    async def is_newest(self, number: int) -> bool:
        """Whether nothing follows a record; it reads one name, however long the log is."""
        return not await self._store.has(self._name(number + 1))

    async def _read(self) -> list[Activation]:
        """Read what follows the last good record. A damaged end is read again each time: it may have been repaired."""
        known = self._records[-1].number if self._records else 0
        names = await self._store.names(self.folder)
        names = [name for name in names if _FILE.fullmatch(name.removeprefix(f"{self.folder}/"))]
        self._end, self._at_end, self.next = self._hash, [], known + 1
        for name in names[bisect_right(names, self._name(known)) :]:
            if name != self._name(self.next):
                self._at_end.append(f"{self._name(self.next)} is missing: {name} comes instead")
            data = await self._store.get(name)
            before, self._end, self.next = self._end, hashlib.sha256(data).hexdigest(), int(Path(name).stem) + 1
            try:
                record = _parse(name, data)
            except StoreError as error:
                self._at_end.append(str(error))
                continue
            if record.previous != before:
                changed = f"{name} does not carry the hash of the record before it: the log was changed"
                self._defects += self._at_end or [changed]
            self._keep(record, data)
        return list(self._records)

    def _keep(self, record: Activation, data: bytes) -> None:
        self._records.append(record)
        self._hash = self._end = hashlib.sha256(data).hexdigest()
        self._at_end, self.next = [], record.number + 1

    async def append(
        self,
        head: HeadRecord,
        actor: str,
        reason: str,
        expected_live: int | None = None,
        kind: Kind = "activate",
        number: int | None = None,
        bake: Bake | None = None,
    ) -> Activation:
        """Make a head the live one.

        Args:
            head: what goes live.
            actor: who does it.
            reason: why.
            expected_live: the version that must be live. None means any.
            kind: what happens; `create` where there is no such line, anything else where there is one.
            number: number that the activation must get. None means the next.
            bake: how the head is watched then.

        Raises:
            Conflict: another head is live than was expected, another writer appended first, or the line to create is
                there.
            NotFound: the line was removed.
        """
        async with self._busy:
            records = await self._read()
            _check_there(records, kind)
            check_live(records, expected_live)
            if number not in {None, self.next}:
                raise Conflict(f"the next activation is {self.next}; expected {number}: someone else was first")
            record = Activation(
                number=self.next,
                head=head.version,
                digest=head.digest,
                kind=kind,
                actor=actor,
                reason=reason,
                at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                previous=self._end,
                bake=bake,
            )
            data = record.model_dump_json(indent=1).encode() + b"\n"
            try:
                await self._store.create(self._name(record.number), data)
            except StoreError as error:
                if not await self._has(record.number, data):
                    if not isinstance(error, Conflict):
                        raise
                    message = f"activation {record.number} was taken meanwhile: someone else was first"
                    raise Conflict(message) from error
                LOG.warning("activation %d is in the store, which had said: %s", record.number, error)
            self._keep(record, data)
            return record

    async def _has(self, number: int, data: bytes) -> bool:
        """Whether the store has this very record although writing it failed: a retry may have met our own first
        write.
        """
        with contextlib.suppress(StoreError):
            return await self._store.get(self._name(number)) == data
        return False


def _check_there(records: list[Activation], kind: Kind) -> None:
    """Check that a line is there, or, to create it, that it is not."""
    removed = bool(records) and records[-1].kind == "remove"
    if kind == "create" and records and not removed:
        raise Conflict("the line is there already: someone else was first")
    if kind != "create" and removed:
        raise NotFound(f"the line was removed, by {records[-1].actor}")


def check_live(records: list[Activation], expected: int | None) -> None:
    """Check that the expected head is live. None means any.

    Raises:
        Conflict: naming both.
    """
    live = records[-1].head if records else None
    if expected is not None and live != expected:
        raise Conflict(f"head {live} is live; expected head {expected}: someone else was first")


def before(records: list[Activation]) -> int | None:
    """Return the version that a rollback leads to: the one live before the last change that was not rolled back."""
    trail: list[int] = []
    for record in records:
        if record.kind == "create":
            trail = [record.head]
        elif record.kind == "rollback" and record.head in trail:
            while trail[-1] != record.head:
                trail.pop()
        elif not trail or trail[-1] != record.head:
            trail.append(record.head)
    return trail[-2] if len(trail) > 1 else None
