"""A lease in the store: only one server at a time may do something, until it stops or dies.

`leases/<name>/<number>.json` names the holder. Creating the next number takes the lease; this succeeds for one server
only, and the highest number counts. The holder rewrites its object every `RENEW` seconds. Other servers time this with
their own clocks, so clocks need not agree: after `EXPIRY` seconds without a change the lease has expired. If the holder
was a process on this machine that has died, it expires at once. It knows nothing of what is done under a lease.
"""

import asyncio
import contextlib
import logging
import os
import re
import secrets
import socket
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from breadcrumbs.serving.processes.child import began
from breadcrumbs.serving.state.store import Conflict, NotFound, Store, StoreError

LOG = logging.getLogger("breadcrumbs.lease")
RENEW = 2.0
"""Seconds between two writes of the holder."""
EXPIRY = 10.0
"""Seconds without a write after which the lease has expired."""
POLL = 1.0
"""Seconds between two polls of a server that waits."""


class Holder(BaseModel):
    """Who has a lease; `leases/<name>/<number>.json`."""

    model_config = ConfigDict(frozen=True)

    token: str
    """Of one server, at random."""
    host: str
    process: int
    machine: str
    """The boot and the process namespace that `process` belongs to; empty if unknown."""
    started: str
    """When the process began, as the machine counts."""
    beat: int = 0
    """How often it was renewed."""
    released: bool = False

    @property
    def told(self) -> str:
        """The holder, for messages."""
        return f"process {self.process} on {self.host}"


class Lost(StoreError):
    """Another server has the lease now."""


class Lease:
    """A lease, as one server sees it.

    Args:
        store: where it is.
        name: what it is for.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._prefix = f"leases/{name}"
        self._own = Holder(
            token=secrets.token_hex(8), host=socket.gethostname(), process=os.getpid(), machine=_machine(),
            started=began(os.getpid()),
        )  # fmt: skip
        self._number = 0
        self._seen: tuple[int, bytes, float] | None = None
        self._writing = asyncio.Lock()
        self.holder: Holder | None = None
        """Who has it, as of the last poll. None means nobody, or this server."""

    @property
    def held(self) -> bool:
        """Whether this server has it, as far as it knows."""
        return self._number > 0

    async def acquire(self) -> bool:
        """Take the lease if nobody has it; `holder` says who does.

        Raises:
            StoreError: the store cannot be read or written.
        """
        number, data = await self._newest()
        if number and self._is_held(number, data):
            return False
        try:
            await self._store.create(self._name(number + 1), _text(self._own))
        except Conflict:
            return False  # another server was first; the next poll shows which
        self._number, self.holder = number + 1, None
        for old in await self._store.names(self._prefix):
            if _number(old) <= number:
                await self._store.delete(old)
        return True

    def _is_held(self, number: int, data: bytes) -> bool:
        """Whether the newest lease has not expired."""
        now = time.monotonic()
        if self._seen is None or self._seen[:2] != (number, data):
            self._seen = (number, data, now)
        try:
            self.holder = Holder.model_validate_json(data)
        except ValidationError:  # a partial file, on a store without atomic writes; it expires if it does not change
            self.holder = None
        if self.holder is not None and (self.holder.released or _is_gone(self.holder)):
            return False
        return now - self._seen[2] < EXPIRY

    async def renew(self) -> None:
        """Renew this server's lease.

        Raises:
            Lost: another server has it.
            StoreError: the store cannot be read or written; who has the lease is unknown.
        """
        async with self._writing:
            number, data = await self._newest()
            if not self._number or number > self._number:
                self._number, self.holder = 0, None
                with contextlib.suppress(ValidationError):
                    self.holder = Holder.model_validate_json(data)
                raise Lost(f"another server has taken over: {self.holder.told if self.holder else 'unknown'}")
            self._own = self._own.model_copy(update={"beat": self._own.beat + 1})
            await self._store.replace(self._name(self._number), _text(self._own))

    async def release(self) -> None:
        """Release the lease, so that the next server need not wait; if the store fails, it expires."""
        async with self._writing:
            number, self._number = self._number, 0
            if not number:
                return
            try:
                await self._store.replace(self._name(number), _text(self._own.model_copy(update={"released": True})))
            except StoreError as error:
                LOG.warning("the lease %s cannot be released: %s", self._prefix, error)

    async def _newest(self) -> tuple[int, bytes]:
        """Return the highest number and its bytes; 0 if there is none."""
        while True:
            number = max(map(_number, await self._store.names(self._prefix)), default=0)
            if not number:
                return 0, b""
            with contextlib.suppress(NotFound):  # the next holder has removed it
                return number, await self._store.get(self._name(number))

    def _name(self, number: int) -> str:
        return f"{self._prefix}/{number:08d}.json"


def _text(holder: Holder) -> bytes:
    return holder.model_dump_json(indent=1).encode() + b"\n"


def _number(name: str) -> int:
    found = re.search(r"/([0-9]{8,12})\.json$", name)
    return int(found[1]) if found else 0


def _machine() -> str:
    """Return this machine's boot id and process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _is_gone(holder: Holder) -> bool:
    """Whether a holder was a process of this machine that has ended."""
    ours = bool(holder.machine) and holder.machine == _machine()
    return ours and began(holder.process) != holder.started
