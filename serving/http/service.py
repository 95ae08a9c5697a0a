"""What the routes work with: the parts of the server, created in `serving.app`; every route gets them by `Serving`."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, cast

from fastapi import Depends, Query, Request

from breadcrumbs.models import machine
from breadcrumbs.models.bundle import Bundle, Precision
from breadcrumbs.models.groups import Group, groups
from breadcrumbs.models.lineages import HeadLineages
from breadcrumbs.serving.http.access_control import check_line, key_of, lines_of
from breadcrumbs.serving.http.label_studio.images import LabelStudio
from breadcrumbs.serving.http.metrics import Metrics
from breadcrumbs.serving.http.notes import note
from breadcrumbs.serving.http.open_inference.statistics import Statistics
from breadcrumbs.serving.http.schemas import ProblemResponse
from breadcrumbs.serving.http.shares import Turnstile
from breadcrumbs.serving.learning.answers import Answers
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.learning.intake import Intake
from breadcrumbs.serving.learning.removal import Removal
from breadcrumbs.serving.predict.batcher import Batcher
from breadcrumbs.serving.predict.engine import BoundHead, Engine, Scores
from breadcrumbs.serving.predict.inference import Inference, Item
from breadcrumbs.serving.predict.pairing import Pairing
from breadcrumbs.serving.processes.child import Limits
from breadcrumbs.serving.refits.fitted_rows import FittedRows
from breadcrumbs.serving.refits.jobs import Jobs
from breadcrumbs.serving.refits.suspects import Suspects
from breadcrumbs.serving.refusals import BadRequest, Forbidden
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state.conversion import Converter
from breadcrumbs.serving.state.heads import HeadRecord
from breadcrumbs.serving.state.known_heads import KnownHeads
from breadcrumbs.serving.state.line_names import DEFAULT
from breadcrumbs.serving.state.lines import Lines
from breadcrumbs.serving.state.live_head import Live
from breadcrumbs.serving.state.owners import Claims
from breadcrumbs.serving.state.pages import MOST
from breadcrumbs.serving.state.priors import Priors
from breadcrumbs.serving.state.renames import Renames
from breadcrumbs.serving.state.store import NotFound, Store
from breadcrumbs.serving.trials.trials import Trials

EXPLAINING = 4
"""Requests that look for nearest rows at a time."""


@dataclass(frozen=True)
class Service:
    """The collaborators of one app."""

    settings: Settings
    bundle: Bundle
    precision: Precision
    store: Store
    engine: Engine
    batcher: Batcher[Item, Scores]
    inference: Inference
    lines: Lines
    jobs: Jobs
    metrics: Metrics
    converter: Converter
    intake: Intake
    uploads: Turnstile
    answers: Answers
    examples: Examples
    trials: Trials
    pairing: Pairing | None = None
    label_studio: LabelStudio | None = None
    statistics: Statistics = field(default_factory=Statistics)

    @property
    def live(self) -> Live:
        """The default line."""
        return self.lines.default

    @cached_property
    def claims(self) -> Claims:
        """Of what is uploaded."""
        return Claims(self.store)

    @cached_property
    def priors(self) -> Priors:
        """The named priors of the store."""
        return Priors(self.store, self.settings.follow)

    @cached_property
    def known(self) -> KnownHeads:
        """How well features are known, by the points of each head."""
        return KnownHeads(self.store)

    @cached_property
    def fitted_rows(self) -> FittedRows:
        """The rows that each head was fitted to."""
        return FittedRows(self.store, self.bundle, self.examples, self.renames)

    @cached_property
    def explaining(self) -> Turnstile:
        """Counts the requests that look for nearest rows."""
        return Turnstile(EXPLAINING, "explanations")

    @cached_property
    def suspects(self) -> Suspects:
        """Rows whose labels are likely wrong."""
        settings = self.settings
        memory = settings.refit_memory or machine.memory() * 3 // 4
        return Suspects(self.store, Limits(settings.refit_timeout, memory, settings.refit_cpu))

    @cached_property
    def renames(self) -> Renames:
        """What refits made of the names of classes."""
        return Renames(self.store)

    @cached_property
    def lineages(self) -> HeadLineages | None:
        """The bundle's taxonomy, by head; None: it has none."""
        taxonomy = self.bundle.taxonomy
        return None if taxonomy is None else HeadLineages(taxonomy)

    @cached_property
    def removal(self) -> Removal:
        """Of a person's data."""
        return Removal(self.store, self.answers, self.examples)

    @cached_property
    def groups(self) -> dict[str, Group]:
        """Group of each of the bundle's classes, by its training images."""
        return groups_of(self.bundle)


def groups_of(bundle: Bundle) -> dict[str, Group]:
    """Return the group of each of a bundle's classes, by its training images."""
    manifest = bundle.manifest
    return dict(zip(manifest.classes, groups(manifest.train_counts, manifest.groups), strict=True))


async def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


Serving = Annotated[Service, Depends(_service)]


async def line_of(request: Request, service: Service, name: str | None = None) -> Live:
    """Return the line that a request is about: the one that it names, or its key's first one, or the default one.

    A named one is noted for the request's log line.

    Raises:
        BadRequest: no line can be called so.
        NotFound: there is no such line.
        Forbidden: the request's key is bound to other lines.
        StoreError: the store cannot be read.
    """
    if name is None:
        name = (lines_of(request) or (DEFAULT,))[0]
    check_line(request, name)
    found = await service.lines.find(name)
    if name != DEFAULT:
        note(request.scope, line=name)
    return found


async def answering(request: Request, service: Service, line: Live, head: str, ref: str = "") -> BoundHead | None:
    """Return the head that answers a request: the one that it names, or that of a canary, or the live one of a line.

    None means the default line's at the time when its batch begins. Raises as `choose` does.
    """
    if head != "active" or line is not service.live:
        return await choose(request, line, head) or line.head
    key = key_of(request)
    return service.trials.answering(None if key is None else key.name, ref)


async def choose(request: Request, line: Live, head: str) -> BoundHead | None:
    """Return the head that a request names. None means `active`: the live head of the line.

    Raises:
        BadRequest: it is neither `active` nor a number.
        NotFound: there is no such head, or it was never live in this line, where the line or the key asks for that.
        StoreError: it cannot serve.
    """
    if head == "active":
        return None
    if not (head.isascii() and head.isdecimal() and len(head) < 10):
        raise BadRequest(f"head={head!r:.40}: expected active or a version number")
    bound = line.line != DEFAULT or lines_of(request) is not None
    if bound and not await line.had(int(head)):
        raise NotFound(f"head {int(head)} was never live in the line {line.line!r}; GET /v1/activations tells what was")
    return await line.named(int(head))


async def check_head(request: Request, service: Service, record: HeadRecord) -> None:
    """Refuse a head that has nothing to do with the lines of the request's key.

    Raises:
        Forbidden: it was neither made for one of them nor ever live in one.
    """
    if not await may_see_head(request, service, record):
        raise Forbidden(f"head {record.version} is of a line that this key is not bound to")


async def may_see_head(request: Request, service: Service, record: HeadRecord) -> bool:
    """Whether a request's key may see a head: one that was made for a line of its, or was ever live there."""
    bound = lines_of(request)
    if bound is None or (record.lineage.line or DEFAULT) in bound:
        return True
    return any([await live.had(record.version) for live in service.lines.all if live.line in bound])


LineOf = Annotated[
    str | None, Query(description="the line; absent: the first one that the key is bound to, or the default one")
]
Limit = Annotated[int, Query(ge=1, le=MOST, description="entries at most; a page of large ones may have fewer")]
AfterNumber = Annotated[
    int | None, Query(ge=1, lt=10**9, description="only entries older than this number: `next` of the page before")
]
AfterName = Annotated[
    str | None,
    Query(
        min_length=1, max_length=200, description="only entries after this one: `next` of the page before, or a name"
    ),
]

BYTES = {"type": "string", "format": "binary"}


def body(*types: str, json: dict[str, Any] | None = None, form: dict[str, Any] | None = None) -> dict[str, Any]:
    """Describe a body that the route reads itself, for `/openapi.json`.

    Args:
        types: whose content is bytes.
        json: schema of a JSON body.
        form: schemas of the fields of a multipart body.
    """
    content: dict[str, Any] = {kind: {"schema": BYTES} for kind in types}
    if form is not None:
        content["multipart/form-data"] = {"schema": {"type": "object", "properties": form}}
    if json is not None:
        content["application/json"] = {"schema": json}
    return {"requestBody": {"required": True, "content": content}}


def content(kind: str) -> dict[int | str, dict[str, Any]]:
    """Describe an answer that is not JSON, for `/openapi.json`."""
    return {200: {"content": {kind: {"schema": BYTES if kind in BINARIES else {"type": "string"}}}}}


BINARIES = ("application/octet-stream", "image/png")


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route, for `/openapi.json`."""
    return {code: {"model": ProblemResponse} for code in codes}
