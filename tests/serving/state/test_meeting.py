"""Uploads, deletions and `store gc` that meet at one snapshot, in hundreds of orders: what was acknowledged stays."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore
from tiny import tiny_snapshot

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.files import sha256
from breadcrumbs.models.snapshots import snapshot as snapshot_files
from breadcrumbs.serving.retention import Retention
from breadcrumbs.serving.state import snapshot_deletion, snapshots
from breadcrumbs.serving.state.conversion import Converter
from breadcrumbs.serving.state.store import Item, NotFound, Store
from breadcrumbs.serving.upkeep import collect, verify

STEPS = ("get", "create", "replace", "put_file", "delete", "move", "has", "items", "sha256")
ORDERS = 60
AGED = timedelta(days=365)


class Turns:
    """Lets one of several coroutines make one step at a time, in an order that a seed gives."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._waiting: list[asyncio.Future[None]] = []
        self._changed = asyncio.Event()

    async def take(self) -> None:
        """Wait for one's turn."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._changed.set()
        await turn

    async def run(self, *works: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run all to their ends."""
        tasks = [asyncio.ensure_future(work) for work in works]
        for task in tasks:
            task.add_done_callback(lambda _: self._changed.set())
        while left := sum(not task.done() for task in tasks):
            if len(self._waiting) >= left:
                self._waiting.pop(self._random.randrange(len(self._waiting))).set_result(None)
            self._changed.clear()
            await self._changed.wait()
        return await asyncio.gather(*tasks, return_exceptions=True)


def stepping(objects: MemoryStore, turns: Turns) -> Store:
    """A store, each of whose steps waits for its turn."""
    store = Store(objects)

    def slow(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def step(*arguments: Any, **more: Any) -> Any:
            await turns.take()
            return await method(*arguments, **more)

        return step

    for name in STEPS:
        setattr(store, name, slow(getattr(store, name)))
    return store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A snapshot's file."""
    path = tmp_path / "snapshot"
    path.write_bytes(snapshot_files.to_bytes(tiny_snapshot("b" * 64, 2)))
    return path


async def put(store: Store, file: Path, bundle: Bundle) -> str:
    """Upload, as the route does."""
    await snapshots.add(store, file, sha256(file), bundle, Converter(10**6))
    return "kept"


@pytest.mark.parametrize("damage", ["none", "absent", "no features", "no record", "other features", "half a record"])
@pytest.mark.parametrize("deletions", [1, 2])
def test_an_upload_that_meets_deletions_is_whole_or_deleted(
    file: Path, tiny_bundle: Bundle, damage: str, deletions: int
) -> None:
    """In whatever order their steps come, and whatever was there before; no record is without its features."""
    sha = sha256(file)
    seen = set()

    async def meet(seed: int) -> None:
        objects, turns = MemoryStore(), Turns(seed)
        calm = Store(objects)
        if damage != "absent":
            await put(calm, file, tiny_bundle)
        await spoil(calm, sha, damage)
        store = stepping(objects, turns)
        await turns.run(
            put(store, file, tiny_bundle), *(snapshot_deletion.remove(store, sha) for _ in range(deletions)),
            put(store, file, tiny_bundle),
        )  # fmt: skip
        found = await verify(calm)
        there = await calm.has(f"snapshots/{sha}.json")
        seen.add(there)

        assert found.sound, (seed, found.findings)
        assert there == await calm.has(f"snapshots/{sha}.safetensors") or not there, seed

    for seed in range(ORDERS):
        asyncio.run(meet(seed))
    assert True in seen


async def spoil(store: Store, sha: str, damage: str) -> None:
    """Damage what is in the store."""
    if damage == "no features":
        await store.delete(f"snapshots/{sha}.safetensors")
    elif damage == "no record":
        await store.delete(f"snapshots/{sha}.json")
    elif damage == "other features":
        await store.replace(f"snapshots/{sha}.safetensors", b"other")
    elif damage == "half a record":
        await store.replace(f"snapshots/{sha}.json", b'{"sha256": "')


@pytest.mark.parametrize("damage", ["none", "absent", "no features", "no record", "other features", "half a record"])
def test_what_is_uploaded_beside_gc_stays(file: Path, tiny_bundle: Bundle, damage: str) -> None:
    """An upload that is acknowledged after gc began is there when both have ended, however old the snapshot was."""
    sha = sha256(file)

    async def meet(seed: int) -> None:
        objects, turns = MemoryStore(), Turns(seed)
        calm = Store(objects)
        if damage != "absent":
            await put(calm, file, tiny_bundle)
        await spoil(calm, sha, damage)
        old = set(await calm.names(""))
        gc = stepping(objects, turns)
        listing = gc.items

        async def aged(prefix: str = "") -> list[Item]:
            found = await listing(prefix)
            return [replace(item, written=item.written - AGED) if item.name in old else item for item in found]

        setattr(gc, "items", aged)  # noqa: B010 - an instance's own
        gone, kept = await turns.run(
            collect(gc, Retention(days=1), settle=0.0), put(stepping(objects, turns), file, tiny_bundle)
        )
        assert not isinstance(gone, BaseException), gone
        assert kept == "kept"
        found = await verify(calm)

        assert found.sound, (seed, found.findings)
        await snapshots.get(calm, sha, tiny_bundle)
        assert await calm.sha256(f"snapshots/{sha}.safetensors") == sha, seed

    for seed in range(ORDERS):
        asyncio.run(meet(seed))


@pytest.mark.parametrize("damage", ["no features", "no record", "other features", "half a record"])
def test_what_is_uploaded_again_heals(file: Path, tiny_bundle: Bundle, damage: str) -> None:
    """Whatever is damaged or missing of it."""
    sha = sha256(file)

    async def heal() -> None:
        store = Store(MemoryStore())
        await put(store, file, tiny_bundle)
        await spoil(store, sha, damage)
        _, new = await snapshots.add(store, file, sha, tiny_bundle, Converter(10**6))

        assert new
        assert (await verify(store)).sound
        assert await store.sha256(f"snapshots/{sha}.safetensors") == sha
        assert len(await snapshots.holds(store, sha)) == 1

    asyncio.run(heal())


def test_a_deletion_that_was_killed_is_ended_by_gc(file: Path, tiny_bundle: Bundle) -> None:
    """The features of a snapshot that was uploaded meanwhile come back; those of one that was not go."""
    sha = sha256(file)

    async def end(*, wanted: bool) -> list[str]:
        store = Store(MemoryStore())
        await put(store, file, tiny_bundle)
        await store.move(f"snapshots/{sha}.safetensors", f"gone/{sha}/1")
        if not wanted:
            await store.delete(f"snapshots/{sha}.json")
        await collect(store, Retention(), settle=0.0, now=datetime.now(UTC) + timedelta(days=2))
        return [name for name in await store.names("") if not name.startswith("holds/")]

    assert asyncio.run(end(wanted=True)) == [f"snapshots/{sha}.json", f"snapshots/{sha}.safetensors"]
    assert asyncio.run(end(wanted=False)) == []
    with pytest.raises(NotFound):
        asyncio.run(snapshot_deletion.remove(Store(MemoryStore()), sha))
