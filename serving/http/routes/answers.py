"""`/v1/answers` and `/v1/queue`: remembered answers, their removal, and those that are worth a label."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from breadcrumbs.serving.http.access_control import check_owner, key_of
from breadcrumbs.serving.http.examples import records
from breadcrumbs.serving.http.examples.schemas import AnswerRecord, Erased, Queue, Queued
from breadcrumbs.serving.http.service import Serving, problems
from breadcrumbs.serving.learning import worth
from breadcrumbs.serving.learning.example import identity
from breadcrumbs.serving.learning.worth import Strategy

AnswerId = Annotated[str, Path(description="id of the answer")]

router = APIRouter(tags=["answers"])


@router.get("/v1/answers/{answer}", responses=problems(403, 404, 410))
async def get(answer: AnswerId, request: Request, service: Serving) -> AnswerRecord:
    """Tell what is remembered of an answer."""
    await service.answers.flush()
    found = (await service.answers.find([answer]))[answer]
    owner = found.origin.owner
    check_owner(request, () if owner is None else (owner,), f"answer {answer}")
    newest = await service.examples.newest()
    return records.answer_record(found, newest.get(identity(owner, found.origin.content)))


@router.delete("/v1/answers/{answer}", responses=problems(403, 404, 410))
async def delete(answer: AnswerId, request: Request, service: Serving) -> Erased:
    """Remove an answer, its example, and both from all later refits; tell which heads were fitted with the example.

    Nothing of the feature or the thumbnail is left in the store. Heads stay: remove one by a refit without it.
    """
    found = await service.removal.of_answer(answer)
    check_owner(request, () if found.owner is None else (found.owner,), f"answer {answer}")
    fitted = await service.removal.carry_out(found)
    return Erased(answer=found.answer, examples=found.examples, heads=fitted)


@router.get("/v1/queue", responses=problems(422))
async def queue(
    request: Request,
    service: Serving,
    strategy: Annotated[
        Strategy,
        Query(
            description="`rare`: probability of classes with few training images; `uncertain`: the two top classes "
            "are close; `far`: far from every class; `mixed`: of each in turn"
        ),
    ] = "mixed",
    n: Annotated[int, Query(ge=1, le=1000, description="answers at most")] = 100,
) -> Queue:
    """List answers without a label that are worth one, by a strategy; a key without `admin` sees its own."""
    key = key_of(request)
    owner = worth.ANYONE if key is None or key.may("admin") else key.name
    found = await worth.best(service.answers, service.examples, service.bundle, strategy, n, owner)
    listed = [Queued(**records.answer_fields(one.answer), strategy=one.strategy, score=one.score) for one in found]
    return Queue(remembers=service.answers.on, answers=listed)
