"""The conditions of a request: the head that must answer, and the prior, classes and confidence that it asks for.

They change logits after the head has computed them, so a request without any costs nothing. It knows nothing of how
requests are written: `/v1` and `/v2` give the same words.

Letters: C classes.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.head import LinearHead, softmax
from breadcrumbs.models.lineages import HeadLineages, SureNode
from breadcrumbs.models.near_names import suggestion
from breadcrumbs.models.prior import PriorError, both, check_known, only, split
from breadcrumbs.serving.http.service import Service
from breadcrumbs.serving.predict.engine import BoundHead, Scores
from breadcrumbs.serving.predict.inference import Outcome
from breadcrumbs.serving.refusals import BadRequest
from breadcrumbs.serving.state.renames import Renames
from breadcrumbs.serving.state.store import Conflict, NotFound


@dataclass(frozen=True, eq=False)
class Resolved:
    """What counts for one request.

    Attributes:
        head: that must answer; None: the one that is live when its batch begins.
        log_prior: log π (C,) for that head; None: as the head is.
        lineages: the taxonomy, by head; None: the bundle has none.
        renames: of the classes of heads.
        confidence: the least probability of the node that is named.
    """

    head: BoundHead | None
    log_prior: Floats | None = None
    lineages: HeadLineages | None = None
    confidence: float = 1.0
    renames: Renames | None = None

    def applied(self, outcome: Outcome) -> Outcome:
        """Return the outcome with log π added to its logits."""
        if self.log_prior is None:
            return outcome
        return replace(outcome, scores=[_with_prior(scores, self.log_prior) for scores in outcome.scores])

    def possible(self, classes: int) -> int:
        """Return how many of a head's C classes can be."""
        return classes if self.log_prior is None else int(np.isfinite(self.log_prior).sum())

    async def nodes(self, outcome: Outcome) -> list[SureNode | None] | None:
        """Return the deepest sure node of each image of an outcome that the prior was applied to.

        A node is None where not even the root is sure; the list is None where there is no taxonomy.
        """
        if self.lineages is None or self.renames is None:
            return None
        head = outcome.head.head
        lineages = self.lineages.known(head)
        if lineages is None:
            became = await self.renames.of(outcome.head.version)
            lineages = await asyncio.to_thread(self.lineages.of, head, became)
        return [
            lineages.deepest(softmax(scores.logits), int(scores.logits.argmax()), self.confidence)
            for scores in outcome.scores
        ]


def _with_prior(scores: Scores, log_prior: Floats) -> Scores:
    return replace(scores, logits=np.asarray(scores.logits + log_prior, np.float32))


async def resolve(
    service: Service,
    head: BoundHead | None,
    prior: str | None = None,
    classes: Sequence[str] | None = None,
    confidence: float | None = None,
) -> Resolved:
    """Return the conditions of a request.

    Args:
        service: whose priors, taxonomy and live head count.
        head: that the request names; None: the live one.
        prior: name of a stored prior.
        classes: names of the classes that can be; several may be in one, with commas between them.
        confidence: of the node to name; None: the server's.

    Raises:
        NotFound: there is no prior of that name.
        Conflict: the prior leaves no class of the head.
        UnknownClass: the head has no such class.
        PriorError: no class is named, or the prior and the classes have none in common.
        BadRequest: a confidence is asked for, and the bundle has no taxonomy.
    """
    lineages = service.lineages
    if confidence is not None and lineages is None:
        raise BadRequest(
            f"confidence={confidence:g} asks for a node of the taxonomy, and the bundle "
            f"{service.bundle.manifest.name} has none; leave it out, or make a bundle with --taxonomy"
        )
    least = service.settings.confidence if confidence is None else confidence
    if prior is None and classes is None:
        return Resolved(head, None, lineages, least, service.renames)
    head = head or service.live.head
    named = None if prior is None else await _stored(service, prior, head)
    listed = None if classes is None else await _listed(classes, head.head)
    return Resolved(head, both(named, listed), lineages, least, service.renames)


async def _stored(service: Service, name: str, head: BoundHead) -> Floats:
    try:
        prior = await service.priors.named(name)
    except NotFound as error:
        near = suggestion(name, await service.priors.names()) or "; PUT /v1/priors/NAME stores one"
        raise NotFound(f"{error}{near}") from error
    try:
        return prior.log(head.head, await service.renames.of(head.version))
    except PriorError as error:
        raise Conflict(f"prior {name}, head {head.version}: {error}") from error


async def _listed(values: Sequence[str], head: LinearHead) -> Floats:
    names = split(values, head)
    if not all(name in head.places for name in names):
        await asyncio.to_thread(check_known, names, head)  # what is near is looked for in a thread, among many names
    return only(names, head)
