"""Snapshots deleted from the store, while uploads of the same content may be under way on any server.

`serving.state.snapshots` explains how the two work together.
"""

import contextlib
import secrets
from collections.abc import Container
from datetime import datetime

from breadcrumbs.serving.state.snapshots import holds, object_name
from breadcrumbs.serving.state.store import Conflict, NotFound, Store


async def remove(store: Store, sha: str) -> None:
    """Delete a snapshot, its record first, so that a half-deleted one is not listed.

    Raises:
        NotFound: there is none of that sha256.
    """
    if not await store.has(object_name(sha, "json")):
        raise NotFound(f"there is no snapshot {sha:.80}")
    earlier = await holds(store, sha)
    await store.delete(object_name(sha, "json"))
    for name in earlier:
        await store.delete(name)
    await drop(store, sha)


async def drop(store: Store, sha: str, record: str | None = None, known: Container[str] = ()) -> bool:
    """Delete the features of a snapshot whose record is gone. False means that it was uploaded meanwhile, and is kept.

    Args:
        store: where it is.
        sha: its sha256.
        record: where the record was moved to. It is restored if there is a hold that is not `known`. None means that it
            was deleted, and holds do not count.
        known: the holds that existed when the deletion was decided.
    """
    features, aside = object_name(sha, "safetensors"), f"gone/{sha}/{secrets.token_hex(8)}"
    moved = True
    try:
        await store.move(features, aside)
    except NotFound:
        moved = False
    fresh = record is not None and any(name not in known for name in await holds(store, sha))
    wanted = fresh or await store.has(object_name(sha, "json"))
    if wanted and moved and not await store.has(features) and await store.sha256(aside) == sha:
        await store.move(aside, features)
    elif moved:
        await store.delete(aside)
    if record is not None:
        if fresh and await store.has(features):
            await put_back(store, record, object_name(sha, "json"))
        await store.delete(record)
    return not wanted


async def put_back(store: Store, aside: str, name: str) -> None:
    """Move an object back to its name, unless that was written anew."""
    with contextlib.suppress(NotFound, Conflict):
        await store.create(name, await store.get(aside))
    await store.delete(aside)


async def recover(store: Store, older: datetime) -> None:
    """Finish deletions that were killed: features whose record exists are restored, others deleted.

    Args:
        store: where they are.
        older: only objects older than this; younger ones may belong to a deletion in progress.
    """
    for item in await store.items("gone"):
        sha = item.name.split("/")[1]
        if item.written >= older:
            continue
        lost = (
            sha != "marks"
            and await store.has(object_name(sha, "json"))
            and not await store.has(object_name(sha, "safetensors"))
        )
        if lost and await store.sha256(item.name) == sha:
            await store.move(item.name, object_name(sha, "safetensors"))
        else:
            await store.delete(item.name)
