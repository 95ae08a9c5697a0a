"""One refit job. Its state follows from its events, and every event is in the store before it is announced.

`refits/<id>/request.json` has the request, `events.jsonl` the events; a restarted server reads both. It knows nothing
of queues, processes or HTTP.
"""

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from functools import reduce
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from breadcrumbs.serving.refits.refit import RefitRequest, Verdict
from breadcrumbs.serving.state.keys import NO_KEY, owner_of
from breadcrumbs.serving.state.store import Conflict, NotFound, Store, StoreError

LOG = logging.getLogger("breadcrumbs.job")

State = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
ENDED: frozenset[State] = frozenset({"succeeded", "failed", "cancelled", "interrupted"})


REMOVED = ("gradient_norm", "target_mean", "missing_mean")
"""Fields of a spec that earlier versions stored; no request may send them now."""
QUIET = 2.0
"""Seconds without an event after which a job's `end.json` is read."""


class Failure(BaseModel):
    """Why a refit failed."""

    type: str
    message: str


class Job(BaseModel):
    """The state of a refit."""

    id: str
    state: State = "queued"
    request: RefitRequest
    created: str
    owner: str | None = Field(default=None, description="name of the key that started it; null: none came")
    started: str | None = None
    finished: str | None = None
    progress: dict[str, Any] = Field(default={}, description="the stage, and the solver's last iteration")
    verdict: Verdict | None = Field(
        default=None, description="there as soon as the head is stored, while its report is still being made"
    )
    error: Failure | None = None


class Kept(BaseModel):
    """`request.json`: what a job was asked, and under which key."""

    request: RefitRequest
    created: str
    key: str | None = None
    actor: str = NO_KEY
    elsewhere: bool = False
    """Whether it was started on a server that does not run refits; it then waits in the store, whichever server
    stops."""

    @field_validator("request", mode="before")
    @classmethod
    def _without_removed(cls, request: Any) -> Any:
        """Ignore removed fields, so that a job stored by an earlier version can still be read."""
        if isinstance(request, dict) and isinstance(request.get("spec"), dict):
            spec = {name: value for name, value in request["spec"].items() if name not in REMOVED}
            return {**request, "spec": spec}
        return request


def fold(job: Job, event: dict[str, Any]) -> Job:
    """Return a job's state after an event; a job that has ended does not change."""
    kind = event["event"]
    if job.state in ENDED:
        return job
    if kind == "state":
        state, at = event["state"], event["at"]
        change: dict[str, Any] = {"state": state}
        if state == "running":
            change["started"] = at
        if state in ENDED:
            change["finished"] = at
        for name, model in (("verdict", Verdict), ("error", Failure)):
            if name in event:
                change[name] = model.model_validate(event[name])
        return job.model_copy(update=change)
    told = {name: value for name, value in event.items() if name not in {"id", "at", "event"}}
    if kind in {"live", "stored"}:
        return job.model_copy(update={"verdict": Verdict.model_validate(told)})
    return job.model_copy(update={"progress": job.progress | told})


class History:
    """A job with its events; where it runs, `say` changes it, elsewhere `read` does."""

    def __init__(self, store: Store, job: Job, events: list[dict[str, Any]], kept: Kept) -> None:
        self._store = store
        self.job = job
        self.events = events
        self.key = kept.key
        self.actor = kept.actor
        self.elsewhere = kept.elsewhere
        self.changed = asyncio.Condition()
        self._heard = time.monotonic()
        self._saying = asyncio.Lock()

    async def say(self, event: dict[str, Any]) -> None:
        """Write an event, then announce it; after a job's end, events are ignored.

        The last event is first created as an object of its own, which succeeds on one server only. If another server
            was first, its event counts here, too.
        """
        async with self._saying:
            if self.job.state in ENDED:
                return
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            whole = {"id": len(self.events) + 1, "at": at, **event}
            lines = [json.dumps(item).encode() + b"\n" for item in self.events]
            name = _log(self.job.id)
            if event.get("state") not in ENDED:
                await self._store.replace(name, b"".join(lines) + json.dumps(whole).encode() + b"\n")
                await self._take([whole])
                return
            whole = await _end(self._store, self.job.id, whole)
            await self._take([whole])
            try:
                await self._store.replace(name, b"".join(lines) + json.dumps(whole).encode() + b"\n")
            except StoreError as error:  # readers find the end in its own object
                LOG.warning("refit %s: its events lack the last one: %s", self.job.id, error)

    async def read(self, quiet: float = QUIET) -> None:
        """Read the events that the server which runs the job has written since.

        Args:
            quiet: seconds without a new event after which `end.json` is read, too. Until then the end comes with the
                events, which are written when that server knows of it, too.
        """
        async with self._saying:
            stored, known = _events(self.job.id, await _get(self._store, _log(self.job.id))), len(self.events)
            now = time.monotonic()
            if stored != self.events:
                self._heard = now
            elif now - self._heard >= quiet:
                stored = await _with_end(self._store, self.job.id, stored)
            if stored[:known] == self.events:
                await self._take(stored[known:])
                return
            job = Job(id=self.job.id, request=self.job.request, created=self.job.created)
            async with self.changed:  # two servers ran it, and the store has the events of the first
                self.job, self.events = _folded(job, stored), stored
                self.changed.notify_all()

    async def _take(self, fresh: list[dict[str, Any]]) -> None:
        async with self.changed:
            self.job = _folded(self.job, fresh)
            self.events = self.events + fresh
            self.changed.notify_all()

    async def ended(self) -> None:
        """Wait until the job has ended."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.job.state in ENDED)

    async def decided(self) -> None:
        """Wait until the job has ended, or its head is stored."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.job.state in ENDED or self.job.verdict is not None)

    async def end(self, state: State, **more: Any) -> None:
        """Write the last event; if it cannot be written, the job still ends on this server."""
        await self.insist({"event": "state", "state": state, **more})

    async def insist(self, event: dict[str, Any]) -> None:
        """Write an event; if it cannot be written, it still counts on this server."""
        try:
            await self.say(event)
        except StoreError:
            LOG.exception("refit %s: its event %s cannot be written", self.job.id, event.get("state", event["event"]))
            async with self.changed:
                self.job = fold(self.job, {**event, "at": datetime.now(UTC).isoformat(timespec="milliseconds")})
                self.changed.notify_all()

    async def follow(self, after: int, pulse: float = 15.0) -> AsyncIterator[dict[str, Any] | None]:
        """Yield the events after number `after`, as they come, until the job has ended.

        After every `pulse` seconds without an event, yields None, so that proxies keep the connection open.
        """
        while True:
            try:
                await asyncio.wait_for(self._more(after), pulse)
            except TimeoutError:
                yield None
                continue
            fresh = self.events[after:]
            for event in fresh:
                yield event
            after += len(fresh)
            if not fresh:
                return

    async def _more(self, after: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.events) > after or self.job.state in ENDED)


def named(key: str) -> str:
    """Return the id of an Idempotency-Key's job. It depends on the key alone, so that two servers cannot create two
    jobs.
    """
    return f"key-{hashlib.sha256(key.encode()).hexdigest()[:24]}"


async def create(
    store: Store, request: RefitRequest, key: str | None, actor: str, *, elsewhere: bool
) -> History | None:
    """Create a job in the store. None means that the key has one already."""
    now = datetime.now(UTC)
    job = Job(
        id=f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}" if key is None else named(key),
        request=request,
        created=now.isoformat(timespec="milliseconds"),
        owner=owner_of(actor),
    )
    kept = Kept(request=request, created=job.created, key=key, actor=actor, elsewhere=elsewhere)
    try:
        await store.create(f"refits/{job.id}/request.json", kept.model_dump_json(indent=1).encode() + b"\n")
    except Conflict:
        return None
    return History(store, job, [], kept)


async def read(store: Store, job: str) -> History:
    """Read a job from the store.

    Raises:
        NotFound: there is none.
        StoreError: it is damaged.
    """
    try:
        kept = Kept.model_validate_json(await store.get(f"refits/{job}/request.json"))
    except ValueError as error:
        raise StoreError(f"refit {job} is damaged: {error}") from error
    events = await _stored(store, job)
    made = Job(id=job, request=kept.request, created=kept.created, owner=owner_of(kept.actor))
    return History(store, _folded(made, events), events, kept)


async def _stored(store: Store, job: str) -> list[dict[str, Any]]:
    """Read a job's events, with the end if a server was lost before it wrote that among them."""
    return await _with_end(store, job, _events(job, await _get(store, _log(job))))


def _log(job: str) -> str:
    return f"refits/{job}/events.jsonl"


async def _with_end(store: Store, job: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a job's events, with its end if that was created and is not among them."""
    if not (events and events[-1].get("state") in ENDED):
        for end in _events(job, await _get(store, f"refits/{job}/end.json")):
            events = [*events, {**end, "id": len(events) + 1}]
    return events


async def _end(store: Store, job: str, event: dict[str, Any]) -> dict[str, Any]:
    """Write a job's last event and return it, or return the one that another server wrote first."""
    try:
        await store.create(f"refits/{job}/end.json", json.dumps(event).encode() + b"\n")
    except Conflict:
        for end in _events(job, await store.get(f"refits/{job}/end.json")):
            LOG.warning("refit %s is %s already, by another server", job, end.get("state"))
            return {**end, "id": event["id"]}
    return event


def _events(job: str, lines: bytes) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in lines.splitlines()]
    except ValueError as error:
        raise StoreError(f"refit {job} is damaged: {error}") from error


def _folded(job: Job, events: Iterable[dict[str, Any]]) -> Job:
    try:
        return reduce(fold, events, job)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"refit {job.id} is damaged: {error}") from error


async def _get(store: Store, name: str) -> bytes:
    try:
        return await store.get(name)
    except NotFound:  # the server stopped between the first two writes, or the job has not begun
        return b""
