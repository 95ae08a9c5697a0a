"""`/v1/snapshots`: keep feature snapshots, so that refits can name them."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from breadcrumbs.models.snapshots.fields import Given
from breadcrumbs.serving.http import bodies
from breadcrumbs.serving.http.access_control import check_owner, key_of
from breadcrumbs.serving.http.disconnect import while_connected
from breadcrumbs.serving.http.prediction.evidence import check_sees
from breadcrumbs.serving.http.schemas import SnapshotList, SuspectList
from breadcrumbs.serving.http.service import AfterName, Limit, Serving, body, problems
from breadcrumbs.serving.processes.scratch import scratch
from breadcrumbs.serving.refits.suspects import MOST as SUSPECTS
from breadcrumbs.serving.refusals import Unsupported
from breadcrumbs.serving.state import owners, snapshot_deletion, snapshots
from breadcrumbs.serving.state.pages import LIMIT
from breadcrumbs.serving.state.snapshot_record import SnapshotRecord
from breadcrumbs.serving.state.store import Conflict, NotFound, StoreError

BINARY = "application/octet-stream"

Sha256 = Annotated[str, Path(description="sha256 of the snapshot")]

router = APIRouter(tags=["snapshots"])


@router.put(
    "/v1/snapshots", status_code=201, openapi_extra=body(BINARY),
    responses={200: {"model": SnapshotRecord, "description": "it was here"}, **problems(403, 413, 415, 422, 503, 507)},
)  # fmt: skip
async def put(
    request: Request,
    response: Response,
    service: Serving,
    backbone: Annotated[
        str | None, Query(pattern="^[0-9a-f]{64}$", description="sha256 of the backbone that made the features")
    ] = None,
    epoch: Annotated[int | None, Query(ge=0, lt=10**9, description="epoch of the snapshot")] = None,
    classes: Annotated[
        list[str] | None, Query(description="names of the labels 0, 1, …; repeat for each class")
    ] = None,
    dataset: Annotated[
        str | None, Query(pattern="^[0-9a-f]{64}$", description="sha256 of the set of images that the ids number")
    ] = None,
) -> SnapshotRecord:
    """Upload one snapshot as the raw body: safetensors, `.npz`, Parquet or Arrow; 200 instead of 201 if it was here.

    `backbone`, `epoch`, `classes` (once a class) and `dataset` say what a file that is not safetensors leaves out.
    """
    kind = bodies.media_type(request)
    if kind not in {"", BINARY}:
        raise Unsupported(f"content-type {kind!r:.80}: expected {BINARY}")
    with service.uploads.enter(request.scope), scratch("upload") as folder:
        path = folder / "snapshot"
        sha = await bodies.save_body(request, path, service.settings.max_snapshot_bytes, "snapshot")
        given = Given(backbone, epoch, tuple(classes) if classes else None, dataset)
        async with service.claims.claiming(key_of(request)) as claim:
            found, new = await snapshots.add(service.store, path, sha, service.bundle, service.converter, given, claim)
    response.headers["Location"] = f"/v1/snapshots/{found.sha256}"
    response.status_code = 201 if new else 200
    return found


@router.get("/v1/snapshots", responses=problems(422))
async def listing(service: Serving, limit: Limit = LIMIT, after: AfterName = None) -> SnapshotList:
    """List snapshots, those stored last first."""
    found, more = await snapshots.page(service.store, service.bundle, limit, after)
    return SnapshotList(snapshots=found, next=more)


@router.get("/v1/snapshots/{sha256}", responses=problems(404))
async def get(sha256: Sha256, service: Serving) -> SnapshotRecord:
    """Tell what a snapshot holds."""
    return await snapshots.get(service.store, sha256, service.bundle)


@router.get("/v1/snapshots/{sha256}/suspects", responses=problems(403, 404, 409, 413, 422, 503))
async def suspects(
    sha256: Sha256,
    request: Request,
    service: Serving,
    n: Annotated[int, Query(ge=1, le=SUSPECTS, description="rows at most")] = 100,
) -> SuspectList:
    """List rows whose given class is less likely than another, by plain heads that were fitted without the row.

    Of all rows one in 20 is named at most, of a class twice that share. The first list of a snapshot takes as long as a
    small refit. It is for the snapshot's owners and keys with `admin`; one that belongs to no key is for all.
    """
    await snapshots.get(service.store, sha256, service.bundle)
    check_sees(request, await owners.owners(service.store, sha256), f"snapshot {sha256[:12]}")
    found = await while_connected(request, service.suspects.of_snapshot(sha256))
    return SuspectList(suspects=found[:n])


@router.delete("/v1/snapshots/{sha256}", status_code=204, responses=problems(403, 404, 409))
async def delete(sha256: Sha256, request: Request, service: Serving) -> None:
    """Delete a snapshot that no waiting or running refit needs.

    What several keys have uploaded stays until each of them, or a key with `admin`, has deleted it.
    """
    try:
        await snapshots.get(service.store, sha256, service.bundle)
    except NotFound:
        raise
    except StoreError:  # a damaged one may go too
        pass
    key = key_of(request)
    check_owner(request, await owners.owners(service.store, sha256), f"snapshot {sha256[:12]}")
    job = await service.jobs.using(sha256)
    others = await owners.owners(service.store, sha256) - ({key.name} if key else set())
    if key is not None and others and not key.may("admin"):
        await owners.disown(service.store, sha256, {key.name})
        return
    if job:
        raise Conflict(f"snapshot {sha256[:12]} is needed by refit {job}")
    await snapshot_deletion.remove(service.store, sha256)
    await owners.disown(service.store, sha256)
