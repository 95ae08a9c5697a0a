"""What `POST /v1/predict` may be asked, and its predictions: from a request's scores to the JSON of the answer.

It knows nothing of bodies, of how scores are computed, or of the Open Inference Protocol.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from breadcrumbs.models.head import ranked
from breadcrumbs.serving.http.prediction.conditions import Conditions
from breadcrumbs.serving.predict.inference import Outcome
from breadcrumbs.serving.state.priors import NAME


class PredictOptions(BaseModel):
    """Query parameters of a predict request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: int = Field(default=5, ge=1, description="classes per image or feature, at most all of them")
    head: str = Field(default="active", description="`active`, or a version number")
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


PLAIN = PredictOptions()
"""Of a request without parameters."""


def predicted(outcome: Outcome, options: PredictOptions, conditions: Conditions) -> list[dict[str, Any]]:
    """Return `Prediction` as JSON for each image of a request, in order."""
    classes = outcome.head.head.classes
    found = [{"classes": ranked(scores.logits, classes, options.top_k)} for scores in outcome.scores]
    if conditions.lineages is None:
        return found
    return [one | {"node": conditions.node(scores)} for one, scores in zip(found, outcome.scores, strict=True)]
