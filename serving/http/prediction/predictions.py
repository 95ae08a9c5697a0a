"""What `POST /v1/predict` may be asked, and its predictions: from a request's scores to the JSON of the answer.

It knows nothing of bodies, of how scores are computed, or of the Open Inference Protocol.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from breadcrumbs.models.head import ranked
from breadcrumbs.models.lineages import SureNode
from breadcrumbs.models.near_names import suggestion
from breadcrumbs.models.printable import Printable
from breadcrumbs.serving.http.prediction.evidence import NEIGHBOURS, NO_EVIDENCE, Evidence
from breadcrumbs.serving.predict.inference import Outcome
from breadcrumbs.serving.state.line_names import LineName
from breadcrumbs.serving.state.priors import NAME

LINES = 16
"""Lines that a request may name."""


class PredictOptions(BaseModel):
    """Query parameters of a predict request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: int = Field(default=5, ge=1, description="classes per image or feature, at most all of them")
    head: str = Field(default="active", description="`active`, or a version number")
    line: list[LineName] | None = Field(
        default=None,
        max_length=LINES,
        description="the line that answers; repeat for several, which share one pass of the backbone; absent: the "
        "first one that the key is bound to, or the default one",
    )
    prior: str | None = Field(
        default=None, pattern=f"^{NAME}$", description="a stored prior: log π is added to the logits"
    )
    classes: list[str] | None = Field(
        default=None,
        description="the classes that can be: repeat for each, or with commas between names that have none",
    )
    confidence: float | None = Field(
        default=None, gt=0, le=1, description="probability of the deepest node to name, with a taxonomy"
    )
    known: bool = Field(default=False, description="tell how well each image or feature is known")
    explain: int = Field(
        default=0, ge=0, le=NEIGHBOURS, description="nearest stored rows of each image or feature; 0: none"
    )
    ref: Printable = Field(
        default="", max_length=200, description="your own name for the images, remembered with their answers"
    )

    @model_validator(mode="after")
    def _check_lines(self) -> Self:
        if self.head != "active" and self.line is not None and len(self.line) > 1:
            raise ValueError(f"head={self.head!r:.40} and {len(self.line)} lines: expected one line with a version")
        return self

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Mapping[str, object]) -> Mapping[str, object]:
        """A misspelled parameter would be an answer to another question."""
        for name in given.keys() - cls.model_fields.keys():
            near = suggestion(name, cls.model_fields) or f"; there are: {', '.join(cls.model_fields)}"
            raise ValueError(f"there is no parameter {name!r:.80}{near}")
        return given


PLAIN = PredictOptions()
"""Of a request without parameters."""


def predicted(
    outcome: Outcome,
    options: PredictOptions,
    ids: Sequence[str | None],
    nodes: Sequence[SureNode | None] | None,
    told: Evidence = NO_EVIDENCE,
) -> list[dict[str, Any]]:
    """Return `Prediction` as JSON for each image of a request, in order.

    Args:
        outcome: the images' scores.
        options: of the request.
        ids: of the remembered answers, one an image, None for an answer that is not remembered; or empty.
        nodes: the deepest sure node of each image; None: there is no taxonomy.
        told: how well each image is known, and its nearest rows.
    """
    classes = outcome.head.head.classes
    found: list[dict[str, Any]] = [
        {"classes": ranked(scores.logits, classes, options.top_k)} for scores in outcome.scores
    ]
    for one, node in zip(found, nodes or (), strict=nodes is not None):
        one["node"] = node
    for one, share in zip(found, told.known or (), strict=told.known is not None):
        one["known"] = share
    for one, rows in zip(found, told.nearest or (), strict=told.nearest is not None):
        one["nearest"] = rows
    for one, name in zip(found, ids, strict=False):
        if name is not None:
            one["id"] = name
    return found
