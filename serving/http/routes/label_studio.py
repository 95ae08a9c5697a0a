"""`/label-studio`: an ML backend of Label Studio. It predicts for tasks, and its webhook makes labels of annotations.

Off unless the setting `label_studio` names one. A key comes as Label Studio sends it: as the password of basic
authentication, or in a webhook's own headers.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.head import softmax
from breadcrumbs.serving.http import bodies
from breadcrumbs.serving.http.access_control import key_of
from breadcrumbs.serving.http.disconnect import while_connected
from breadcrumbs.serving.http.examples import labels
from breadcrumbs.serving.http.examples.schemas import LabelBody
from breadcrumbs.serving.http.label_studio import bodies as words
from breadcrumbs.serving.http.label_studio import labeling
from breadcrumbs.serving.http.label_studio.bodies import Pair, PredictBody, Project, SetupBody, Task, WebhookBody
from breadcrumbs.serving.http.label_studio.images import LabelStudio
from breadcrumbs.serving.http.label_studio.labeling import Labeling
from breadcrumbs.serving.http.prediction.upload import check_takes_images
from breadcrumbs.serving.http.service import Service, Serving, body, line_of, problems
from breadcrumbs.serving.learning.removal import Found
from breadcrumbs.serving.predict.engine import BoundHead, Scores
from breadcrumbs.serving.refusals import BadRequest, Forbidden, TooLarge, tell
from breadcrumbs.serving.setting_names import both

AT_ONCE = 8
"""Images of a request that are fetched and computed at the same time, so that no more of them are in memory."""
SAID = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED")
"""Actions of a webhook that make labels."""
DELETED = "ANNOTATIONS_DELETED"
AUTHOR = 200
"""Characters of an author that are kept."""
Result = Scores | BreadcrumbsError
"""Of one task: its scores, or why there are none."""

router = APIRouter(prefix="/label-studio", tags=["label studio"])
ERRORS = problems(403, 413, 415, 422, 502, 503)


@router.get("/", include_in_schema=False)
@router.get("/health", responses=problems(403, 503))
async def health(service: Serving) -> dict[str, str]:
    """Tell that predictions can be made now, proved by a real inference."""
    _on(service)
    await service.inference.prove()
    return {"status": "UP", "model_class": "Breadcrumbs"}


@router.post("/setup", responses=ERRORS, openapi_extra=body(json=SetupBody.model_json_schema()))
async def setup(request: Request, service: Serving) -> dict[str, str]:
    """Take a project whose labeling config has choices for an image, and tell the version of the model.

    The address and the token that Label Studio sends are not used: the operator has named both.
    """
    _on(service)
    asked = await bodies.read_json(request, SetupBody)
    if asked.config:
        labeling.read(asked.config)
    return {"model_version": _version(service, (await line_of(request, service)).head)}


@router.post("/predict", responses=ERRORS, openapi_extra=body(json={"type": "object"}))
async def predict(request: Request, service: Serving) -> dict[str, Any]:
    """Predict the class of each task's image, of those that the labeling config lists.

    A task whose image cannot be had has no result, and `error` says why; where there is no other task, that is the
    answer.
    """
    studio = _on(service)
    asked = await bodies.read_json(request, PredictBody, service.settings.max_body_bytes)
    if len(asked.tasks) > words.MOST:
        raise TooLarge(f"the request has {len(asked.tasks)} tasks; the limit is {words.MOST}")
    config, head = labeling.read(asked.label_config), (await line_of(request, service)).head
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(task: Task) -> Scores | BreadcrumbsError:
        try:
            async with turns:
                return await _scores(service, studio, task, config, head)
        except BreadcrumbsError as error:
            return error

    found = await while_connected(request, _all([one(task) for task in asked.tasks]))
    if len(found) == 1 and isinstance(found[0], BreadcrumbsError):
        raise found[0]
    version = _version(service, head)
    results = [_result(task, one, config) for task, one in zip(asked.tasks, found, strict=True)]
    return {"results": [result | {"model_version": version} for result in results], "model_version": version}


async def _all(works: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
    return [task.result() for task in tasks]


def _result(task: Task, found: Result, config: Labeling) -> dict[str, Any]:
    if isinstance(found, BreadcrumbsError):
        return {"result": [], "error": f"task {task.id}: {found}"}
    return _prediction(found, config)


@router.post(
    "/webhook", responses=problems(403, 413, 415, 422, 502, 503, 507), openapi_extra=body(json={"type": "object"})
)
async def webhook(request: Request, service: Serving) -> dict[str, Any]:
    """Keep what an annotation says as the label of its image, or remove the example of one that is deleted.

    The label is verified where the key may refit. A task that was skipped, or has no class or several, has no label.
    """
    studio = _on(service)
    asked = await bodies.read_json(request, WebhookBody, service.settings.max_body_bytes)
    if asked.project is not None and asked.action in SAID:
        return await _keep(request, service, studio, asked)
    if asked.action == DELETED:
        return await _remove(request, service, {one.id for one in asked.annotations})
    return {"status": "ignored"}


async def _keep(request: Request, service: Service, studio: LabelStudio, asked: WebhookBody) -> dict[str, Any]:
    if asked.project is None:
        raise BadRequest("project: expected the project of the annotation")
    config = labeling.read(asked.project.label_config)
    said: list[tuple[Pair, LabelBody]] = []
    gone = set[int]()
    for pair in words.pairs(asked):
        chosen = pair.annotation.chosen(config)
        if chosen is None:
            gone.add(pair.annotation.id)  # it may have had one before
        else:
            said.append((pair, _label(request, pair, chosen, asked.project)))
    removed = await _remove(request, service, gone) if gone else {"examples": [], "heads": []}
    found = []
    known = labels.Known((await line_of(request, service)).head.head.classes)
    for pair, one in said:
        data = await _image(studio, pair.task, config)
        scores = await _computed(request, service, data, pair.task)
        found.append(labels.of_image(request, service, known, one, data, scores.feature))
    await labels.check_verified(request, service, found)
    changes = await labels.keep(service, found)
    return {
        "status": "ok",
        "labels": [[one.said.id, change] for one, change in zip(found, changes, strict=True)],
        "removed": removed["examples"],
        "heads": removed["heads"],
    }


def _label(request: Request, pair: Pair, chosen: str, project: Project) -> LabelBody:
    """What an annotation says, by the rules of any other label."""
    told = {"class": chosen, "by": pair.annotation.author[:AUTHOR], "ref": pair.ref(project.id)}
    try:
        return LabelBody.model_validate(told | {"verified": labels.may_verify(request)})
    except ValidationError as error:
        raise BadRequest(f"task {pair.task.id}: {tell(error)}") from error


async def _remove(request: Request, service: Service, annotations: set[int]) -> dict[str, Any]:
    """Remove the examples whose newest label an annotation of this client was."""
    key = key_of(request)
    owner = None if key is None else key.name
    newest = (await service.examples.newest()).values()
    ids = [said.id for said in newest if said.owner == owner and words.is_of(said.ref, annotations)]
    heads = await service.removal.carry_out(Found(None, ids, owner)) if ids else []
    return {"status": "ok", "examples": ids, "heads": heads}


async def _scores(service: Service, studio: LabelStudio, task: Task, config: Labeling, head: BoundHead) -> Scores:
    data = await _image(studio, task, config)
    return (await service.inference.run([data], head)).scores[0]


async def _computed(request: Request, service: Service, data: bytes, task: Task) -> Scores:
    work = service.inference.run([data], names=[f"task {task.id}"])
    return (await while_connected(request, work)).scores[0]


async def _image(studio: LabelStudio, task: Task, config: Labeling) -> bytes:
    if config.field not in task.data:
        raise BadRequest(f"task {task.id} has no field {config.field!r:.80}, which the labeling config names")
    return await studio.image(task.data[config.field])


def _prediction(scores: Scores, config: Labeling) -> dict[str, Any]:
    """The most probable class that can be chosen; no result where there is none."""
    classes, probabilities = scores.head.head.classes, softmax(scores.logits)
    for place in (-probabilities).argsort(kind="stable").tolist():
        if not config.names or classes[place] in config.names:
            score = float(probabilities[place])
            choice = {
                "from_name": config.choices, "to_name": config.image, "type": "choices",
                "value": {"choices": [classes[place]]}, "score": score,
            }  # fmt: skip
            return {"result": [choice], "score": score}
    return {"result": [], "error": "the head knows none of the classes that the labeling config lists"}


def _version(service: Service, head: BoundHead) -> str:
    return f"{service.bundle.manifest.name} head {head.version}"


def _on(service: Service) -> LabelStudio:
    """The Label Studio that is named.

    Raises:
        Forbidden: none is.
        BadRequest: the bundle takes no images.
    """
    if service.label_studio is None:
        raise Forbidden(f"the ML backend of Label Studio is switched off on this server: set {both('label_studio')}")
    check_takes_images(service)
    return service.label_studio
