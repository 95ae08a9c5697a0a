"""`/v1/lines`: named live heads on one backbone."""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from breadcrumbs.serving.http import bodies
from breadcrumbs.serving.http.access_control import actor, check_line, lines_of
from breadcrumbs.serving.http.schemas import HeadName, LineBody, LineList, LineRecord
from breadcrumbs.serving.http.service import AfterName, Limit, Serving, problems
from breadcrumbs.serving.http.shares import SMALL_BODY
from breadcrumbs.serving.state.activation_log import Activation
from breadcrumbs.serving.state.line_names import DEFAULT
from breadcrumbs.serving.state.live_head import Live
from breadcrumbs.serving.state.pages import LIMIT

Name = Annotated[str, Path(description="the line's name: letters, digits, `.`, `_` and `-`, 60 at most")]
BODY = {"requestBody": {"content": {"application/json": {"schema": LineBody.model_json_schema()}}}}

router = APIRouter(tags=["lines"])


@router.get("/v1/lines", responses=problems(422))
async def listing(request: Request, service: Serving, limit: Limit = LIMIT, after: AfterName = None) -> LineList:
    """List lines, the default one first, then by name; a key that is bound to lines sees those."""
    bound = lines_of(request)
    known = [one for one in service.lines.all if bound is None or one.line in bound]
    later = [one for one in known if after is None or (one.line != DEFAULT and (after == DEFAULT or one.line > after))]
    more = later[limit - 1].line if len(later) > limit else None
    return LineList(lines=[_record(one) for one in later[:limit]], next=more)


@router.get("/v1/lines/{name}", responses=problems(403, 404, 422, 503))
async def get(name: Name, request: Request, service: Serving) -> LineRecord:
    """Tell what is live in a line."""
    check_line(request, name)
    return _record(await service.lines.find(name))


@router.put(
    "/v1/lines/{name}", status_code=201, openapi_extra=BODY, responses=problems(403, 404, 409, 413, 422, 503, 507)
)
async def put(name: Name, request: Request, service: Serving) -> LineRecord:
    """Create a line, with a head that is live in it from the beginning."""
    wanted = bodies.parse_json(await bodies.read_body(request, SMALL_BODY, "JSON body") or b"{}", LineBody, "JSON body")
    return _record(await service.lines.create(name, wanted.head, actor(request), wanted.reason))


@router.delete("/v1/lines/{name}", responses=problems(403, 404, 409, 422, 503, 507))
async def delete(name: Name, request: Request, service: Serving) -> Activation:
    """Remove a line; its heads and its activation log stay. A line of that name that is created later goes on in it."""
    return await service.lines.remove(name, actor(request), "it was removed by request")


def _record(live: Live) -> LineRecord:
    head = live.head
    return LineRecord(
        name=live.line, head=HeadName(version=head.version, digest=head.head.digest), classes=len(head.head.classes),
        activation=live.activation,
    )  # fmt: skip
