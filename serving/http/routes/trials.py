"""`/v1/trials`: heads on trial beside the live one."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from breadcrumbs.serving.http import bodies
from breadcrumbs.serving.http.access_control import actor
from breadcrumbs.serving.http.schemas import TrialList
from breadcrumbs.serving.http.service import AfterNumber, Limit, Serving, body, line_of, problems
from breadcrumbs.serving.refusals import BadRequest
from breadcrumbs.serving.state.pages import LIMIT
from breadcrumbs.serving.trials import starting
from breadcrumbs.serving.trials.state import TrialState, TrialSummary
from breadcrumbs.serving.trials.trial import TrialSpec

Line = Annotated[str | None, Query(description="`default`, or absent: a head is tried in no other line")]
Number = Annotated[int, Path(ge=1, lt=10**8, description="the trial's number")]

router = APIRouter(tags=["trials"])


@router.post(
    "/v1/trials", status_code=201, responses=problems(404, 409, 413, 422, 503, 507),
    openapi_extra=body(json=TrialSpec.model_json_schema()),
)  # fmt: skip
async def post(request: Request, service: Serving, line: Line = None) -> TrialState:
    """Start a trial of a head beside the live one, on the same features.

    A shadow only computes and is counted; a canary also answers a share of the requests. `notes` in the answer say
    which rules are unlikely to be decided in time. A head is tried in the default line only.
    """
    live = await line_of(request, service, line)
    if live is not service.live:
        raise BadRequest(f"line: a head is tried in the default line only, not in {live.line!r}; leave it out")
    wanted = await bodies.read_json(request, TrialSpec)
    started = await starting.start(service.trials, wanted, actor(request))
    return await service.trials.state(started.number)


@router.get("/v1/trials", responses=problems(422, 503))
async def listing(service: Serving, limit: Limit = LIMIT, after: AfterNumber = None) -> TrialList:
    """List trials, the newest first."""
    found, more = await service.trials.page(limit, after)
    return TrialList(trials=found, next=more)


@router.get("/v1/trials/{number}", responses=problems(404, 422, 503))
async def get(number: Number, service: Serving) -> TrialState:
    """Tell what a trial has come to: disagreement and recall of both heads, by group and by class."""
    return await service.trials.state(number)


@router.delete("/v1/trials/{number}", responses=problems(404, 422, 503, 507))
async def delete(number: Number, request: Request, service: Serving) -> TrialSummary:
    """End a trial; its record stays. The end of a bake leaves the head live."""
    return await service.trials.end(number, "ended", actor(request), "it was ended by request")
