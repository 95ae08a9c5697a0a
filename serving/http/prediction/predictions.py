"""What `POST /v1/predict` may be asked, and its predictions: from a request's scores to the JSON of the answer.

It knows nothing of bodies, of how scores are computed, or of the Open Inference Protocol.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from breadcrumbs.models.head import ranked
from breadcrumbs.serving.predict.inference import Outcome


class PredictOptions(BaseModel):
    """Query parameters of a predict request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: int = Field(default=5, ge=1, description="classes per image or feature, at most all of them")
    head: str = Field(default="active", description="`active`, or a version number")


PLAIN = PredictOptions()
"""Of a request without parameters."""


def predicted(outcome: Outcome, options: PredictOptions) -> list[dict[str, Any]]:
    """Return `Prediction` as JSON for each image of a request, in order."""
    classes = outcome.head.head.classes
    return [{"classes": ranked(scores.logits, classes, options.top_k)} for scores in outcome.scores]
