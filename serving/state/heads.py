"""Heads in the store: immutable, numbered, each with its lineage, verified whenever it is read.

A number is claimed by creating `head.safetensors`; `head.json`, written last, is the mark that the head is complete.
A claim without that mark (a crash in between) is skipped for ever. It knows nothing of which head is live.
"""

import contextlib
import hashlib
import re
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from breadcrumbs.models import known as knowns
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.head import LinearHead, from_onnx, to_bytes, to_onnx
from breadcrumbs.models.head import read as read_head
from breadcrumbs.models.known import Known
from breadcrumbs.serving.processes.scratch import scratch
from breadcrumbs.serving.state.pages import cut
from breadcrumbs.serving.state.store import Conflict, Item, NotFound, Store, StoreError


class Lineage(BaseModel):
    """Where a head comes from."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    parent: int | None = None
    """Version of the head that it was compared with; absent: it came with the bundle."""
    snapshots: list[str] = []
    """sha256 of the snapshots that it was fitted to."""
    examples: int = 0
    """Examples that its refit took, those that it was judged on included; their ids are beside the refit."""
    examples_digest: str | None = None
    """sha256 over their ids; absent: there were none."""
    holdout: str | None = None
    """sha256 of the hold-out snapshot, where one was named or pinned."""
    holdout_source: str | None = None
    """Whose hold-out judged it: `pinned` by the server's operator, `snapshot` of the request, `bundle`, or a `split` of
    the rows; absent: no refit made it, or an older one."""
    refit: str | None = None
    """The refit that made it."""
    spec: dict[str, Any] = {}
    """How it was fitted."""
    owner: str | None = None
    """Name of the key that started the refit; absent: none came with it."""
    line: str | None = None
    """Line whose live head it was compared with; absent: the default one."""


class HeadRecord(BaseModel):
    """What the store says of a head; `head.json`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    version: int
    """Its number: 1 is the first."""
    digest: str
    """sha256 over classes, weight and bias."""
    backbone: str
    """sha256 of the backbone whose features it takes."""
    onnx: str | None = None
    """sha256 of `head.onnx`."""
    known: str | None = None
    """sha256 of `known.safetensors`, by which it tells how well a feature is known; absent: it cannot."""
    feature_dim: int
    """D."""
    classes: int
    """C."""
    created: str
    """ISO 8601."""
    lineage: Lineage = Lineage()
    """Where it comes from."""
    metrics: dict[str, Any] = {}
    """What was measured when it was made; by the refit's report, or by the bundle's training."""
    groups: Literal["A", "B"] = "A"
    """Convention of many / medium / few in the metrics."""


def folder(version: int) -> str:
    """The place of a head in the store."""
    return f"heads/{version:06d}"


async def add(
    store: Store, head: LinearHead, bundle: Bundle, lineage: Lineage, metrics: dict[str, Any],
    known: Known | None = None,
) -> HeadRecord:  # fmt: skip
    """Store a head for the bundle's backbone under the next free number.

    Args:
        store: where to.
        head: the head.
        bundle: of the backbone.
        lineage: where the head comes from.
        metrics: what was measured when it was made.
        known: by what it tells how well a feature is known; None: it cannot.

    Raises:
        StoreError: the store cannot be written; then nothing of the head is left, as far as it can be removed.
    """
    version = await _claim(store, to_bytes(head))
    onnx = to_onnx(head)
    points = None if known is None else knowns.to_bytes(known, head.digest)
    record = HeadRecord(
        version=version,
        digest=head.digest,
        backbone=bundle.backbone_digest,
        onnx=hashlib.sha256(onnx).hexdigest(),
        known=None if points is None else hashlib.sha256(points).hexdigest(),
        feature_dim=head.feature_dim,
        classes=len(head.classes),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        lineage=lineage,
        metrics=metrics,
        groups=bundle.manifest.groups,
    )
    try:
        await store.create(f"{folder(version)}/head.onnx", onnx)
        if points is not None:
            await store.create(f"{folder(version)}/{knowns.FILE}", points)
        await store.create(f"{folder(version)}/head.json", record.model_dump_json(indent=1).encode() + b"\n")
    except StoreError:
        with contextlib.suppress(StoreError):
            await withdraw(store, version)
        raise
    return record


async def withdraw(store: Store, version: int) -> None:
    """Remove a head that was just stored and was never live.

    Raises:
        StoreError: the store cannot be written.
    """
    for name in ("head.json", knowns.FILE, "head.onnx", "head.safetensors"):  # the claim last: until then it is ours
        await store.delete(f"{folder(version)}/{name}")


async def newest(store: Store) -> int:
    """Return the highest number that a head has or is about to have; 0 in an empty store."""
    return max((version_of(name) for name in await store.names("heads")), default=0)


async def _claim(store: Store, data: bytes) -> int:
    version = await newest(store) + 1
    while True:
        try:
            await store.create(f"{folder(version)}/head.safetensors", data)
        except Conflict:
            version += 1
        else:
            return version


def version_of(name: str) -> int:
    """The number in an object's name; 0 for what does not belong there."""
    found = re.match(r"heads/([0-9]{6,9})/", name)
    return int(found[1]) if found else 0


async def record(store: Store, version: int) -> HeadRecord:
    """Read what the store says of a head.

    Raises:
        NotFound: there is no such head.
        StoreError: its record is damaged.
    """
    try:
        data = await store.get(f"{folder(version)}/head.json")
    except NotFound as error:
        raise NotFound(f"there is no head {version}; the newest is {await newest(store)}") from error
    try:
        return HeadRecord.model_validate_json(data)
    except ValidationError as error:
        raise StoreError(f"head {version} is damaged: head.json: {error.errors()[0]['msg']}") from error


async def records(store: Store) -> list[HeadRecord]:
    """Read the records of all complete heads, the newest first; a damaged record is left out."""
    return await _read(store, [item.name for item in await _listed(store)])


async def page(store: Store, limit: int, after: int | None = None) -> tuple[list[HeadRecord], int | None]:
    """Read the records of some heads, the newest first; only theirs are read, and a damaged one is left out.

    Args:
        store: where they are.
        limit: heads at most.
        after: only older heads than this version.

    Returns:
        The records, and the version after which the next page begins; None: there is none.
    """
    older = [item for item in await _listed(store) if after is None or version_of(item.name) < after]
    chosen = cut(older, limit, lambda item: item.size)
    more = len(chosen) < len(older)
    return await _read(store, [item.name for item in chosen]), version_of(chosen[-1].name) if more else None


async def versions(store: Store) -> list[int]:
    """Return the numbers of all complete heads, the newest first; no record is read."""
    return [version_of(item.name) for item in await _listed(store)]


async def _listed(store: Store) -> list[Item]:
    found = [item for item in await store.items("heads") if version_of(item.name) and item.name.endswith("/head.json")]
    return sorted(found, key=lambda item: -version_of(item.name))


async def _read(store: Store, names: list[str]) -> list[HeadRecord]:
    data, found = await store.get_all(names), []
    for name in names:
        with contextlib.suppress(KeyError, ValidationError):  # it is refused by name where it is asked for
            found.append(HeadRecord.model_validate_json(data[name]))
    return found


async def read(store: Store, version: int) -> tuple[HeadRecord, LinearHead]:
    """Read a head and verify its digest.

    Raises:
        NotFound: there is no such head.
        StoreError: it is damaged.
    """
    known = await record(store, version)
    with scratch("head") as place:
        path = place / "head.safetensors"
        try:
            await store.fetch(f"{folder(version)}/head.safetensors", path)
            head = read_head(path)
        except (FormatError, NotFound) as error:
            raise StoreError(f"head {version} is damaged: {error}") from error
    if head.digest != known.digest:
        raise StoreError(f"head {version} is damaged: expected digest {known.digest}, got {head.digest}")
    return known, head


async def read_known(store: Store, version: int) -> Known | None:
    """Read by what a head tells how well a feature is known, verified; None: it has nothing of the kind.

    Raises:
        NotFound: there is no such head.
        StoreError: it is damaged.
    """
    told = await record(store, version)
    if told.known is None:
        return None
    data = await store.get(f"{folder(version)}/{knowns.FILE}")
    if hashlib.sha256(data).hexdigest() != told.known:
        raise StoreError(f"head {version} is damaged: {knowns.FILE}: expected sha256 {told.known}")
    try:
        return knowns.from_bytes(data, told.digest, told.feature_dim)
    except FormatError as error:
        raise StoreError(f"head {version} is damaged: {error}") from error


async def read_onnx(store: Store, version: int) -> bytes:
    """Read `head.onnx` of a head and verify it; raises as `read` does."""
    known = await record(store, version)
    data = await store.get(f"{folder(version)}/head.onnx")
    try:
        digest = from_onnx(data).digest
    except FormatError as error:
        raise StoreError(f"head {version} is damaged: head.onnx: {error}") from error
    if digest != known.digest:
        raise StoreError(f"head {version} is damaged: head.onnx: expected digest {known.digest}, got {digest}")
    if known.onnx not in {None, hashlib.sha256(data).hexdigest()}:
        raise StoreError(f"head {version} is damaged: head.onnx: expected sha256 {known.onnx}")
    return data
