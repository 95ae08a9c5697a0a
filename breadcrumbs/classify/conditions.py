"""What is asked of predictions besides the images: a prior, the classes that can be there, a confidence, and evidence.

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
        known: whether to tell how well each image is known.
        explain: nearest stored rows of each image; 0: none.
    """

    prior: str | None = None
    classes: tuple[str, ...] = ()
    confidence: float | None = None
    known: bool = False
    explain: int = 0

    def check(self) -> None:
        """Refuse a confidence that is no probability.

        Raises:
            BreadcrumbsError: naming it.
        """
        if self.confidence is not None and not 0 < self.confidence <= 1:
            raise BreadcrumbsError(f"--confidence {self.confidence:g}: expected a number over 0, 1 at most")


NOTHING = Conditions()


class OfBundle:
    """The conditions of predictions that a bundle makes, without a server.

    Args:
        bundle: whose head and taxonomy count.
        asked: what is asked for.

    Raises:
        BreadcrumbsError: a prior is named or stored rows are, or a confidence and there is no taxonomy, or it is asked
            how well images are known and the head has no points.
        KnownError: the points are damaged.
        UnknownClass: the head does not have a class.
    """

    def __init__(self, bundle: Bundle, asked: Conditions) -> None:
        if asked.prior is not None:
            raise BreadcrumbsError(
                f"--prior {asked.prior}: priors are in a server's store; leave out --bundle, or name the classes with "
                "--classes"
            )
        if asked.confidence is not None and bundle.taxonomy is None:
            raise BreadcrumbsError(
                f"--confidence: {bundle.folder} has no taxonomy, so there are no nodes; leave it out"
            )
        if asked.explain:
            raise BreadcrumbsError(
                f"--explain {asked.explain}: the rows of a head are told by a server; leave out --bundle"
            )
        points = bundle.known() if asked.known else None
        if asked.known and points is None:
            raise BreadcrumbsError(
                f"--known: the head of {bundle.folder} carries no points to tell what is known by, as of older "
                "versions or of too few rows; leave it out, or refit"
            )
        self._points = points
        self._bundle = bundle
        self._confidence = CONFIDENCE if asked.confidence is None else asked.confidence
        self._log_prior = only(asked.classes, bundle.head()) if asked.classes else None

    @cached_property
    def _lineages(self) -> Lineages | None:
        taxonomy = self._bundle.taxonomy
        return None if taxonomy is None else Lineages(taxonomy, self._bundle.manifest.classes)

    def applied(self, logits: Floats) -> Floats:
        """Return logits (C,) with the prior."""
        return logits if self._log_prior is None else np.asarray(logits + self._log_prior, np.float32)

    def known(self, feature: Floats) -> float | None:
        """Return how well a feature (D,) is known, 0 … 1; None: it is not asked for."""
        return None if self._points is None else self._points.of(feature[None])[0]

    def node(self, logits: Floats) -> SureNode | None:
        """Return the deepest sure node of logits (C,) with the prior; None: there is none, or no taxonomy."""
        if self._lineages is None:
            return None
        return self._lineages.deepest(softmax(logits), int(logits.argmax()), self._confidence)
