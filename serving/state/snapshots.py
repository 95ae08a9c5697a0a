"""Snapshots in the store: content-addressed, and checked when they are uploaded.

Beside `<sha256>.safetensors` lies `<sha256>.json`, written last: the record of what the checks found.

An upload, a deletion and `store gc` may work on one snapshot at the same time, on several servers. There are no locks.
Each first writes its own mark and then reads the other's, so that at least one of two sees the other:

- An upload first leaves a `holds/<sha256>/<token>`, then checks whether the snapshot is complete, and writes what is
  missing, the record last. Then it checks that both are still there, and begins again if not.
- A deletion removes the record first, then moves the features to `gone/`, and back if there is a record again.
  `store gc` also brings back what got a new hold meanwhile.

A hold tells when a snapshot was last uploaded; the next upload and `store gc` remove it. It knows nothing of HTTP, or
of what a refit does with snapshots.
"""

import asyncio
import contextlib
import os
import re
import secrets
from pathlib import Path

from pydantic import ValidationError

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.files import sha256
from breadcrumbs.models.snapshots import formats
from breadcrumbs.models.snapshots.fields import Given
from breadcrumbs.models.snapshots.formats import NONE_GIVEN
from breadcrumbs.models.snapshots.snapshot import SnapshotError
from breadcrumbs.models.snapshots.snapshot import read as read_snapshot
from breadcrumbs.serving.refusals import BadRequest
from breadcrumbs.serving.state.conversion import Converter
from breadcrumbs.serving.state.owners import Claim
from breadcrumbs.serving.state.pages import cut
from breadcrumbs.serving.state.snapshot_record import SnapshotRecord, beside, describe
from breadcrumbs.serving.state.store import Item, NotFound, Store, StoreError

TRIES = 20
"""Attempts at an upload that is deleted while it is being written."""


def object_name(sha: str, suffix: str) -> str:
    """Return the name of a snapshot's features (`safetensors`) or record (`json`) in the store."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha):
        raise NotFound(f"no snapshot {sha!r:.80}: expected a sha256 of 64 hex digits")
    return f"snapshots/{sha}.{suffix}"


async def add(
    store: Store, path: Path, sha: str, bundle: Bundle, converter: Converter, given: Given = NONE_GIVEN,
    claim: Claim | None = None,
) -> tuple[SnapshotRecord, bool]:  # fmt: skip
    """Check a snapshot's file and keep it, as safetensors.

    Args:
        store: where to.
        path: the file; what it is converted to is written beside it.
        sha: of the file.
        bundle: the deployed one.
        converter: makes other formats safetensors.
        given: values for what a file in another format lacks.
        claim: of the key that uploads it.

    Returns:
        The record, under the sha256 of what is stored; and whether it is new.

    Raises:
        SnapshotError: it is damaged, or its features have another dimension than the backbone's.
        FileTooLarge, ExtraMissing: as `Converter.convert`.
        OverQuota: as `Claim.make`.
    """
    changes: tuple[str, ...] = ()
    if await asyncio.to_thread(formats.kind, path) != "safetensors":
        made = path.with_name(f"{path.name}.safetensors")
        changes = await converter.convert(path, made, given)
        path, sha = made, await asyncio.to_thread(sha256, made)
    if claim is not None:
        await claim.make(sha, path.stat().st_size)
    known = await _held(store, sha, bundle)
    if known is not None:
        return known.model_copy(update={"converted": changes}), False
    owner = None if claim is None else claim.name
    found = await asyncio.to_thread(_examine, path, sha, bundle)
    found = found.model_copy(update={"converted": changes, "owner": owner})
    await keep(store, path, found)
    return found, True


async def _held(store: Store, sha: str, bundle: Bundle) -> SnapshotRecord | None:
    """Hold a complete snapshot, and return its record. None means that it is missing or damaged."""
    try:
        known = await get(store, sha, bundle)
    except StoreError:  # there is none, or it is damaged
        return None
    await _hold(store, sha)
    return known if known.sha256 == sha and await _is_whole(store, sha) else None


async def _hold(store: Store, sha: str) -> None:
    """Create a hold for an upload, in place of earlier ones."""
    earlier = await holds(store, sha)
    await store.create(f"holds/{sha}/{secrets.token_hex(8)}", b"")
    for name in earlier:
        await store.delete(name)


async def holds(store: Store, sha: str) -> list[str]:
    """Return the names of a snapshot's holds."""
    return await store.names(f"holds/{sha}")


async def _is_whole(store: Store, sha: str) -> bool:
    """Whether record and features are there, and the features are those of that sha256."""
    try:
        same = await store.sha256(object_name(sha, "safetensors")) == sha
    except StoreError:
        return False
    return same and await store.has(object_name(sha, "json"))


async def keep(store: Store, path: Path, record: SnapshotRecord) -> None:
    """Write a snapshot's features, from `path`, and its record, even if it is deleted meanwhile.

    Raises:
        StoreFull: there is no room; nothing was kept.
        StoreError: the store cannot be written, or the snapshot was deleted at every attempt.
    """
    sha = record.sha256
    await store.check_room(await asyncio.to_thread(os.path.getsize, path))
    for _ in range(TRIES):
        await _hold(store, sha)
        await store.put_file(object_name(sha, "safetensors"), path)
        await store.replace(object_name(sha, "json"), record.model_dump_json(indent=1).encode() + b"\n")
        if await store.has(object_name(sha, "safetensors")) and await store.has(object_name(sha, "json")):
            return
    raise StoreError(f"snapshot {sha[:12]} was deleted {TRIES} times while it was being written; upload it again")


def _examine(path: Path, sha: str, bundle: Bundle) -> SnapshotRecord:
    snapshot = read_snapshot(path)
    fits(sha, snapshot.feature_dim, bundle)
    return describe(snapshot, sha, bundle)


def fits(sha: str, feature_dim: int, bundle: Bundle) -> None:
    """Refuse a snapshot of another dimension than the deployed backbone's.

    Raises:
        SnapshotError: naming both.
    """
    if feature_dim != bundle.manifest.feature_dim:
        raise SnapshotError(
            f"snapshot {sha[:12]}: expected features of {bundle.manifest.feature_dim} dimensions, as the deployed "
            f"backbone gives; got {feature_dim}"
        )


async def get(store: Store, sha: str, bundle: Bundle) -> SnapshotRecord:
    """Return what the store says of a snapshot.

    Raises:
        NotFound: there is none of that sha256.
        StoreError: its record is damaged.
    """
    name = object_name(sha, "json")
    try:
        data = await store.get(name)
    except NotFound as error:
        raise NotFound(f"there is no snapshot {sha:.80}") from error
    try:
        found = SnapshotRecord.model_validate_json(data)
    except ValidationError as error:
        raise StoreError(f"snapshot {sha}: its record is damaged: {error.errors()[0]['msg']}") from error
    return found.model_copy(update=beside(bundle, found.backbone, found.classes))


async def page(
    store: Store, bundle: Bundle, limit: int, after: str | None = None
) -> tuple[list[SnapshotRecord], str | None]:
    """Return what the store says of some snapshots, those stored last first; a damaged record is left out.

    Args:
        store: where they are.
        bundle: the deployed one.
        limit: snapshots at most.
        after: what the page before returned with its records, or the sha256 of its last one.

    Returns:
        The records, and the next page's `after`. None means that this is the last page.

    Raises:
        BadRequest: `after` is neither, or there is no such snapshot any more.
    """
    listed = sorted(
        (_place(item) for item in await store.items("snapshots") if item.name.endswith(".json")), reverse=True
    )
    if after is not None:
        bound = _bound(listed, after)
        listed = [place for place in listed if place[:2] < bound]
    chosen = cut(listed, limit, lambda place: place[2])
    data = await store.get_all(object_name(sha, "json") for _, sha, _ in chosen)
    found = []
    for _, sha, _ in chosen:
        with contextlib.suppress(KeyError, ValidationError):  # it is refused by name where it is asked for
            one = SnapshotRecord.model_validate_json(data[object_name(sha, "json")])
            found.append(one.model_copy(update=beside(bundle, one.backbone, one.classes)))
    return found, f"{chosen[-1][0]}-{chosen[-1][1]}" if len(chosen) < len(listed) else None


def _place(item: Item) -> tuple[int, str, int]:
    """When a record was written, in microseconds; whose it is; its bytes."""
    return int(item.written.timestamp() * 1_000_000), Path(item.name).stem, item.size


def _bound(listed: list[tuple[int, str, int]], after: str) -> tuple[int, str]:
    when, _, sha = after.rpartition("-")
    if re.fullmatch(r"[0-9]{1,20}", when) and re.fullmatch(r"[0-9a-f]{64}", sha):
        return int(when), sha
    for place in listed:
        if place[1] == after:
            return place[:2]
    raise BadRequest(f"after={after!r:.100}: expected `next` of a page, or the sha256 of a snapshot that is there")


async def fetch(store: Store, sha: str, path: Path) -> None:
    """Write a snapshot to a file, verified.

    Raises:
        NotFound: there is none of that sha256.
        StoreError: its bytes have another sha256.
    """
    found = await store.fetch(object_name(sha, "safetensors"), path)
    if found != sha:
        raise StoreError(f"snapshot {sha} is damaged: its bytes have sha256 {found}")
