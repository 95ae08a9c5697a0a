"""One refit job: it is what its events add up to, and every event is in the store before anybody hears of it.

`refits/<id>/request.json` says what was asked, `events.jsonl` is the job's memory: a restart reads it back. This
knows nothing of queues, processes or HTTP.
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

from pydantic import BaseModel, Field

from breadcrumbs.serving.refits.refit import RefitRequest, Verdict
from breadcrumbs.serving.state.keys import owner_of
from breadcrumbs.serving.state.store import Conflict, NotFound, Store, StoreError

LOG = logging.getLogger("breadcrumbs.job")

State = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
ENDED: frozenset[State] = frozenset({"succeeded", "failed", "cancelled", "interrupted"})


QUIET = 2.0
"""Seconds without an event after which a job's end is looked for beside its events."""


class Failure(BaseModel):
    """Why a refit failed."""

    type: str
    message: str


class Job(BaseModel):
    """A refit, as far as it has come."""

    id: str
    state: State = "queued"
    request: RefitRequest
    created: str
    owner: str | None = Field(default=None, description="name of the key that started it; null: none came")
    started: str | None = None
    finished: str | None = None
    progress: dict[str, Any] = Field(default={}, description="the stage, and the solver's last iteration")
    verdict: Verdict | None = None
    error: Failure | None = None


class Kept(BaseModel):
    """`request.json`: what a job was asked, and under which key."""

    request: RefitRequest
    created: str
    key: str | None = None
    actor: str = "api"
    elsewhere: bool = False
    """Whether a server took it that does not run refits: then it waits in the store, whoever stops."""


def fold(job: Job, event: dict[str, Any]) -> Job:
    """Return what a job is after an event; one that has ended stays as it is."""
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
        """Write an event, then announce it; after the end of a job, nothing is said any more.

        Its end is an object of its own first, which one server alone can create: where another one was first, its word
        holds here, too.
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
            except StoreError as error:  # whoever reads them finds the end beside them
                LOG.warning("refit %s: its events lack the last one: %s", self.job.id, error)

    async def read(self, quiet: float = QUIET) -> None:
        """Take up the events that the server that runs the job has written since.

        Args:
            quiet: seconds without one after which the job's end is looked for where that server has it first; so others
                hear of it from the events, which come when that server knows of it, too.
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
            async with self.changed:  # it was in two hands, and the store has the word of the one that was first
                self.job, self.events = _folded(job, stored), stored
                self.changed.notify_all()

    async def _take(self, fresh: list[dict[str, Any]]) -> None:
        async with self.changed:
            self.job = _folded(self.job, fresh)
            self.events = self.events + fresh
            self.changed.notify_all()

    async def ended(self) -> None:
        """Wait until the job has."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.job.state in ENDED)

    async def end(self, state: State, **more: Any) -> None:
        """Say the last event; if even that cannot be written, the job still ends here."""
        event = {"event": "state", "state": state, **more}
        try:
            await self.say(event)
        except StoreError:
            LOG.exception("refit %s: its end cannot be written", self.job.id)
            async with self.changed:
                self.job = fold(self.job, {**event, "at": datetime.now(UTC).isoformat(timespec="milliseconds")})
                self.changed.notify_all()

    async def follow(self, after: int, pulse: float = 15.0) -> AsyncIterator[dict[str, Any] | None]:
        """Yield the events after number `after`, as they come, until the job has ended.

        Every `pulse` seconds without one, None is yielded: a sign of life for whoever stands between.
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
    """The id of the job that an Idempotency-Key makes: one of the key alone, so that two servers cannot make two."""
    return f"key-{hashlib.sha256(key.encode()).hexdigest()[:24]}"


async def create(
    store: Store, request: RefitRequest, key: str | None, actor: str, *, elsewhere: bool
) -> History | None:
    """Write down a new job; `actor` is who asks for it. None: there is one of that key."""
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
    """Read a job back.

    Raises:
        NotFound: there is none.
        StoreError: what the store has of it is damaged.
    """
    try:
        kept = Kept.model_validate_json(await store.get(f"refits/{job}/request.json"))
    except ValueError as error:
        raise StoreError(f"refit {job} is damaged: {error}") from error
    events = await _stored(store, job)
    made = Job(id=job, request=kept.request, created=kept.created, owner=owner_of(kept.actor))
    return History(store, _folded(made, events), events, kept)


async def _stored(store: Store, job: str) -> list[dict[str, Any]]:
    """Read a job's events; its end, where a server was lost between saying it and writing it among them."""
    return await _with_end(store, job, _events(job, await _get(store, _log(job))))


def _log(job: str) -> str:
    return f"refits/{job}/events.jsonl"


async def _with_end(store: Store, job: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a job's events with its end, where that was created and is not among them."""
    if not (events and events[-1].get("state") in ENDED):
        for end in _events(job, await _get(store, f"refits/{job}/end.json")):
            events = [*events, {**end, "id": len(events) + 1}]
    return events


async def _end(store: Store, job: str, event: dict[str, Any]) -> dict[str, Any]:
    """Write a job's last event, and return it, or that which another server has written before."""
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
    except NotFound:  # the server ended between the two first writes, or nobody has taken the job up yet
        return b""
