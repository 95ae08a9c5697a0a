"""`/v2/…`: the Open Inference Protocol. One backbone appears as the models of `serving.http.open_inference.repository`.

A version is a head's; without one the live head answers. Errors are `{"error": "…"}`, as that protocol says.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, StrictBool
from pydantic_core import to_json

from breadcrumbs.models import safetensor
from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.head import softmax
from breadcrumbs.models.images import decoding
from breadcrumbs.models.snapshots import fields, npy, npz
from breadcrumbs.serving.http import bodies, protocol
from breadcrumbs.serving.http.access_control import lines_of
from breadcrumbs.serving.http.disconnect import while_connected
from breadcrumbs.serving.http.open_inference import repository
from breadcrumbs.serving.http.open_inference.repository import Model
from breadcrumbs.serving.http.open_inference.request import InferRequest, decode
from breadcrumbs.serving.http.open_inference.response import encode
from breadcrumbs.serving.http.outcomes import count_predictions, record
from breadcrumbs.serving.http.prediction.conditions import Resolved, resolve
from breadcrumbs.serving.http.prediction.evidence import NEIGHBOURS, Evidence, evidence
from breadcrumbs.serving.http.prediction.remembered import remember
from breadcrumbs.serving.http.service import Service, Serving, answering, body, choose, line_of, may_see_head
from breadcrumbs.serving.http.shares import SMALL_BODY
from breadcrumbs.serving.predict.devices import EngineError
from breadcrumbs.serving.predict.engine import BoundHead
from breadcrumbs.serving.predict.inference import Outcome
from breadcrumbs.serving.refusals import BadRequest, Forbidden, Overloaded, TooLarge
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.heads import HeadRecord
from breadcrumbs.serving.state.line_names import DEFAULT
from breadcrumbs.serving.state.live_head import Live

LIMITS = (
    "max_batch", "queue", "deadline", "receipt", "receipt_idle", "receipt_rate", "max_image_bytes", "max_pixels",
    "max_images", "max_body_bytes",
    "max_held_bytes", "max_snapshot_bytes", "max_snapshots", "max_uploads", "max_store_bytes", "max_lines",
    "refit_queue", "refit_timeout", "refit_memory",
)  # fmt: skip
"""Of the settings, those that bound what clients may ask."""
FORMAT_LIMITS = {
    "http_head_bytes": protocol.HEAD, "http_framing_bytes": protocol.FRAMING,
    "json_containers": bodies.CONTAINERS, "json_values": bodies.VALUES,
    "form_fields": bodies.FORM_FIELDS, "small_body_bytes": SMALL_BODY,
    "jpeg_scans": decoding.MAX_SCANS, "image_segments": decoding.MAX_SEGMENTS,
    "safetensors_header_bytes": safetensor.HEADER_LIMIT, "npz_members": len(npz.KNOWN), "npz_ratio": npz.RATIO,
    "npz_directory_bytes": npz.DIRECTORY_LIMIT, "npy_header_bytes": npy.HEADER_LIMIT, "classes": fields.CLASS_LIMIT,
}  # fmt: skip
"""That no setting changes."""
EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "statistics"]

ModelName = Annotated[
    str,
    Path(
        description="the bundle's name, or that and `-files`, `-probabilities` or `-features`; with `@LINE`, a line's"
    ),
]

router = APIRouter(prefix="/v2", tags=["open inference"])


class IndexBody(BaseModel):
    """Body of a request for the repository index."""

    ready: StrictBool = False


INDEX = {"requestBody": {"content": {"application/json": {"schema": IndexBody.model_json_schema()}}}}


class RefusedAnswer(BaseModel):
    """The one shape of an error of this protocol."""

    error: str


ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": RefusedAnswer} for code in (400, 404, 409, 413, 415, 503)}


@router.get("/", include_in_schema=False)
@router.get("")
async def server(service: Serving) -> dict[str, Any]:
    """Tell what this server is, what of the protocol it speaks, and its limits."""
    settings = service.settings
    bounds = {name: getattr(settings, name) for name in LIMITS} | FORMAT_LIMITS
    version = metadata.version("breadcrumbs-longtail")
    return {"name": "breadcrumbs", "version": version, "extensions": EXTENSIONS, "limits": bounds}


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """Tell that the process answers."""
    return {"live": True}


@router.get("/health/ready", responses={503: {"description": "not ready, and why"}})
async def ready(service: Serving) -> Response:
    """Tell whether requests can be answered now, proved by a real inference."""
    return await _ready(service, {})


@router.get("/models/stats", responses=ERRORS)
async def statistics(request: Request, service: Serving) -> dict[str, Any]:
    """Tell what this process has inferred by every model and version since its start."""
    line = await line_of(request, service)
    return {"model_stats": await _statistics(request, service, list(_models(service)), line, "active")}


@router.get("/models/{model}", responses=ERRORS)
@router.get("/models/{model}/versions/{version}", responses=ERRORS)
async def model_metadata(
    request: Request, service: Serving, model: ModelName, version: str = "active"
) -> dict[str, Any]:
    """Tell a model's versions, inputs and outputs."""
    found, line = await _model(request, service, model)
    widths = await _widths(request, service, line, version)
    known = [str(one) for one in await heads.versions(service.store) if await _reaches(request, line, one)]
    return repository.metadata(found, known, widths)


@router.get("/models/{model}/config", responses=ERRORS)
@router.get("/models/{model}/versions/{version}/config", responses=ERRORS)
async def model_configuration(
    request: Request, service: Serving, model: ModelName, version: str = "active"
) -> dict[str, Any]:
    """Tell a model's configuration, as Triton's clients read it."""
    found, line = await _model(request, service, model)
    return repository.configuration(found, await _widths(request, service, line, version), service.settings.max_images)


@router.get("/models/{model}/stats", responses=ERRORS)
@router.get("/models/{model}/versions/{version}/stats", responses=ERRORS)
async def model_statistics(
    request: Request, service: Serving, model: ModelName, version: str = "active"
) -> dict[str, Any]:
    """Tell what this process has inferred by a model since its start; without a version, by all of them."""
    found, line = await _model(request, service, model)
    return {"model_stats": await _statistics(request, service, [found.name], line, version)}


@router.get("/models/{model}/ready", responses=ERRORS)
@router.get("/models/{model}/versions/{version}/ready", responses=ERRORS)
async def model_ready(request: Request, service: Serving, model: ModelName, version: str = "active") -> Response:
    """Tell whether a version of a model can answer now."""
    _, line = await _model(request, service, model)
    await choose(request, line, version)
    return await _ready(service, {"name": model})


@router.post(
    "/models/{model}/infer", responses=ERRORS, openapi_extra=body("application/json", "application/octet-stream")
)
@router.post(
    "/models/{model}/versions/{version}/infer", responses=ERRORS,
    openapi_extra=body("application/json", "application/octet-stream"),
)  # fmt: skip
async def infer(
    request: Request,
    service: Serving,
    model: ModelName,
    version: str = "active",
    inference_header_content_length: Annotated[
        str | None, Header(description="bytes of the JSON before the binary data; 0: a raw request")
    ] = None,
) -> Response:
    """Compute features, logits and probabilities; as JSON, or with binary tensors either way."""
    return await answer(request, service, model, version, inference_header_content_length)


async def answer(
    request: Request, service: Service, model: str, version: str = "active", length: str | None = None
) -> Response:
    """Answer an infer request; raises what the route's errors say.

    Args:
        request: its body is not read yet.
        service: what answers.
        model: its name.
        version: of the head.
        length: what the header `Inference-Header-Content-Length` says. None means that it did not come.
    """
    began = time.perf_counter()
    known, line = await _model(request, service, model)
    head = await answering(request, service, line, version)
    try:
        return await _inferred(request, service, known, line, head, length, began)
    except BreadcrumbsError:
        failed = line.head.version if head is None else head.version
        service.statistics.failed(known.name, failed, time.perf_counter() - began)
        raise


async def _inferred(
    request: Request, service: Service, model: Model, line: Live, head: BoundHead | None, length: str | None,
    began: float,
) -> Response:  # fmt: skip
    data = await bodies.read_body(request, service.settings.max_body_bytes, "request")
    asked = decode(data, length, model.input, model.outputs, service.settings.max_images, NEIGHBOURS)
    _check_size(service, asked, model.input.one)
    conditions = await resolve(service, head, asked.prior, asked.classes, asked.confidence)
    work = service.inference.run(asked.values, conditions.head, asked.timeout)
    computed = await while_connected(request, work)
    outcome = conditions.applied(computed)
    encoding = time.perf_counter()
    found = _found(outcome, asked)
    predicts = bool(found.keys() - {"feature"})
    if predicts and line is service.live:
        service.trials.saw(computed.scores)
    record(request, service, outcome)
    if predicts:
        count_predictions(service, line.line, outcome)
    told = await evidence(request, service, outcome, known=asked.known, explain=asked.explain)
    ids = await remember(request, service, asked.values, outcome, asked.ref) if predicts else []
    parameters = _ids(ids) | ({} if asked.confidence is None else await _nodes(outcome, conditions)) | _evidence(told)
    classes = outcome.head.head.classes
    possible = conditions.possible(len(classes))
    text, headers = encode(asked, model.name, str(outcome.head.version), found, classes, possible, parameters)
    ended = time.perf_counter()
    service.statistics.answered(
        model.name, outcome.head.version, len(outcome.scores), outcome.executions, success=ended - began,
        queue=outcome.queued, compute_input=outcome.decoded, compute_infer=outcome.computed,
        compute_output=ended - encoding,
    )  # fmt: skip
    return Response(text, headers=headers)


@router.post("/repository/index", responses=ERRORS, openapi_extra=INDEX)
async def index(request: Request, service: Serving) -> list[dict[str, str]]:
    """List all models in all versions; every version that can answer is ready."""
    data = await bodies.read_body(request, SMALL_BODY, "JSON body")
    asked = bodies.parse_json(data or b"{}", IndexBody, "JSON body")
    found = [
        {"name": name, "version": str(record.version), **_state(service, record)}
        for record in await heads.records(service.store)
        if await may_see_head(request, service, record)
        for name in _models(service)
    ]
    return [one for one in found if one["state"] == "READY"] if asked.ready else found


@router.post("/repository/models/{model}/load", responses={403: {"model": RefusedAnswer}, **ERRORS})
@router.post("/repository/models/{model}/unload", responses={403: {"model": RefusedAnswer}, **ERRORS})
async def load(request: Request, service: Serving, model: ModelName) -> None:
    """Refuse: a head goes live by its activation, and the backbone stays."""
    await _model(request, service, model)
    raise Forbidden("models are not loaded here: POST /v1/heads/{version}/activate makes a head live")


def _models(service: Service) -> dict[str, Model]:
    return repository.models(service.bundle.manifest.name, service.engine.size, service.engine.feature_dim)


def _state(service: Service, record: HeadRecord) -> dict[str, str]:
    if record.backbone == service.bundle.backbone_digest:
        return {"state": "READY", "reason": ""}
    return {"state": "UNAVAILABLE", "reason": f"made for the backbone {record.backbone[:12]}, which does not serve"}


async def _model(request: Request, service: Service, name: str) -> tuple[Model, Live]:
    """A model, under the name that it was asked by, and its line: `NAME@LINE`, or `NAME`."""
    base, at, line = name.partition("@")
    if "@" in line:
        raise BadRequest(f"model {name!r:.160}: expected NAME or NAME@LINE, got {name.count('@')} lines")
    found = repository.find(base, _models(service))
    return replace(found, name=name), await line_of(request, service, line if at else None)


async def _reaches(request: Request, line: Live, version: int) -> bool:
    """Whether a version is one of a line's; the default line has all, unless the key is bound to lines."""
    return (line.line == DEFAULT and lines_of(request) is None) or await line.had(version)


async def _widths(request: Request, service: Service, line: Live, version: str) -> dict[str, int]:
    """D or C of each output of a version."""
    bound = await choose(request, line, version) or line.head
    count = len(bound.head.classes)
    return {"feature": service.bundle.manifest.feature_dim, "logits": count, "probabilities": count}


async def _statistics(
    request: Request, service: Service, names: Sequence[str], line: Live, version: str
) -> list[dict[str, Any]]:
    head = await choose(request, line, version)
    every = [head.version] if head is not None else await heads.versions(service.store)
    versions = [one for one in every if await _reaches(request, line, one)]
    return [service.statistics.told(name, number) for name in names for number in versions]


def _check_size(service: Service, asked: InferRequest, one: str) -> None:
    count, most = len(asked.values), service.settings.max_images
    if count > most:
        raise TooLarge(f"{count} {one}s came; the limit is {most}")
    for place, item in enumerate(asked.values if isinstance(asked.values, list) else ()):
        if len(item) > service.settings.max_image_bytes:
            raise TooLarge(
                f"image {place + 1} of {count} has {len(item)} bytes; the limit is {service.settings.max_image_bytes}"
            )


async def _ready(service: Service, named: Mapping[str, Any]) -> Response:
    try:
        await service.inference.prove()
    except (EngineError, Overloaded) as error:
        return JSONResponse({**named, "ready": False, "error": f"not ready: {error}"}, 503)
    return JSONResponse({**named, "ready": True})


def _found(outcome: Outcome, asked: InferRequest) -> dict[str, Floats]:
    """The outputs that are asked for, (N, …) each."""
    names = {wanted.name for wanted in asked.outputs}
    found: dict[str, Floats] = {}
    if "feature" in names:
        found["feature"] = np.stack([one.feature for one in outcome.scores])
    if names - {"feature"}:
        logits = np.stack([one.logits for one in outcome.scores])
        finite = np.maximum(logits, np.finfo(np.float32).min)  # JSON has no −inf, for classes that cannot be
        found |= {"logits": finite, "probabilities": softmax(logits).astype(np.float32)}
    return found


def _ids(ids: Sequence[str | None]) -> dict[str, str]:
    """The parameter that names the remembered answers, with commas between them; none if the list is empty.

    The protocol has no lists in parameters.
    """
    return {"answer_ids": ",".join(name or "" for name in ids)} if ids else {}


def _evidence(told: Evidence) -> dict[str, str]:
    """The parameters that have how well each image is known, and its nearest rows, each as the JSON of a list."""
    lists = {"known": told.known, "nearest": told.nearest}
    return {name: to_json(values).decode() for name, values in lists.items() if values is not None}


async def _nodes(outcome: Outcome, conditions: Resolved) -> dict[str, str]:
    """The parameter that has the deepest sure node of each image, or null, as the JSON of a list."""
    return {"node": to_json(await conditions.nodes(outcome)).decode()}
