"""Snapshots in the store: content-addressed, checked at the door, described once.

Beside `<sha256>.safetensors` lies `<sha256>.json`, written last: what the checks found, so that nobody has to read
the features again to know. It knows nothing of HTTP, nor of what a refit does with them.
"""

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from models import door
from models import snapshot as snapshots
from models.bundle import Bundle
from models.door import NONE_GIVEN
from models.files import sha256
from models.groups import GROUPS, groups
from models.parts import Given
from models.snapshot import Snapshot, SnapshotError
from serving.conversion import Converter
from serving.owners import Claim
from serving.store import NotFound, Store, StoreError


class SnapshotRecord(BaseModel):
    """What the store says of a snapshot."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    sha256: str
    """Of the file; its name here."""
    rows: int
    """N."""
    feature_dim: int
    """D."""
    epoch: int
    """When its features were taken; larger is newer."""
    backbone: str
    """sha256 of what made the features."""
    deployed: bool
    """Whether that is the backbone that serves."""
    classes: dict[str, int]
    """Rows of each class."""
    groups: dict[str, int]
    """Rows of the many, medium and few classes, by the bundle's training counts; `new`: classes it does not know."""
    group_of: dict[str, str] = {}
    """Which of these groups each class is in."""
    created: str
    """As the file says."""
    stored: str
    """When it came, ISO 8601."""
    owner: str | None = None
    """Name of the key that uploaded it first; absent: none came with it."""
    converted: tuple[str, ...] = ()
    """What was changed to make a file in another format safetensors, in words; empty for one that came so."""


def _name(sha: str, suffix: str) -> str:
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
        given: what to take where a file in another format says nothing.
        claim: of the key that uploads it.

    Returns:
        What was found, under the sha256 of what is kept; and whether it is new here.

    Raises:
        SnapshotError: it is damaged, or its features have another dimension than the backbone's.
        FileTooLarge, ExtraMissing: as `Converter.convert`.
        OverQuota: as `Claim.make`.
    """
    changes: tuple[str, ...] = ()
    if await asyncio.to_thread(door.kind, path) != "safetensors":
        made = path.with_name(f"{path.name}.safetensors")
        changes = await converter.convert(path, made, given)
        path, sha = made, await asyncio.to_thread(sha256, made)
    owner = None if claim is None else claim.name
    if claim is not None:
        await claim.make(sha, path.stat().st_size)
    try:
        return (await get(store, sha, bundle)).model_copy(update={"converted": changes}), False
    except NotFound:
        found = await asyncio.to_thread(_examine, path, sha, bundle)
    found = found.model_copy(update={"converted": changes, "owner": owner})
    await store.check_room(path.stat().st_size)
    await store.put_file(_name(sha, "safetensors"), path)
    await store.replace(_name(sha, "json"), found.model_dump_json(indent=1).encode() + b"\n")
    return found, True


def _examine(path: Path, sha: str, bundle: Bundle) -> SnapshotRecord:
    snapshot = snapshots.read(path)
    fits(sha, snapshot.feature_dim, bundle)
    return _describe(snapshot, sha, bundle)


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


def _describe(snapshot: Snapshot, sha: str, bundle: Bundle) -> SnapshotRecord:
    counts = dict(zip(snapshot.classes, snapshot.counts().tolist(), strict=True))
    return SnapshotRecord(
        sha256=sha,
        rows=len(snapshot.labels),
        feature_dim=snapshot.feature_dim,
        epoch=snapshot.epoch,
        backbone=snapshot.backbone,
        classes=counts,
        created=snapshot.created,
        stored=datetime.now(UTC).isoformat(timespec="seconds"),
        **_beside(bundle, snapshot.backbone, counts),
    )


def _beside(bundle: Bundle, backbone: str, counts: Mapping[str, int]) -> dict[str, Any]:
    """What a record says of a snapshot beside the bundle that serves, which may be another one tomorrow."""
    manifest = bundle.manifest
    known = dict(zip(manifest.classes, groups(manifest.train_counts, manifest.groups), strict=True))
    group_of = {name: known.get(name, "new") for name in counts}
    by_group = dict.fromkeys((*GROUPS, "new"), 0)
    for name, group in group_of.items():
        by_group[group] += counts[name]
    return {"deployed": backbone == bundle.backbone_digest, "groups": by_group, "group_of": group_of}


async def get(store: Store, sha: str, bundle: Bundle) -> SnapshotRecord:
    """Return what the store says of a snapshot.

    Raises:
        NotFound: there is none of that sha256.
        StoreError: its record is damaged.
    """
    name = _name(sha, "json")
    try:
        data = await store.get(name)
    except NotFound as error:
        raise NotFound(f"there is no snapshot {sha:.80}") from error
    try:
        found = SnapshotRecord.model_validate_json(data)
    except ValidationError as error:
        raise StoreError(f"snapshot {sha}: its record is damaged: {error.errors()[0]['msg']}") from error
    return found.model_copy(update=_beside(bundle, found.backbone, found.classes))


async def records(store: Store, bundle: Bundle) -> list[SnapshotRecord]:
    """Return what the store says of all snapshots, the newest epoch first."""
    names = [name for name in await store.names("snapshots") if name.endswith(".json")]
    found = [await get(store, Path(name).stem, bundle) for name in names]
    return sorted(found, key=lambda item: (-item.epoch, item.sha256))


async def fetch(store: Store, sha: str, path: Path) -> None:
    """Bring a snapshot to a file, verified.

    Raises:
        NotFound: there is none of that sha256.
        StoreError: what lies in the store has another.
    """
    found = await store.fetch(_name(sha, "safetensors"), path)
    if found != sha:
        raise StoreError(f"snapshot {sha} is damaged: its bytes have sha256 {found}")


async def remove(store: Store, sha: str, bundle: Bundle) -> None:
    """Delete a snapshot; the record first, so that what is half gone is not there.

    Raises:
        NotFound: there is none of that sha256.
    """
    await get(store, sha, bundle)
    await store.delete(_name(sha, "json"))
    await store.delete(_name(sha, "safetensors"))
