"""`/v1/refit`: start a refit, follow it, end it."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.datastructures import FormData, UploadFile

from breadcrumbs.models.files import sha256
from breadcrumbs.serving.http import bodies
from breadcrumbs.serving.http.access_control import actor, check_line, check_owner, check_right, key_of, lines_of
from breadcrumbs.serving.http.schemas import JobDetail, JobList
from breadcrumbs.serving.http.service import (
    BYTES,
    AfterName,
    Limit,
    Service,
    Serving,
    body,
    content,
    line_of,
    problems,
)
from breadcrumbs.serving.processes.scratch import scratch
from breadcrumbs.serving.refits import examples
from breadcrumbs.serving.refits.examples import Which
from breadcrumbs.serving.refits.job import History, Job
from breadcrumbs.serving.refits.refit import RefitRequest, deployment_weights
from breadcrumbs.serving.refusals import BadRequest, Forbidden, TooLarge
from breadcrumbs.serving.state import snapshots
from breadcrumbs.serving.state.line_names import DEFAULT, check_name
from breadcrumbs.serving.state.pages import LIMIT
from breadcrumbs.serving.state.store import NotFound
from breadcrumbs.training.config import PRIORS, RefitSpec
from breadcrumbs.training.refit.edits import edited
from breadcrumbs.training.report import html

POLICY = f"{html.POLICY}; sandbox allow-scripts; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
"""Of a report's page: what the page says of itself, and more that only a header can say. The page comes from a child
that is not trusted."""

FORM: dict[str, Any] = {
    "snapshot": {"type": "array", "items": BYTES, "description": "snapshots to fit to, in any format"},
    "holdout": BYTES | {"description": "snapshot to judge on; absent: the bundle's hold-out, or a share of the images"},
    "line": {"type": "string", "description": "the line, as in JSON"},
    "spec": {"type": "string", "description": "JSON of a RefitSpec"},
    "examples": {
        "type": "string",
        "enum": list(get_args(Which)),
        "description": "which examples to fit to, as in JSON",
    },
}
FIELDS = "snapshot, holdout, line, spec or examples"
JobId = Annotated[str, Path(description="the refit's id")]

router = APIRouter(tags=["refit"])


@router.post(
    "/v1/refit",
    status_code=202,
    responses=problems(403, 404, 413, 415, 422, 429, 503),
    openapi_extra=body(json={"$ref": "#/components/schemas/RefitRequest"}, form=FORM),
)
async def start(
    request: Request,
    response: Response,
    service: Serving,
    idempotency_key: Annotated[
        str | None,
        Header(max_length=255, description="any key of yours; the same request under the same key is the same job"),
    ] = None,
) -> Job:
    """Start a refit from stored snapshots or examples (JSON), or from snapshots that come with it (multipart).

    An empty request takes the bundle's snapshots and all verified examples.
    """
    _check_on(service)
    if bodies.media_type(request) == "multipart/form-data":
        with service.uploads.enter(request.scope):
            wanted = await _from_form(request, service)
    else:
        wanted = await bodies.read_json(request, RefitRequest)
    if wanted.spec.activate != "never":
        check_right(request, "promote", f"a refit with activate = {wanted.spec.activate}, which may go live,")
    wanted = await _check(request, wanted, service)
    job = await service.jobs.start(wanted, idempotency_key, actor(request), _most_jobs(request))
    response.headers["Location"] = f"/v1/refit/{job.id}"
    return job


def _most_jobs(request: Request) -> int | None:
    key = key_of(request)
    return None if key is None else key.max_jobs


def _check_on(service: Service) -> None:
    if service.settings.refit == "off":
        raise Forbidden("refits are switched off on this server (refit = off)")


async def _check(request: Request, wanted: RefitRequest, service: Service) -> RefitRequest:
    """Refuse what cannot be refitted; return it with the line that it is about, where that is a named one."""
    line = await line_of(request, service, wanted.line)
    if not wanted.snapshots and not wanted.spec.use_bundle_snapshots and wanted.examples in {None, "none"}:
        raise BadRequest("no snapshots: name some, ask for examples, or let the spec use those of the bundle")
    if wanted.examples is not None:
        await examples.require(service.examples, wanted.examples, service.bundle.backbone_digest)
    edited(line.head.head.classes, wanted.spec.classes)
    await _check_prior(wanted.spec, service)
    if len(wanted.snapshots) > service.settings.max_snapshots:
        raise TooLarge(f"{len(wanted.snapshots)} snapshots; the limit is {service.settings.max_snapshots}")
    named = [*wanted.snapshots, *([wanted.holdout] if wanted.holdout else [])]
    if len(set(named)) < len(named):
        raise BadRequest("a snapshot is named twice; the hold-out must be another than those that are fitted to")
    for sha in named:
        try:
            found = await snapshots.get(service.store, sha, service.bundle)
        except NotFound as error:
            raise BadRequest(f"{error}; PUT it to /v1/snapshots first") from error
        snapshots.fits(sha, found.feature_dim, service.bundle)
        if sha == wanted.holdout and found.unlabelled:
            raise BadRequest(
                f"the hold-out {sha[:12]} has {found.unlabelled} rows without a label; expected a label in each"
            )
    return wanted.model_copy(update={"line": None if line is service.live else line.line})


async def _check_prior(spec: RefitSpec, service: Service) -> None:
    """Refuse a deployment prior that the store does not have, or that lists classes."""
    if isinstance(spec.deployment_prior, str) and spec.deployment_prior not in PRIORS:
        await deployment_weights(service.priors, spec.deployment_prior)


async def _from_form(request: Request, service: Service) -> RefitRequest:
    """Files `snapshot` (any number) and `holdout` (one at most), and the fields `spec` (JSON) and `examples`."""
    most = service.settings.max_snapshots + 1
    form = await bodies.read_form(request, most * service.settings.max_snapshot_bytes, most, "request body")
    try:
        if not form:
            raise BadRequest(f"the form is empty: expected {FIELDS}")
        unknown = sorted(set(form) - set(FORM))
        if unknown:
            raise BadRequest(f"form field {unknown[0]!r:.80}: expected {FIELDS}")
        parsed = bodies.parse_json(_text(form, "spec", "{}", "JSON text"), RefitSpec, "spec")
        which = _which(form)
        line = _text(form, "line", "", "the name of a line") if "line" in form else None
        fitted = [await _keep(item, request, service) for item in _files(form, "snapshot")]
        held = [await _keep(item, request, service) for item in _files(form, "holdout")]
    finally:
        await form.close()
    if len(held) > 1:
        raise BadRequest(f"{len(held)} hold-out files; expected one at most")
    if line is not None:
        check_name(line)
    return RefitRequest(snapshots=fitted, examples=which, holdout=held[0] if held else None, line=line, spec=parsed)


def _text(form: FormData, name: str, default: str, expected: str) -> str:
    found = form.getlist(name) or [default]
    if len(found) > 1:
        raise BadRequest(f"form field {name!r} came {len(found)} times; expected it once")
    if not isinstance(found[0], str):
        raise BadRequest(f"form field {name!r}: expected {expected}, got a file")
    return found[0]


def _which(form: FormData) -> Which | None:
    """The field `examples`. None means that it did not come."""
    if "examples" not in form:
        return None
    known = " or ".join(get_args(Which))
    text = _text(form, "examples", "", known)
    found: dict[str, Which] = {name: name for name in get_args(Which)}
    if text not in found:
        raise BadRequest(f"form field 'examples': expected {known}, got {text!r:.40}")
    return found[text]


def _files(form: FormData, name: str) -> list[UploadFile]:
    items = form.getlist(name)
    files = [item for item in items if isinstance(item, UploadFile)]
    if len(files) < len(items):
        raise BadRequest(f"form field {name!r}: expected a file, got text")
    return files


async def _keep(file: UploadFile, request: Request, service: Service) -> str:
    """Put a form's file among the snapshots and return its sha256."""
    limit = service.settings.max_snapshot_bytes
    if (file.size or 0) > limit:
        raise TooLarge(f"snapshot {file.filename!r:.80} has {file.size} bytes; the limit is {limit}")
    with scratch("upload") as folder:
        path = folder / "snapshot"

        def copy() -> str:
            with path.open("wb") as target:
                shutil.copyfileobj(file.file, target)
            return sha256(path)

        sha = await asyncio.to_thread(copy)
        async with service.claims.claiming(key_of(request)) as claim:
            found, _ = await snapshots.add(service.store, path, sha, service.bundle, service.converter, claim=claim)
    return found.sha256


@router.get("/v1/refit", responses=problems(422))
async def listing(request: Request, service: Serving, limit: Limit = LIMIT, after: AfterName = None) -> JobList:
    """List refits, the newest first; a key that is bound to lines sees those of its lines."""
    found, more = await service.jobs.page(limit, after)
    bound = lines_of(request)
    shown = [job for job in found if bound is None or (job.request.line or DEFAULT) in bound]
    return JobList(refits=shown, next=more)


async def _find(request: Request, job_id: str, service: Service) -> History:
    """A refit that the request's key may see; raises NotFound or Forbidden."""
    found = await service.jobs.find(job_id)
    check_line(request, found.job.request.line or DEFAULT)
    return found


@router.get("/v1/refit/{job_id}", responses=problems(403, 404))
async def get(job_id: JobId, request: Request, service: Serving) -> JobDetail:
    """Tell how far a refit has come: its verdict once its head is stored, its report once it has one."""
    job = (await _find(request, job_id, service)).job
    report = await service.jobs.report(job_id)
    return JobDetail(**dict(job), report=json.loads(report) if report else None)


@router.post("/v1/refit/{job_id}/restart", status_code=202, responses=problems(403, 404, 409, 429, 503))
async def restart(job_id: JobId, request: Request, response: Response, service: Serving) -> Job:
    """Restart an interrupted, failed or cancelled refit from its stored inputs, as a new job."""
    _check_on(service)
    wanted = (await _find(request, job_id, service)).job.request
    if wanted.spec.activate != "never":
        check_right(request, "promote", f"a refit with activate = {wanted.spec.activate}, which may go live,")
    await _check(request, wanted.model_copy(update={"line": wanted.line or DEFAULT}), service)
    job = await service.jobs.again(job_id, actor(request), _most_jobs(request))
    response.headers["Location"] = f"/v1/refit/{job.id}"
    return job


@router.get(
    "/v1/refit/{job_id}/report.html", response_model=None, response_class=Response,
    responses=content("text/html") | problems(403, 404),
)  # fmt: skip
async def report(job_id: JobId, request: Request, service: Serving) -> HTMLResponse:
    """Show a refit's report as a self-contained page."""
    await _find(request, job_id, service)
    data = await service.jobs.report_page(job_id)
    return HTMLResponse(data, headers={"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"})


@router.get(
    "/v1/refit/{job_id}/events", response_class=StreamingResponse,
    responses=content("text/event-stream") | problems(403, 404, 422),
)  # fmt: skip
async def events(
    job_id: JobId,
    request: Request,
    service: Serving,
    last_event_id: Annotated[str, Header(description="number of the event after which to begin")] = "0",
) -> StreamingResponse:
    """Follow a refit by server-sent events until it has ended; `Last-Event-ID` resumes after that event."""
    if not re.fullmatch(r"[0-9]{1,9}", last_event_id):
        raise BadRequest(f"Last-Event-ID {last_event_id!r:.40}: expected a whole number")
    return StreamingResponse(
        _stream(await _find(request, job_id, service), int(last_event_id)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _stream(history: History, after: int) -> AsyncIterator[str]:
    async for event in history.follow(after):
        if event is None:
            yield ": waiting\n\n"
        else:
            yield f"id: {event['id']}\nevent: {event['event']}\ndata: {json.dumps(event)}\n\n"


@router.delete("/v1/refit/{job_id}", responses=problems(403, 404, 409))
async def cancel(job_id: JobId, request: Request, service: Serving) -> Job:
    """Cancel a refit whose head is not stored yet; its process has stopped when the answer arrives."""
    owner = (await _find(request, job_id, service)).job.owner
    check_owner(request, [] if owner is None else [owner], f"refit {job_id}")
    return await service.jobs.cancel(job_id, actor(request))
