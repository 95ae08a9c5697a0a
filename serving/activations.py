"""The log of what went live: one immutable record a change, each carrying the sha256 of the one before it.

The record with the highest number is what is live. Appending is put-if-absent of the next number: of two writers one
wins and the other is told. It knows nothing of engines.
"""

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from serving.heads import HeadRecord
from serving.store import Conflict, NotFound, Store, StoreError

Kind = Literal["activate", "rollback"]


class Activation(BaseModel):
    """One change of what is live; `activations/<number>.json`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    number: int
    """1 is the first; the highest is what is live."""
    head: int
    """Version of the head that went live."""
    digest: str
    """sha256 over that head's classes, weight and bias."""
    kind: Kind = "activate"
    """`rollback`: the head before was taken back."""
    actor: str
    """Who did it: `bundle`, `api`, `refit <id>`, `server`."""
    reason: str
    """Why, in the actor's words."""
    at: str
    """ISO 8601."""
    previous: str | None
    """sha256 of the record before this one, as it lies in the store."""


def _name(number: int) -> str:
    return f"activations/{number:08d}.json"


def _parse(name: str, data: bytes) -> Activation:
    try:
        return Activation.model_validate_json(data)
    except ValidationError as error:
        raise StoreError(f"{name} is damaged: {error.errors()[0]['msg']}") from error


class Log:
    """The log of a store. What was read once is kept; only what is new is read, and verified, again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._records: list[Activation] = []
        self._hash: str | None = None
        self._busy = asyncio.Lock()

    async def read(self) -> list[Activation]:
        """Return the whole log, oldest first.

        Raises:
            StoreError: a record is missing or unreadable, or does not carry the hash of the one before it.
        """
        async with self._busy:
            return await self._read()

    @property
    def length(self) -> int:
        """Records read so far."""
        return len(self._records)

    async def is_newest(self, number: int) -> bool:
        """Whether nothing follows a record; one look at one name, however long the log."""
        try:
            await self._store.get(_name(number + 1))
        except NotFound:
            return True
        return False

    async def _read(self) -> list[Activation]:
        names = await self._store.names("activations")
        for name in names[len(self._records) :]:
            data = await self._store.get(name)
            record = _parse(name, data)
            if record.number != len(self._records) + 1 or name != _name(record.number):
                raise StoreError(f"{name}: expected activation {len(self._records) + 1}, got {record.number}")
            if record.previous != self._hash:
                raise StoreError(f"{name} does not carry the hash of the record before it: the log was changed")
            self._keep(record, data)
        return list(self._records)

    def _keep(self, record: Activation, data: bytes) -> None:
        self._records.append(record)
        self._hash = hashlib.sha256(data).hexdigest()

    async def append(
        self,
        head: HeadRecord,
        actor: str,
        reason: str,
        expected_live: int | None = None,
        kind: Kind = "activate",
        number: int | None = None,
    ) -> Activation:
        """Make a head the live one.

        Args:
            head: what goes live.
            actor: who does it.
            reason: why.
            expected_live: the version that is believed to be live; absent: whatever it is.
            kind: whether the head before is taken back.
            number: that the activation must get; absent: the next.

        Raises:
            Conflict: another head is live than was expected, or another writer appended first.
        """
        async with self._busy:
            records = await self._read()
            check_live(records, expected_live)
            if number not in {None, len(records) + 1}:
                raise Conflict(f"there are {len(records)} activations; expected {number}: someone else was first")
            record = Activation(
                number=len(records) + 1,
                head=head.version,
                digest=head.digest,
                kind=kind,
                actor=actor,
                reason=reason,
                at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                previous=self._hash,
            )
            data = record.model_dump_json(indent=1).encode() + b"\n"
            try:
                await self._store.create(_name(record.number), data)
            except Conflict as error:
                if await self._store.get(_name(record.number)) != data:  # else a retry of ours met ourselves
                    message = f"activation {record.number} was taken meanwhile: someone else was first"
                    raise Conflict(message) from error
            self._keep(record, data)
            return record


def check_live(records: list[Activation], expected: int | None) -> None:
    """Refuse to go on where another head is live than was expected; none: any.

    Raises:
        Conflict: naming both.
    """
    live = records[-1].head if records else None
    if expected is not None and live != expected:
        raise Conflict(f"head {live} is live; expected head {expected}: someone else was first")


def before(records: list[Activation]) -> int | None:
    """Return the version that a rollback leads to: what was live before the last change not yet taken back."""
    trail: list[int] = []
    for record in records:
        if record.kind == "rollback" and record.head in trail:
            while trail[-1] != record.head:
                trail.pop()
        elif not trail or trail[-1] != record.head:
            trail.append(record.head)
    return trail[-2] if len(trail) > 1 else None
