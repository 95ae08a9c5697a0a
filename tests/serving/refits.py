"""Refits of a server under test: asked for, followed, waited for. It knows nothing of what becomes of them."""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tiny import tiny_snapshot

from breadcrumbs.models.snapshots import snapshot as snapshots

NEVER, ALWAYS = {"spec": {"activate": "never"}}, {"spec": {"activate": "always"}}


def upload(client: httpx.Client, epoch: int = 2) -> str:
    """Put a snapshot and return its sha256."""
    answer = client.put("/v1/snapshots", content=snapshots.to_bytes(tiny_snapshot("b" * 64, epoch)))
    assert answer.status_code in {200, 201}, answer.text
    return str(answer.json()["sha256"])


def events(client: httpx.Client, job: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """A refit's events, until it has ended."""
    with client.stream("GET", f"/v1/refit/{job}/events", headers={"Last-Event-ID": str(after)}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line[6:])


def finish(client: httpx.Client, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Start a refit, wait for its end and return it."""
    started = client.post("/v1/refit", json=body or {})
    assert started.status_code == 202, started.text
    assert started.headers["location"] == f"/v1/refit/{started.json()['id']}"
    *_, last = events(client, started.json()["id"])
    job = client.get(started.headers["location"]).json()
    assert job["state"] == last["state"]
    return dict(job)


def until(client: httpx.Client, job: str, stage: str = "read") -> None:
    """Return when the child has told a stage; it is alive then."""
    for event in events(client, job):
        if event.get("stage") == stage:
            return
    pytest.fail(f"refit {job} ended before {stage}")


def alive(pid: int) -> bool:
    """Whether there is a process of that number."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
