"""`POST /v1/predict` and `POST /v1/features`: images or features in; classes, or features, or a whole snapshot out."""

import json
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray
from pydantic_core import to_json

from breadcrumbs.models import safetensor
from breadcrumbs.models.snapshots.snapshot import UNLABELLED, Snapshot, to_bytes
from breadcrumbs.serving.http import image_upload
from breadcrumbs.serving.http.disconnect import while_connected
from breadcrumbs.serving.http.image_upload import Upload
from breadcrumbs.serving.http.notes import note
from breadcrumbs.serving.http.outcomes import count_predictions, record
from breadcrumbs.serving.http.prediction import upload as brought
from breadcrumbs.serving.http.prediction.conditions import Resolved, resolve
from breadcrumbs.serving.http.prediction.evidence import NO_EVIDENCE, evidence
from breadcrumbs.serving.http.prediction.predictions import PLAIN, PredictOptions, predicted
from breadcrumbs.serving.http.prediction.remembered import Came, remember
from breadcrumbs.serving.http.schemas import FeaturesBody, FeaturesResponse, PredictBody, PredictResponse, Timing
from breadcrumbs.serving.http.service import BYTES, Service, Serving, answering, body, line_of, problems
from breadcrumbs.serving.predict.inference import Outcome
from breadcrumbs.serving.refusals import BadRequest
from breadcrumbs.serving.state.live_head import Live
from breadcrumbs.training.data.class_names import spaced

SAFETENSORS = "application/octet-stream"
ERRORS = problems(413, 415, 422, 503)
FORM: dict[str, Any] = {
    "image": {"type": "array", "items": BYTES, "description": "image files, under this name or any other"}
}
LABELS: dict[str, Any] = {
    "labels": {"type": "string", "description": "JSON list of class names, indices or null, one an image"},
    "epoch": {"type": "string", "description": "the snapshot's epoch, a whole number"},
    "ids": {"type": "string", "description": "JSON list of the images' numbers in their data set"},
    "dataset": {"type": "string", "description": "sha256 of that data set"},
}

router = APIRouter(tags=["predict"])


@router.post(
    "/v1/predict",
    responses=problems(403, 404, 409, 413, 415, 422, 503),
    openapi_extra=body(
        *image_upload.DOCUMENTED,
        brought.NPY,
        brought.SAFETENSORS,
        json=PredictBody.model_json_schema(),
        form=FORM,
    ),
    response_model=PredictResponse,
)
async def predict(request: Request, service: Serving, options: Annotated[PredictOptions, Query()]) -> Response:
    """Classify one image (raw body) or several (multipart, or base64 in JSON): the top classes with probabilities.

    Features of the backbone are classified as well: in JSON, as an npy array (N, D), or as the safetensors `features`.
    """
    return await answer(request, service, options)


async def answer(request: Request, service: Service, options: PredictOptions = PLAIN) -> Response:
    """Answer a predict request; raises what the problems of the route say."""
    first, *others = [await line_of(request, service, name) for name in dict.fromkeys(options.line or (None,))]
    if others:
        note(request.scope, line=",".join(one.line for one in (first, *others)))
    came = await brought.read(request, service)
    chosen = await answering(request, service, first, options.head, options.ref)
    also = [line.head for line in others]
    asked = [
        await resolve(service, head, options.prior, options.classes, options.confidence) for head in (chosen, *also)
    ]
    computed = [await while_connected(request, service.inference.run(came, asked[0].head))]
    if others:
        computed += await service.inference.also(computed[0], also)
    answers = {
        line.line: await _answered(request, service, line, came, options, conditions, outcome)
        for line, conditions, outcome in zip((first, *others), asked, computed, strict=True)
    }
    timing = record(request, service, computed[0])
    made = {**answers[first.line], "timing": timing, "batch_size": computed[0].batch_size}
    return Response(to_json(made | ({"lines": answers} if others else {})), media_type="application/json")


async def _answered(
    request: Request, service: Service, line: Live, came: Came, options: PredictOptions, conditions: Resolved,
    computed: Outcome,
) -> dict[str, Any]:  # fmt: skip
    """The answer of one line, as JSON."""
    if line is service.live:
        service.trials.saw(computed.scores)
    outcome = conditions.applied(computed)
    count_predictions(service, line.line, outcome)
    told = NO_EVIDENCE
    if options.known or options.explain:
        told = await evidence(request, service, outcome, known=options.known, explain=options.explain)
    ids = await remember(request, service, came, outcome, options.ref)
    name = {"version": outcome.head.version, "digest": outcome.head.head.digest}
    answer = {
        "head": name, "predictions": predicted(outcome, options, ids, await conditions.nodes(outcome), told)
    }  # fmt: skip
    if told.nearest is not None:
        answer["rows"] = {"searched": told.searched, "of": told.of}
    return answer


BINARY: dict[int | str, dict[str, Any]] = {
    200: {"description": "features", "content": {SAFETENSORS: {"schema": {"type": "string", "format": "binary"}}}}
}


@router.post(
    "/v1/features",
    responses=BINARY | ERRORS,
    openapi_extra=body(*image_upload.DOCUMENTED, json=FeaturesBody.model_json_schema(), form=FORM | LABELS),
    response_model=FeaturesResponse,
)
async def features(
    request: Request,
    service: Serving,
    format: Annotated[  # noqa: A002 - the word that clients write
        Literal["json", "safetensors"] | None, Query(description="absent: as `Accept` asks, or else json")
    ] = None,
) -> FeaturesResponse | Response:
    """Return the features of images, as JSON or safetensors.

    With `labels` (class names or indices, one per image) and `epoch`, the safetensors are a complete snapshot, ready
    for `PUT /v1/snapshots`; `ids` and `dataset` name its images.
    """
    brought.check_takes_images(service)
    upload = await image_upload.read(request, service.settings)
    binary = format == "safetensors" or (format is None and SAFETENSORS in request.headers.get("accept", ""))
    _check_form(upload, binary)
    line = await line_of(request, service)
    head = None if line is service.live else line.head
    outcome = await while_connected(request, service.inference.run(upload.images, head))
    timing = record(request, service, outcome)
    values = np.stack([scores.feature for scores in outcome.scores])
    if not binary:
        return FeaturesResponse(
            backbone=service.bundle.backbone_digest,
            feature_dim=values.shape[1],
            features=values.tolist(),
            timing=Timing(**timing),
            batch_size=outcome.batch_size,
        )
    if upload.labels is None or upload.epoch is None:
        data = safetensor.encode({"features": values}, {"backbone": service.bundle.backbone_digest})
    else:
        data = _snapshot(values, upload, upload.labels, upload.epoch, outcome.head.head.classes, service)
    return Response(data, media_type=SAFETENSORS)


def _check_form(upload: Upload, binary: bool) -> None:
    if (upload.labels is None) != (upload.epoch is None):
        raise BadRequest("labels and epoch make a snapshot together; only one of them came")
    if upload.labels is None and (upload.ids is not None or upload.dataset):
        raise BadRequest("ids and dataset name the images of a snapshot; it takes labels and epoch, which did not come")
    if upload.ids is not None and len(set(upload.ids)) < len(upload.ids):
        raise BadRequest("ids: an id occurs twice; expected another for each image")
    if upload.labels is not None and not binary:
        raise BadRequest("labels make a snapshot, which is no JSON: ask with format=safetensors")


def _snapshot(
    values: NDArray[np.float32], upload: Upload, labels: list[Any], epoch: int, known: tuple[str, ...], service: Service
) -> bytes:
    """A snapshot's bytes; names that the live head does not know follow its classes, in order of appearance."""
    classes = list(known)
    indices = []
    for label in labels:
        if label is None:
            indices.append(UNLABELLED)
            continue
        if isinstance(label, int):
            if not 0 <= label < len(known):
                raise BadRequest(f"label {label}: expected 0 … {len(known) - 1}, or a class name")
            indices.append(label)
            continue
        if why := spaced(label):
            raise BadRequest(f"label {json.dumps(label)} {why}")
        if label not in classes:
            classes.append(label)
        indices.append(classes.index(label))
    ids = None if upload.ids is None else np.array(upload.ids, np.int64)
    return to_bytes(
        Snapshot(
            values, np.array(indices, np.int64), tuple(classes), service.bundle.backbone_digest, epoch,
            ids=ids, dataset=upload.dataset,
        )
    )  # fmt: skip
