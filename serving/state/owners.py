"""The owners of a stored snapshot: the keys that have uploaded it, each with a mark in the store.

    owners/<sha256>/<name of the key>      empty; several, where several keys have uploaded the same content

A key's quota counts the snapshots that it has marked. The mark is made before the snapshot is written, so that a
deletion by another owner sees it. `store gc` removes the marks of removed snapshots. It knows nothing of HTTP.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from breadcrumbs.serving.refusals import OverQuota
from breadcrumbs.serving.state.keys import Key
from breadcrumbs.serving.state.store import Store

UNDER_WAY = timedelta(hours=1)
"""A younger mark may belong to an upload in progress."""


class Claim:
    """A key's ownership of what it uploads; without a key it does nothing.

    Args:
        store: where the snapshots are.
        key: that uploads. None means that there are no keys.
    """

    def __init__(self, store: Store, key: Key | None) -> None:
        self._store = store
        self._key = key
        self._fresh: list[str] = []

    @property
    def name(self) -> str | None:
        """Name of the key."""
        return None if self._key is None else self._key.name

    async def make(self, sha: str, size: int) -> None:
        """Mark a snapshot as the key's own, before it is written.

        Raises:
            OverQuota: with its `size` bytes the key would have more than it may.
        """
        if self._key is None:
            return
        mark = f"owners/{sha}/{self._key.name}"
        if not await self._store.has(mark):
            self._fresh.append(mark)
            await self._store.replace(mark, b"")
        if self._key.max_bytes is not None:
            held = await sizes(self._store, self._key.name)
            others = sum(held.values()) - held.get(sha, 0)
            if others + size > self._key.max_bytes:
                raise OverQuota(
                    f"the key {self._key.name!r} has {others} bytes of snapshots and {size} came; its limit is "
                    f"{self._key.max_bytes}: delete some of its snapshots, or have its max_bytes raised"
                )

    async def withdraw(self) -> None:
        """Remove the marks that this claim made."""
        for mark in self._fresh:
            await self._store.delete(mark)


class Claims:
    """Makes the claims of one server; uploads of a key with a quota are stored one after another."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @contextlib.asynccontextmanager
    async def claiming(self, key: Key | None) -> AsyncIterator[Claim]:
        """Yield a claim, which is withdrawn if the upload fails."""
        bounded = key is not None and key.max_bytes is not None
        async with self._turns[key.name] if key is not None and bounded else contextlib.nullcontext():
            claim = Claim(self._store, key)
            try:
                yield claim
            except BaseException:
                await claim.withdraw()
                raise


async def owners(store: Store, sha: str) -> set[str]:
    """Return the names of the keys that have uploaded a snapshot."""
    return {name.rpartition("/")[2] for name in await store.names(f"owners/{sha}")}


async def sizes(store: Store, owner: str) -> dict[str, int]:
    """Return the bytes of each snapshot that a key has uploaded, by its sha256."""
    own = {name.split("/")[1] for name in await store.names("owners") if name.rpartition("/")[2] == owner}
    found = {item.name: item.size for item in await store.items("snapshots")} if own else {}
    return {sha: size for sha in own if (size := found.get(f"snapshots/{sha}.safetensors")) is not None}


async def disown(store: Store, sha: str, names: set[str] | None = None) -> None:
    """Remove the marks of some keys from a snapshot. None means of all keys."""
    for name in await owners(store, sha) if names is None else names:
        await store.delete(f"owners/{sha}/{name}")


async def sweep(store: Store) -> None:
    """Remove the marks of snapshots that are gone."""
    there = set(await store.names("snapshots"))
    before = datetime.now(UTC) - UNDER_WAY
    for item in await store.items("owners"):
        if f"snapshots/{item.name.split('/')[1]}.json" not in there and item.written < before:
            await store.delete(item.name)
