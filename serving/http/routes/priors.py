"""`/v1/priors`: named priors, which say what can be there and how often."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from breadcrumbs.models.prior import check_known
from breadcrumbs.serving.http import bodies
from breadcrumbs.serving.http.access_control import actor
from breadcrumbs.serving.http.schemas import PriorDetail, PriorList, PriorSummary
from breadcrumbs.serving.http.service import AfterName, Limit, Service, Serving, body, problems
from breadcrumbs.serving.state.pages import LIMIT
from breadcrumbs.serving.state.priors import NAME, PriorRecord, PriorWeights

Name = Annotated[str, Path(pattern=f"^{NAME}$", description="the prior's name: a to z, 0 to 9 and hyphens, 64 at most")]

router = APIRouter(tags=["priors"])


@router.put(
    "/v1/priors/{name}", status_code=201, openapi_extra=body(json=PriorWeights.model_json_schema()),
    responses={200: {"model": PriorDetail, "description": "it replaced one"}, **problems(413, 422, 503, 507)},
)  # fmt: skip
async def put(
    name: Name,
    request: Request,
    response: Response,
    service: Serving,
    allow_unknown: Annotated[
        bool, Query(description="store names that the live head does not have, as of a class that comes later")
    ] = False,
) -> PriorDetail:
    """Store a prior: weights of classes, or a list of the classes that can be; 200 instead of 201 if it replaces one.

    The name of a class that the live head does not have is refused, with names that are near.
    """
    data = await bodies.read_body(request, service.settings.max_body_bytes, "JSON body")
    wanted = bodies.parse_json(data, PriorWeights, "JSON body")
    if not allow_unknown:
        await asyncio.to_thread(check_known, wanted.named, service.live.head.head)
    record, new = await service.priors.put(name, wanted, actor(request))
    response.status_code = 201 if new else 200
    return await _detail(record, service)


@router.get("/v1/priors", responses=problems(422))
async def listing(service: Serving, limit: Limit = LIMIT, after: AfterName = None) -> PriorList:
    """List priors, by name."""
    found, more = await service.priors.page(limit, after)
    return PriorList(priors=[_summary(record) for record in found], next=more)


@router.get("/v1/priors/{name}", responses=problems(404, 422, 503))
async def get(name: Name, service: Serving) -> PriorDetail:
    """Tell a prior, and which of its names the live head does not have."""
    return await _detail(await service.priors.record(name), service)


@router.delete("/v1/priors/{name}", status_code=204, responses=problems(404, 422, 503))
async def delete(name: Name, service: Serving) -> None:
    """Delete a prior; requests that name it are refused from then on."""
    await service.priors.expect(name)
    await service.priors.delete(name)


async def _detail(record: PriorRecord, service: Service) -> PriorDetail:
    live = service.live.head
    unknown = record.prior().unknown(live.head, await service.renames.of(live.version))
    return PriorDetail(**record.model_dump(), unknown=unknown)


def _summary(record: PriorRecord) -> PriorSummary:
    return PriorSummary(
        name=record.name, kind="weights" if record.classes is None else "classes", count=len(record.named),
        actor=record.actor, at=record.at,
    )  # fmt: skip
