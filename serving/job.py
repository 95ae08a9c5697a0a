"""One refit job: it is what its events add up to, and every event is in the store before anybody hears of it.

`refits/<id>/request.json` says what was asked, `events.jsonl` is the job's memory: a restart reads it back. This
knows nothing of queues, processes or HTTP.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from serving.refit import RefitRequest, Verdict
from serving.store import NotFound, Store, StoreError

LOG = logging.getLogger("breadcrumbs.job")

State = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
ENDED: frozenset[State] = frozenset({"succeeded", "failed", "cancelled", "interrupted"})


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


def fold(job: Job, event: dict[str, Any]) -> Job:
    """Return what a job is after an event."""
    kind = event["event"]
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


class Trail:
    """A job with its events; `say` is the one way to change it."""

    def __init__(self, store: Store, job: Job, events: list[dict[str, Any]], kept: Kept) -> None:
        self._store = store
        self.job = job
        self.events = events
        self.key = kept.key
        self.actor = kept.actor
        self.changed = asyncio.Condition()
        self._saying = asyncio.Lock()

    async def say(self, event: dict[str, Any]) -> None:
        """Write an event, then announce it."""
        async with self._saying:
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            whole = {"id": len(self.events) + 1, "at": at, **event}
            lines = b"".join(json.dumps(item).encode() + b"\n" for item in [*self.events, whole])
            await self._store.replace(f"refits/{self.job.id}/events.jsonl", lines)
            async with self.changed:
                self.events.append(whole)
                self.job = fold(self.job, whole)
                self.changed.notify_all()

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


async def create(store: Store, request: RefitRequest, key: str | None, actor: str) -> Trail:
    """Write down a new job, queued; `actor` is who asks for it."""
    now = datetime.now(UTC)
    job = Job(
        id=f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}",
        request=request,
        created=now.isoformat(timespec="milliseconds"),
    )
    kept = Kept(request=request, created=job.created, key=key, actor=actor)
    await store.create(f"refits/{job.id}/request.json", kept.model_dump_json(indent=1).encode() + b"\n")
    trail = Trail(store, job, [], kept)
    await trail.say({"event": "state", "state": "queued"})
    return trail


async def read(store: Store, job: str) -> Trail:
    """Read a job back.

    Raises:
        StoreError: what the store has of it is damaged.
    """
    try:
        kept = Kept.model_validate_json(await store.get(f"refits/{job}/request.json"))
        events = [json.loads(line) for line in (await _lines(store, job)).splitlines()]
        state = Job(id=job, request=kept.request, created=kept.created)
        for event in events:
            state = fold(state, event)
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"refit {job} is damaged: {error}") from error
    return Trail(store, state, events, kept)


async def _lines(store: Store, job: str) -> bytes:
    try:
        return await store.get(f"refits/{job}/events.jsonl")
    except NotFound:  # the server ended between the two first writes
        return b""
