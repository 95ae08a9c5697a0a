"""`/v1/labels` and `/v1/examples`: what people say the class of an image is, and what is kept of it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator

from breadcrumbs.serving.http import bodies
from breadcrumbs.serving.http.access_control import check_owner, key_of
from breadcrumbs.serving.http.disconnect import while_connected
from breadcrumbs.serving.http.examples import labels, records
from breadcrumbs.serving.http.examples.schemas import (
    BroughtRows,
    Erased,
    ExampleDetail,
    ExampleList,
    Labelled,
    LabelsBody,
    LabelsResponse,
    SuspectExample,
    SuspectExamples,
    labels_schema,
)
from breadcrumbs.serving.http.service import BYTES, AfterName, Limit, Service, Serving, body, problems
from breadcrumbs.serving.learning import example_files, intake
from breadcrumbs.serving.learning.answer_ids import ID
from breadcrumbs.serving.learning.example import Label, Said
from breadcrumbs.serving.learning.example_files import FileFormat
from breadcrumbs.serving.learning.portable import ExamplesError
from breadcrumbs.serving.processes.scratch import scratch
from breadcrumbs.serving.refits.suspects import MOST as SUSPECTS
from breadcrumbs.serving.refits.suspects import SuspectRow
from breadcrumbs.serving.refusals import BadRequest
from breadcrumbs.serving.state.pages import LIMIT

ExampleId = Annotated[str, Path(description="id of the example")]
NUMBER = re.compile(r"\s*[-+]?[0-9._]+\s*")
PLACE = re.compile(rf"([0-9]{{1,20}})-({ID.pattern})")

TYPES: dict[FileFormat, str] = {"parquet": "application/vnd.apache.parquet", "jsonl": "application/x-ndjson"}
FILES: dict[int | str, dict[str, Any]] = {
    200: {"description": "examples", "content": {kind: {"schema": BYTES} for kind in TYPES.values()}}
}

router = APIRouter(tags=["labels"])


def _no_number(text: object) -> object:
    """Refuse a bare number, of which pydantic makes seconds or milliseconds since 1970."""
    if isinstance(text, str) and NUMBER.fullmatch(text):
        raise ValueError("expected a time as 2026-01-31T12:00:00Z")
    return text


@router.post(
    "/v1/labels", responses=problems(403, 404, 410, 413, 415, 422, 503, 507),
    openapi_extra=body(json=labels_schema()),
)  # fmt: skip
async def post(request: Request, service: Serving) -> LabelsResponse:
    """Keep labels of answers, images or features as examples, for later refits.

    When the answer comes, the labels are on the disk. A later label of the same thing replaces an earlier one; the same
    label again changes nothing, so a request may be repeated.
    """
    asked = await bodies.read_json(request, LabelsBody, service.settings.max_body_bytes)
    found = await labels.read(request, service, asked.labels)
    changes = await labels.keep(service, found)
    told = [Labelled(example=one.said.id, change=change) for one, change in zip(found, changes, strict=True)]
    return LabelsResponse(labels=told, new_classes=await labels.unknown(request, service, found))


@router.get("/v1/examples", responses=problems(415, 422) | FILES, response_model=ExampleList)
async def listing(
    request: Request,
    service: Serving,
    cls: Annotated[str | None, Query(alias="class", max_length=1000, description="only of this class")] = None,
    by: Annotated[str | None, Query(max_length=200, description="only labels of this author")] = None,
    verified: Annotated[bool | None, Query(description="only those that are verified, or are not")] = None,
    since: Annotated[
        datetime | None,
        BeforeValidator(_no_number),
        Query(description="only labels that came then or later, ISO 8601; UTC unless it says"),
    ] = None,
    limit: Limit = LIMIT,
    after: AfterName = None,
    format: Annotated[  # noqa: A002 - the word that clients write
        FileFormat | None, Query(description="all of them with their features, as a file, in any order")
    ] = None,
) -> ExampleList | StreamingResponse:
    """List examples, those labelled last first; a key without `admin` sees its own."""
    begin = 0 if since is None else int((since if since.tzinfo else since.replace(tzinfo=UTC)).timestamp() * 1e6)
    own = await _own(request, service)
    bound = None if after is None else _bound(own, after)
    found = [
        said
        for said in own
        if (bound is None or said.place < bound)
        and (cls is None or said.label == cls)
        and (by is None or said.by == by)
        and (verified is None or said.verified == verified)
        and said.at >= begin
    ]
    if format is not None:
        return _file(service, found, format)
    more = f"{found[limit - 1].at}-{found[limit - 1].record}" if len(found) > limit else None
    return ExampleList(examples=[records.example_record(said) for said in found[:limit]], next=more)


async def _own(request: Request, service: Service) -> list[Said]:
    """The newest labels that a request's key may see, the last first."""
    key = key_of(request)
    there = sorted((await service.examples.newest()).values(), key=lambda said: said.place, reverse=True)
    return [said for said in there if key is None or key.may("admin") or key.name == said.owner]


def _file(service: Service, found: Sequence[Said], kind: FileFormat) -> StreamingResponse:
    parts = service.examples.stream(found)
    if kind == "parquet":
        example_files.pyarrow()  # so that it is refused before the answer begins
    made = example_files.parquet(parts) if kind == "parquet" else example_files.lines(parts)
    name = {"Content-Disposition": f'attachment; filename="examples.{kind}"'}
    return StreamingResponse(made, media_type=TYPES[kind], headers=name)


@router.post("/v1/examples", responses=problems(403, 413, 415, 422, 503, 507), openapi_extra=body(*TYPES.values()))
async def bring(request: Request, service: Serving) -> BroughtRows:
    """Keep the examples of a file that `GET /v1/examples?format=` made, Parquet or JSON lines, with their own times.

    The file is checked as a whole first: of a damaged one nothing is kept. The same file again changes nothing.
    """
    with service.uploads.enter(request.scope), scratch("examples") as folder:
        path, read = folder / "examples", folder / "checked"
        await bodies.save_body(request, path, service.settings.max_snapshot_bytes, "file of examples")
        await service.intake.check(path, read)
        brought = await service.examples.bring(lambda: _fitting(read, service))
    return BroughtRows(**asdict(brought))


def _fitting(path: FilePath, service: Service) -> Iterator[list[Label]]:
    """The examples of a file that was checked; those of the deployed backbone have its dimensions."""
    backbone, width = service.bundle.backbone_digest, service.engine.feature_dim
    for part in intake.checked(path):
        for label in part:
            if label.said.backbone == backbone and len(label.feature) != width:
                raise ExamplesError(
                    f"example {label.said.id}: {len(label.feature)} dimensions; the deployed backbone has {width}"
                )
        yield part


def _bound(listed: Sequence[Said], after: str) -> tuple[int, str]:
    if told := PLACE.fullmatch(after):
        return int(told[1]), told[2]
    for said in listed:
        if said.id == after:
            return said.place
    raise BadRequest(f"after={after!r:.100}: expected `next` of a page, or the id of an example that is there")


@router.get("/v1/examples/suspects", responses=problems(409, 413, 422, 503))
async def suspects(
    request: Request,
    service: Serving,
    n: Annotated[int, Query(ge=1, le=SUSPECTS, description="examples at most")] = 100,
) -> SuspectExamples:
    """List examples whose class is less likely than another, by plain heads that were fitted without the example.

    Of all of them one in 20 is named at most, of a class twice that share; a key without `admin` sees its own, judged
    among its own. Examples of other backbones are left out.
    """
    key = key_of(request)
    own = [
        one
        for one in await service.examples.current()
        if one.backbone == service.bundle.backbone_digest and (key is None or key.may("admin") or key.name == one.owner)
    ]
    found = await while_connected(request, service.suspects.of_examples(own))
    newest = await service.examples.newest()
    listed = [
        SuspectExample(**records.example_record(newest[one.id]).model_dump(by_alias=True), **_doubt(row))
        for one, row in found[:n]
        if one.id in newest
    ]
    return SuspectExamples(suspects=listed)


def _doubt(row: SuspectRow) -> dict[str, Any]:
    """What is told of a suspect besides the example itself."""
    return row.model_dump(include={"given_probability", "suggested", "suggested_probability"})


@router.get("/v1/examples/{example}", responses=problems(403, 404))
async def get(example: ExampleId, request: Request, service: Serving) -> ExampleDetail:
    """Tell an example's label, and all earlier ones."""
    history = await service.examples.history(example)
    _check_owner(request, history[-1])
    shown = [records.example_record(said) for said in history]
    return ExampleDetail(**shown[-1].model_dump(), history=shown)


@router.delete("/v1/examples/{example}", responses=problems(403, 404))
async def delete(example: ExampleId, request: Request, service: Serving) -> Erased:
    """Remove an example with all its labels and its feature, so that no later refit has its rows.

    An answer that it was made of stays; `DELETE /v1/answers/{id}` removes both.
    """
    found = await service.removal.of_example(example)
    check_owner(request, () if found.owner is None else (found.owner,), f"example {example}")
    return Erased(examples=found.examples, heads=await service.removal.carry_out(found))


def _check_owner(request: Request, said: Said) -> None:
    check_owner(request, () if said.owner is None else (said.owner,), f"example {said.id}")
