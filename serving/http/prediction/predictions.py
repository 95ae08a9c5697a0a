"""What `POST /v1/predict` may be asked, and its predictions: from a request's scores to the JSON of the answer.

It knows nothing of bodies, of how scores are computed, or of the Open Inference Protocol.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from breadcrumbs.models.head import ranked
from breadcrumbs.models.printable import Printable
from breadcrumbs.serving.predict.inference import Outcome


class PredictOptions(BaseModel):
    """Query parameters of a predict request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: int = Field(default=5, ge=1, description="classes per image or feature, at most all of them")
    head: str = Field(default="active", description="`active`, or a version number")
    ref: Printable = Field(
        default="", max_length=200, description="your own name for the images, remembered with their answers"
    )


PLAIN = PredictOptions()
"""Of a request without parameters."""


def predicted(outcome: Outcome, options: PredictOptions, ids: Sequence[str | None]) -> list[dict[str, Any]]:
    """Return `Prediction` as JSON for each image of a request, in order.

    Args:
        outcome: the scores.
        options: what was asked.
        ids: of the remembered answers, one an image, None for an answer that is not remembered; or empty.
    """
    classes = outcome.head.head.classes
    found: list[dict[str, Any]] = [
        {"classes": ranked(scores.logits, classes, options.top_k)} for scores in outcome.scores
    ]
    for one, name in zip(found, ids, strict=False):
        if name is not None:
            one["id"] = name
    return found
