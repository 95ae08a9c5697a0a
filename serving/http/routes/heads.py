"""`/v1/heads` and `/v1/activations`: which heads there are, which one is live, and how to change that."""

import contextlib
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response

from breadcrumbs.serving.http import bodies
from breadcrumbs.serving.http.access_control import actor
from breadcrumbs.serving.http.schemas import ActivateBody, ActivationList, GoLiveBody, HeadList
from breadcrumbs.serving.http.service import (
    AfterNumber,
    Limit,
    LineOf,
    Serving,
    check_head,
    content,
    line_of,
    may_see_head,
    problems,
)
from breadcrumbs.serving.http.shares import SMALL_BODY
from breadcrumbs.serving.refusals import BadRequest
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


@router.get("/v1/heads", responses=problems(403, 404, 422))
async def listing(
    request: Request, service: Serving, limit: Limit = LIMIT, after: AfterNumber = None, line: LineOf = None
) -> HeadList:
    """List heads, the newest first, and say which is live; a key that is bound to lines sees those of its lines."""
    live = await line_of(request, service, line)
    found, more = await heads.page(service.store, limit, after)
    shown = [one for one in found if await may_see_head(request, service, one)]
    return HeadList(live=live.head.version, heads=shown, next=more)


@router.post("/v1/heads/rollback", responses=problems(403, 404, 409, 422, 503), openapi_extra=BODY)
async def rollback(request: Request, service: Serving, line: LineOf = None) -> Activation:
    """Go back to the head that was live before."""
    live = await line_of(request, service, line)
    wanted = await _wanted(request, ActivateBody)
    return await live.rollback(actor(request), wanted.reason, wanted.expected_live)


@router.get("/v1/heads/{version}", responses=problems(403, 404))
async def get(version: Version, request: Request, service: Serving) -> HeadRecord:
    """Tell a head's metrics and where it comes from."""
    found = await heads.record(service.store, version)
    await check_head(request, service, found)
    return found


@router.get(
    "/v1/heads/{version}/head.onnx", responses=content("application/octet-stream") | problems(403, 404),
    response_class=Response,
)  # fmt: skip
async def onnx(version: Version, request: Request, service: Serving) -> Response:
    """Download a head as ONNX."""
    await get(version, request, service)
    data = await heads.read_onnx(service.store, version)
    return Response(data, media_type="application/octet-stream")


@router.post("/v1/heads/{version}/activate", responses=problems(403, 404, 409, 422, 503), openapi_extra=GO_LIVE)
async def activate(version: Version, request: Request, service: Serving, line: LineOf = None) -> Activation:
    """Make a head live; if it is, nothing changes.

    With `bake`, it is watched for a while, and the head before it comes back if `stop_if` says so; that is for the
    default line.
    """
    live = await line_of(request, service, line)
    await get(version, request, service)
    wanted = await _wanted(request, GoLiveBody)
    bake = None
    if wanted.bake is not None:
        if live is not service.live:
            raise BadRequest(f"bake: a head is watched in the default line only, not in {live.line!r}; leave it out")
        rules = wanted.stop_if or StopIf(worse=LEVEL)
        bake = await starting.check_bake(service.trials, version, wanted.bake, rules)
    done = await live.activate(version, actor(request), wanted.reason, wanted.expected_live, bake)
    if live is not service.live:
        return done
    with contextlib.suppress(StoreError):  # the head is live, and who judges trials starts what is missing
        await starting.bake(service.trials, done)
    return done


async def _wanted(request: Request, model: type[Body]) -> Body:
    data = await bodies.read_body(request, SMALL_BODY, "JSON body")
    return bodies.parse_json(data or b"{}", model, "JSON body")


@router.get("/v1/activations", responses=problems(403, 404, 422))
async def log(
    request: Request,
    service: Serving,
    limit: Annotated[int, Query(ge=1, le=10_000, description="so many at most")] = LIMIT,
    after: AfterNumber = None,
    line: LineOf = None,
) -> ActivationList:
    """Tell what was live when, the newest first, and what a rollback would lead to."""
    records = await (await line_of(request, service, line)).log()
    older = [record for record in records[::-1] if after is None or record.number < after]
    more = older[limit - 1].number if len(older) > limit else None
    return ActivationList(activations=older[:limit], next=more, before=activation_log.before(records))
