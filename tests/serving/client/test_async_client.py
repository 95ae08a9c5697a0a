"""The client for asyncio, against a real server; and that both clients are one interface, and all of it."""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from running import Serve, make_settings
from tiny import CLASSES, picture, png

from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.client import calls, example_calls, trial_calls
from breadcrumbs.serving.client.async_client import AsyncClient
from breadcrumbs.serving.client.call import Call
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.http.examples.schemas import LabelBody
from breadcrumbs.serving.trials.trial import TrialSpec
from breadcrumbs.training.config import RefitSpec

T = TypeVar("T")
ARGUMENTS: dict[str, Any] = {
    "files": [("a", b"")], "labels": ["oak"], "epoch": 1, "sha256": "a", "job": "j", "version": 3, "name": "0-0.png",
    "features": np.zeros((1, 4), np.float32), "answer": "a", "example": "e",
    "number": 1, "spec": TrialSpec(head=1),
    "said": [LabelBody.model_validate({"answer": "a", "class": "oak"})],
}  # fmt: skip


def asking(serve: Serve, work: Callable[[AsyncClient], Awaitable[T]], *mode: str) -> T:
    """Do something with a client for asyncio and a server of its own."""

    async def ask(url: str) -> T:
        async with AsyncClient(url) as client:
            return await work(client)

    with serve(*mode) as server:
        return asyncio.run(ask(str(server.base_url)))


def test_from_an_image_to_a_refitted_head_and_back(serve: Serve, tmp_path: Path) -> None:
    """Every method does what it says, awaited."""
    (tmp_path / "a.png").write_bytes(png(picture(1)))
    images = [tmp_path / "a.png", png(picture(2))]

    async def walk(client: AsyncClient) -> None:
        predicted, same = await asyncio.gather(client.predict(images, top_k=1), client.predict(images, head=1))
        assert predicted.predictions[0].classes[0].name in CLASSES
        assert same.head.version == 1
        found = await client.features(images)
        assert len(found.features[1]) == 4
        assert len((await client.predict_features(found, top_k=1)).predictions) == 2

        path = tmp_path / "new.safetensors"
        path.write_bytes(await client.snapshot(images, ["oak", 2], 9))
        assert snapshots.read(path).labels.tolist() == [0, 2]
        told: list[tuple[int, int]] = []
        stored = await client.put_snapshot(path, sent=lambda done, of: told.append((done, of)))
        assert told[-1] == (path.stat().st_size, path.stat().st_size)
        assert await client.snapshots() == [await client.snapshot_record(stored.sha256)]

        job = await client.refit([stored.sha256], RefitSpec(activate="never"), key="k")
        assert (await client.refit([stored.sha256], RefitSpec(activate="never"), key="k")).id == job.id
        assert (await anext(client.events(job.id, after=1)))["id"] == 2
        done = await client.wait(job.id)
        assert (done.state, done.report is not None) == ("succeeded", True)
        assert (await client.jobs())[0].id == (await client.job(job.id)).id == job.id
        assert b"<script>" in await client.report_page(job.id)

        assert (await client.activate(2, "better", expected_live=1)).head == 2
        assert (await client.heads()).live == 2
        assert heads.from_onnx(await client.head_onnx(2)).digest == (await client.head(2)).digest
        assert (await client.rollback("worse", expected_live=2)).head == 1
        assert [one.head for one in await client.activations(limit=2)] == [1, 2]
        assert ((await client.alive()).status, (await client.ready()).status) == ("alive", "ready")
        assert await client.samples() == []
        assert "breadcrumbs_head_swaps_total" in await client.metrics()
        await client.delete_snapshot(stored.sha256)
        assert await client.snapshots() == []

    asking(serve, walk)


def test_a_refit_is_cancelled_and_started_again(serve: Serve, tmp_path: Path) -> None:
    """Restarting makes a new job of the same request."""

    async def walk(client: AsyncClient) -> None:
        job = await client.refit()
        async for event in client.events(job.id):
            if event["event"] == "stage":
                break
        assert (await client.cancel(job.id)).state == "cancelled"
        again = await client.restart(job.id)
        assert again.id != job.id
        await client.cancel(again.id)

    asking(serve, walk, "hangs", str(tmp_path / "pid"))


def test_a_refusal_is_raised_in_the_servers_words(serve: Serve, tmp_path: Path) -> None:
    """With its status and type, from streams too; a file that is not there is named before anything is sent."""

    async def walk(client: AsyncClient) -> None:
        with pytest.raises(ServerError, match="there is no head 9") as refusal:
            await client.head(9)
        assert (refusal.value.status, refusal.value.kind) == (404, "not_found")
        with pytest.raises(ServerError, match="there is no refit 'x'"):
            await client.wait("x")
        with pytest.raises(FileNotFoundError, match="nowhere"):
            await client.put_snapshot(tmp_path / "nowhere")

    asking(serve, walk)


def test_both_clients_have_the_same_methods() -> None:
    """With the same arguments, defaults and words; those of a call are in both, none is forgotten."""
    names = {name for name in vars(Client) if not name.startswith("_")}
    made = {name for name, _ in every_call()}

    assert names == {name for name in vars(AsyncClient) if not name.startswith("_")}
    assert made <= names
    for name in names - {"close", "send"}:
        here, there = (inspect.signature(getattr(one, name)) for one in (Client, AsyncClient))
        assert list(here.parameters.values()) == list(there.parameters.values()), name
        assert "self" in here.parameters
        assert inspect.getdoc(getattr(Client, name)) == inspect.getdoc(getattr(AsyncClient, name)), name


def test_every_route_has_its_call(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Except those of the Open Inference Protocol and of Label Studio, which have clients of their own."""
    paths = create_app(make_settings(tiny_bundle, tmp_path)).openapi()["paths"]
    routes = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    ours = {route for route in routes if not route[1].startswith(("/v2", "/label-studio"))}
    (tmp_path / "looks").touch()
    made = [called_with(make, tmp_path / "looks") for _, make in every_call()]

    called = {route for route in ours if any(fits(call, *route) for call in made)}
    assert called == ours
    assert all(any(fits(call, *route) for route in ours) for call in made)


def every_call() -> Iterator[tuple[str, Any]]:
    """Name and maker of each call."""
    for module in (calls, example_calls, trial_calls):
        for name, make in vars(module).items():
            own = inspect.isfunction(make) and make.__module__ == module.__name__
            if own and not name.startswith("_") and name != "event":
                yield name, make


def called_with(make: Any, path: Path) -> Call[Any]:
    """A call with some arguments."""
    given = ARGUMENTS | {"path": path}
    needed = [one.name for one in inspect.signature(make).parameters.values() if one.default is one.empty]
    found = make(**{one: given[one] for one in needed})
    assert isinstance(found, Call)
    return found


def fits(call: Call[Any], method: str, path: str) -> bool:
    """Whether a call is of a route; a version is a number."""
    pattern = re.sub(r"\{\w+\}", "[^/]+", path.replace("{version}", "[0-9]+"))
    return call.method == method and re.fullmatch(pattern, call.path) is not None
