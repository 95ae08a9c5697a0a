"""What is asked of predictions besides the images: a prior, the classes that can be there, a confidence, evidence.

It knows nothing of who computes them.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.head import softmax
from breadcrumbs.models.lineages import CONFIDENCE, Lineages, SureNode
from breadcrumbs.models.prior import only


@dataclass(frozen=True)
class Conditions:
    """What is asked for.

    Attributes:
        prior: name of a prior in a server's store; or none.
        classes: names of the classes that can be there; none: all.
        confidence: probability of the deepest node to name; None: the server's, or `CONFIDENCE`.
        known: whether to tell how near the image is to what the head was fitted to.
        explain: nearest stored rows to name; 0: none.
        line: of a server, that answers; None: the key's first one, or the default one.
    """

    prior: str | None = None
    classes: tuple[str, ...] = ()
    confidence: float | None = None
    known: bool = False
    explain: int = 0
    line: str | None = None

    def check(self) -> None:
        """Refuse a confidence that is no probability, and a number of rows that cannot be.

        Raises:
            BreadcrumbsError: naming it.
        """
        if self.explain < 0:
            raise BreadcrumbsError(f"--explain {self.explain}: expected a number of stored rows, 0 or more")
        if self.confidence is not None and not 0 < self.confidence <= 1:
            raise BreadcrumbsError(f"--confidence {self.confidence:g}: expected a number over 0, 1 at most")


NOTHING = Conditions()


class OfBundle:
    """The conditions of predictions that a bundle makes, without a server.

    Args:
        bundle: whose head and taxonomy count.
        asked: what is asked for.

    Raises:
        BreadcrumbsError: a prior, a line or stored rows are asked for, a confidence and there is no taxonomy, or how
            well a feature is known and the bundle cannot tell.
        UnknownClass: the head does not have a class.
    """

    def __init__(self, bundle: Bundle, asked: Conditions) -> None:
        if asked.prior is not None:
            raise BreadcrumbsError(
                f"--prior {asked.prior}: priors are in a server's store; leave out --bundle, or name the classes with "
                "--classes"
            )
        if asked.line is not None:
            raise BreadcrumbsError(f"--line {asked.line}: lines are a server's; leave out --bundle or --line")
        if asked.confidence is not None and bundle.taxonomy is None:
            raise BreadcrumbsError(
                f"--confidence: {bundle.folder} has no taxonomy, so there are no nodes; leave it out"
            )
        if asked.explain:
            raise BreadcrumbsError(
                f"--explain {asked.explain}: a server names the stored rows; leave out --bundle, or leave it out"
            )
        self._known = bundle.known() if asked.known else None
        if asked.known and self._known is None:
            raise BreadcrumbsError(
                f"--known: {bundle.folder} carries no points to tell what is known by; leave it out, or refit"
            )
        self._bundle = bundle
        self._confidence = CONFIDENCE if asked.confidence is None else asked.confidence
        self._log_prior = only(asked.classes, bundle.head()) if asked.classes else None

    @cached_property
    def _lineages(self) -> Lineages | None:
        taxonomy = self._bundle.taxonomy
        return None if taxonomy is None else Lineages(taxonomy, self._bundle.manifest.classes)

    def known(self, feature: Floats) -> float | None:
        """Return how well a feature (D,) is known, 0 … 1; None: that was not asked."""
        return None if self._known is None else self._known.of(feature[None])[0]

    def applied(self, logits: Floats) -> Floats:
        """Return logits (C,) with the prior."""
        return logits if self._log_prior is None else np.asarray(logits + self._log_prior, np.float32)

    def node(self, logits: Floats) -> SureNode | None:
        """Return the deepest sure node of logits (C,) with the prior; None: there is none, or no taxonomy."""
        if self._lineages is None:
            return None
        return self._lineages.deepest(softmax(logits), int(logits.argmax()), self._confidence)
