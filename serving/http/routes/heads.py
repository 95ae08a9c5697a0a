"""`/v1/heads` and `/v1/activations`: which heads there are, which one is live, and how to change that."""

import contextlib
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response

from breadcrumbs.serving.http import bodies
from breadcrumbs.serving.http.access_control import actor
from breadcrumbs.serving.http.schemas import ActivateBody, ActivationList, GoLiveBody, HeadList
from breadcrumbs.serving.http.service import AfterNumber, Limit, Serving, content, problems
from breadcrumbs.serving.http.shares import SMALL_BODY
from breadcrumbs.serving.state import activation_log, heads
from breadcrumbs.serving.state.activation_log import Activation
from breadcrumbs.serving.state.heads import HeadRecord
from breadcrumbs.serving.state.pages import LIMIT
from breadcrumbs.serving.state.stop_rules import StopIf
from breadcrumbs.serving.state.store import StoreError
from breadcrumbs.serving.trials import starting

Version = Annotated[int, Path(ge=1, lt=10**9, description="the head's number")]

router = APIRouter(tags=["heads"])
BODY = {"requestBody": {"content": {"application/json": {"schema": ActivateBody.model_json_schema()}}}}
GO_LIVE = {"requestBody": {"content": {"application/json": {"schema": GoLiveBody.model_json_schema()}}}}
LEVEL = 0.05
"""At which a watched head is shown to be worse, where the request does not say."""
Body = TypeVar("Body", bound=ActivateBody)


@router.get("/v1/heads", responses=problems(422))
async def listing(service: Serving, limit: Limit = LIMIT, after: AfterNumber = None) -> HeadList:
    """List heads, the newest first, and say which is live."""
    found, more = await heads.page(service.store, limit, after)
    return HeadList(live=service.live.head.version, heads=found, next=more)


@router.post("/v1/heads/rollback", responses=problems(409, 422, 503), openapi_extra=BODY)
async def rollback(request: Request, service: Serving) -> Activation:
    """Go back to the head that was live before."""
    wanted = await _wanted(request, ActivateBody)
    return await service.live.rollback(actor(request), wanted.reason, wanted.expected_live)


@router.get("/v1/heads/{version}", responses=problems(404))
async def get(version: Version, service: Serving) -> HeadRecord:
    """Tell a head's metrics and where it comes from."""
    return await heads.record(service.store, version)


@router.get(
    "/v1/heads/{version}/head.onnx", responses=content("application/octet-stream") | problems(404),
    response_class=Response,
)  # fmt: skip
async def onnx(version: Version, service: Serving) -> Response:
    """Download a head as ONNX."""
    data = await heads.read_onnx(service.store, version)
    return Response(data, media_type="application/octet-stream")


@router.post("/v1/heads/{version}/activate", responses=problems(404, 409, 422, 503), openapi_extra=GO_LIVE)
async def activate(version: Version, request: Request, service: Serving) -> Activation:
    """Make a head live; if it is, nothing changes.

    With `bake`, it is watched for a while, and the head before it comes back if `stop_if` says so.
    """
    wanted = await _wanted(request, GoLiveBody)
    bake = None
    if wanted.bake is not None:
        rules = wanted.stop_if or StopIf(worse=LEVEL)
        bake = await starting.check_bake(service.trials, version, wanted.bake, rules)
    done = await service.live.activate(version, actor(request), wanted.reason, wanted.expected_live, bake)
    with contextlib.suppress(StoreError):  # the head is live, and who judges trials starts what is missing
        await starting.bake(service.trials, done)
    return done


async def _wanted(request: Request, model: type[Body]) -> Body:
    data = await bodies.read_body(request, SMALL_BODY, "JSON body")
    return bodies.parse_json(data or b"{}", model, "JSON body")


@router.get("/v1/activations")
async def log(
    service: Serving,
    limit: Annotated[int, Query(ge=1, le=10_000, description="so many at most")] = LIMIT,
    after: AfterNumber = None,
) -> ActivationList:
    """Tell what was live when, the newest first, and what a rollback would lead to."""
    records = await service.live.log()
    older = [record for record in records[::-1] if after is None or record.number < after]
    more = older[limit - 1].number if len(older) > limit else None
    return ActivationList(activations=older[:limit], next=more, before=activation_log.before(records))
