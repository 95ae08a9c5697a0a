"""The bodies of requests and responses, as `/openapi.json` shows them; it knows nothing of how they come about.

What the store keeps is shown as it is kept: `HeadRecord`, `Activation`, `SnapshotRecord`, `Job`.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serving.activations import Activation
from serving.heads import HeadRecord
from serving.job import Job
from serving.snapshots import SnapshotRecord


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ImagesBody(_Strict):
    """JSON form of a predict request."""

    images: list[str] = Field(min_length=1)
    """Image files, each in base64."""


class FeaturesBody(ImagesBody):
    """JSON form of a features request."""

    labels: list[str | int] | None = None
    """Class names or indices, one an image: asks for a whole snapshot. A name that is not known becomes a class."""
    epoch: int | None = Field(default=None, ge=0, lt=10**9)
    """The snapshot's epoch; at least that of the newest snapshot if it is to count as the newest."""


class ActivateBody(_Strict):
    """Body of an activation or a rollback; may be absent."""

    reason: str = Field(default="", max_length=1000)
    """Why; it is kept in the log."""
    expected_live: int | None = None
    """Refuse with 409 if another version is live by now."""


class HeadName(BaseModel):
    """Which head answered."""

    version: int
    digest: str


class Ranked(BaseModel):
    """One class of a prediction."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(alias="class")
    index: int
    probability: float


class Prediction(BaseModel):
    """The top classes of one image, the most probable first."""

    classes: list[Ranked]


class Timing(BaseModel):
    """Milliseconds; of the slowest image where there are several."""

    queue_ms: float
    decode_ms: float
    compute_ms: float


class PredictResponse(BaseModel):
    """One prediction an image, all made by one head."""

    head: HeadName
    predictions: list[Prediction]
    timing: Timing
    batch_size: int = Field(description="the largest batch that one of the images was computed in")


class FeaturesResponse(BaseModel):
    """One feature an image."""

    backbone: str = Field(description="sha256 of the backbone: the name of this feature space")
    feature_dim: int
    features: list[list[float]]
    timing: Timing
    batch_size: int


class SnapshotList(BaseModel):
    """All snapshots, the newest epoch first."""

    snapshots: list[SnapshotRecord]


class JobList(BaseModel):
    """All refits, the newest first."""

    refits: list[Job]


class JobDetail(Job):
    """A refit with its report."""

    report: dict[str, Any] | None = None


class HeadList(BaseModel):
    """All heads, the newest first."""

    live: int = Field(description="the version that answers")
    heads: list[HeadRecord]


class Sample(BaseModel):
    """A sample image of the bundle."""

    model_config = ConfigDict(populate_by_name=True)

    name: str
    cls: str = Field(alias="class")


class SampleList(BaseModel):
    """All sample images."""

    samples: list[Sample]


class ActivationList(BaseModel):
    """What was live when, the newest first."""

    activations: list[Activation]


class Health(BaseModel):
    """Alive, or ready."""

    status: str
    head: int | None = None
    device: str | None = None
    proved_seconds_ago: float | None = None


class Problem(BaseModel):
    """What went wrong: what was expected and what came."""

    type: str
    message: str


class ProblemResponse(BaseModel):
    """The one shape of every error."""

    error: Problem
