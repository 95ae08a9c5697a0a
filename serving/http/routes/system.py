"""Alive, ready, numbers."""

import asyncio
import time
from datetime import datetime
from typing import get_args

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from breadcrumbs.serving.http.schemas import Health, PairCount
from breadcrumbs.serving.http.service import Service, Serving, content, problems
from breadcrumbs.serving.predict.devices import EngineError
from breadcrumbs.serving.refits.job import State
from breadcrumbs.serving.refusals import Overloaded

COUNT_SECONDS = 1.0
"""Between two looks at the numbers that are not counted as they happen."""

router = APIRouter(tags=["system"])


@router.get("/healthz")
async def alive() -> Health:
    """Tell that the process answers; nothing about whether it can predict."""
    return Health(status="alive")


@router.get("/readyz", responses=problems(503), response_model=Health)
async def ready(service: Serving) -> Health | Response:
    """Tell whether requests can be answered now, proved by a real inference a few seconds old at most."""
    try:
        age = await service.inference.prove()
    except (EngineError, Overloaded) as error:
        return JSONResponse({"error": {"type": "not_ready", "message": f"not ready: {error}"}}, 503)
    return Health(
        status="ready",
        head=service.live.head.version,
        lines=len(service.lines),
        model=service.bundle.manifest.name,
        classes=len(service.live.head.head.classes),
        device=service.engine.device,
        precision=service.precision if service.engine.size else None,
        takes=["images", "features"] if service.engine.size else ["features"],
        backbone=service.bundle.backbone_digest,
        feature_dim=service.bundle.manifest.feature_dim,
        proved_seconds_ago=round(age, 3),
        refits=f"wait for {waits}" if (waits := service.jobs.waits_for) else service.settings.refit,
        pairs=_pairs(service),
    )


def _pairs(service: Service) -> PairCount | None:
    own = service.pairing
    if own is None:
        return None
    return PairCount(have=own.have, wanted=own.enough, dropped=own.dropped, collecting=own.collecting)


@router.get("/metrics", response_class=Response, responses=content("text/plain"))
async def metrics(service: Serving) -> Response:
    """Tell all numbers in Prometheus' text format; of several processes on this port, all of theirs together."""
    _count(service)
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def keep_counting(service: Service) -> None:
    """Keep the numbers that are looked up, not counted, fresh for the other processes on this port."""
    while True:
        _count(service)
        await asyncio.sleep(COUNT_SECONDS)


def _count(service: Service) -> None:
    numbers = service.metrics
    numbers.pending.set(service.batcher.pending)
    numbers.capacity.set(service.settings.queue)
    numbers.live(service.live.head.version, service.live.head.head.digest)
    numbers.lines.set(len(service.lines))
    numbers.head_age.set(time.time() - datetime.fromisoformat(service.live.activation.at).timestamp())
    counts = service.jobs.counts()
    for state in get_args(State):
        numbers.refits.labels(state).set(counts[state])
