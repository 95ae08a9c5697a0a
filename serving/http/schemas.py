"""The bodies of requests and responses, as `/openapi.json` shows them; it knows nothing of how they come about.

What the store keeps is shown as it is kept: `HeadRecord`, `Activation`, `SnapshotRecord`, `Job`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from breadcrumbs.models.printable import Printable
from breadcrumbs.serving.refits.job import Job
from breadcrumbs.serving.refits.suspects import SuspectRow
from breadcrumbs.serving.state.activation_log import Activation
from breadcrumbs.serving.state.heads import HeadRecord
from breadcrumbs.serving.state.priors import PriorRecord
from breadcrumbs.serving.state.snapshot_record import SnapshotRecord
from breadcrumbs.serving.state.stop_rules import StopIf
from breadcrumbs.serving.trials.state import TrialSummary


class Strict(BaseModel):
    """A body of a request: nothing in it is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Vector = Annotated[list[float], Field(fail_fast=True)]
"""Numbers; the first that is none is told, and no more are looked at."""


class PredictBody(Strict):
    """JSON form of a predict request: images or features."""

    images: list[str] | None = Field(default=None, min_length=1)
    """Image files, each in base64."""
    features: Annotated[list[Vector], Field(fail_fast=True)] | Vector | None = None
    """Features of the backbone: a vector of D numbers an image, or one such vector."""

    @model_validator(mode="before")
    @classmethod
    def _no_snapshot(cls, body: object) -> object:
        if isinstance(body, dict) and body.keys() & {"labels", "epoch", "ids", "dataset"}:
            raise ValueError("labels, epoch, ids and dataset make a snapshot: POST them to /v1/features")
        return body


class FeaturesBody(Strict):
    """JSON form of a features request."""

    images: list[str] = Field(min_length=1)
    """Image files, each in base64."""
    labels: list[str | int | None] | None = None
    """Class names or indices, one per image, to get a complete snapshot; unknown names become new classes, and an image
    whose label is null has none."""
    epoch: int | None = Field(default=None, ge=0, lt=10**9)
    """The snapshot's epoch; to count as the newest, at least that of the newest snapshot."""
    ids: list[Annotated[int, Field(ge=-(2**63), lt=2**63)]] | None = None
    """Numbers of the images in their data set, one per image and each once, to be kept in the snapshot."""
    dataset: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """sha256 of that data set: ids match only within one."""


class ActivateBody(Strict):
    """Optional body of an activation or a rollback."""

    reason: Printable = Field(default="", max_length=1000)
    """Reason, recorded in the activation log; one line of printable text."""
    expected_live: int | None = None
    """Refuse with 409 unless this version is live."""


class GoLiveBody(ActivateBody):
    """Optional body of an activation."""

    bake: str | None = Field(default=None, max_length=40)
    """Watch the head for so long, as `90s`, `30m`, `2h` or `7d`, or until a time as `2026-01-31T12:00:00Z`: the head
    before it goes on as its comparison, and comes back if a rule of `stop_if` says so."""
    stop_if: StopIf | None = None
    """What brings the head before it back; absent: `{"worse": 0.05}`. Only with `bake`."""

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        if self.stop_if is not None and self.bake is None:
            raise ValueError("stop_if goes with bake, which says for how long the head is watched")
        return self


class HeadName(BaseModel):
    """Which head answered."""

    version: int = Field(description="its number")
    digest: str = Field(description="sha256 over its classes, weight and bias")


class Ranked(BaseModel):
    """One class of a prediction."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(alias="class")
    index: int = Field(description="of the class; 0 is the first")
    probability: float = Field(description="softmax over all classes that can be")


class SureNode(BaseModel):
    """The deepest node of the best class's lineage that is sure enough: the class itself, or a group of classes."""

    name: str = Field(description="its name in the taxonomy")
    rank: str = Field(description="its rank: `class`, or a column of `taxonomy.csv`, or its depth")
    probability: float = Field(description="sum over its classes")


class NearRow(BaseModel):
    """A stored row that the head was fitted to, near to the feature of an answer."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(alias="class", description="the class that its label says")
    distance: float = Field(description="1 − cos of the two features: 0 is the same direction, 2 the opposite one")
    source: Literal["bundle", "snapshot", "example"] = Field(description="where it is stored")
    snapshot: str | None = Field(default=None, description="sha256 of the stored snapshot")
    row: int | None = Field(default=None, description="its number in that snapshot; 0 is the first")
    image: int | None = Field(default=None, description="number of the image in its data set, where that is known")
    example: str | None = Field(default=None, description="id of the example")
    ref: str | None = Field(default=None, description="the sender's own name for the example")
    by: str | None = Field(default=None, description="who labelled the example")
    verified: bool | None = Field(default=None, description="whether somebody vouches for the example's label")


class Searched(BaseModel):
    """How many rows the nearest ones were looked for among."""

    searched: int = Field(description="rows that were searched")
    of: int = Field(
        description="rows of the head that this key may see; of more than are searched, a sample of each class"
    )


class Prediction(BaseModel):
    """The top classes of one image or feature, the most probable first."""

    classes: list[Ranked]
    node: SureNode | None = Field(
        default=None, description="present with a taxonomy; null: not even the root reaches the confidence"
    )
    known: float | None = Field(
        default=None,
        description="present with `known`: share of stored rows of its group that are no nearer to another one, 0 … 1",
    )
    nearest: list[NearRow] | None = Field(
        default=None, description="present with `explain`: the stored rows that are nearest, the nearest first"
    )
    id: str | None = Field(default=None, description="of the remembered answer; absent: it is not remembered")


class Timing(BaseModel):
    """Milliseconds; those of the slowest image if there are several."""

    queue_ms: float = Field(description="waiting for a batch")
    decode_ms: float = Field(description="file to pixels")
    compute_ms: float = Field(description="backbone and head")


class LineAnswer(BaseModel):
    """One prediction per image or feature, all made by the head of a line."""

    head: HeadName
    predictions: list[Prediction]
    rows: Searched | None = Field(default=None, description="present with `explain`")


class PredictResponse(BaseModel):
    """One prediction per image or feature, all made by one head."""

    head: HeadName
    predictions: list[Prediction]
    timing: Timing
    batch_size: int = Field(description="the largest batch that one of the images was computed in")
    rows: Searched | None = Field(default=None, description="present with `explain`")
    lines: dict[str, LineAnswer] | None = Field(
        default=None, description="by line, if the request names several; the first one's answer is also above"
    )

    def columns(self) -> dict[str, list[Any]]:
        """Return the answer as a table by columns, a row for each class of each image; pandas takes it.

        `image` is the place of the image in the request, `rank` that of the class among its answers; 0 is the first.
        """
        rows = [
            (image, answer.id, rank, one.name, one.probability)
            for image, answer in enumerate(self.predictions)
            for rank, one in enumerate(answer.classes)
        ]
        names = ("image", "id", "rank", "class", "probability")
        return {name: [row[place] for row in rows] for place, name in enumerate(names)}


class FeaturesResponse(BaseModel):
    """One feature per image."""

    backbone: str = Field(description="sha256 of the backbone: the name of this feature space")
    feature_dim: int = Field(description="D")
    features: list[list[float]] = Field(description="(N, D)")
    timing: Timing
    batch_size: int


NEXT = "`after` of the next page; null: this is the last"


class SnapshotList(BaseModel):
    """A page of snapshots, those stored last first."""

    snapshots: list[SnapshotRecord]
    next: str | None = Field(default=None, description=NEXT)


class SuspectList(BaseModel):
    """Rows whose given class is less likely than another, the likeliest wrong one first."""

    suspects: list[SuspectRow]


class JobList(BaseModel):
    """A page of refits, the newest first."""

    refits: list[Job]
    next: str | None = Field(default=None, description=NEXT)


class JobDetail(Job):
    """A refit with its report."""

    report: dict[str, Any] | None = Field(
        default=None, description="as specified in docs/formats.md; null until there is one"
    )


class LineBody(Strict):
    """Optional body of the creation of a line."""

    head: int | None = Field(default=None, ge=1, lt=10**9)
    """Version of the head that is live in it; absent: the one that is live in the default line."""
    reason: Printable = Field(default="", max_length=1000)
    """Reason, recorded in its activation log; one line of printable text."""


class LineRecord(BaseModel):
    """A line, and what is live in it."""

    name: str = Field(description="what requests call it")
    head: HeadName = Field(description="its live head")
    classes: int = Field(description="classes that this head knows")
    activation: Activation = Field(description="what made it live")


class LineList(BaseModel):
    """A page of lines, the default one first, then by name."""

    lines: list[LineRecord]
    next: str | None = Field(default=None, description=NEXT)


class HeadList(BaseModel):
    """A page of heads, the newest first."""

    live: int = Field(description="the version that is live in the line")
    heads: list[HeadRecord]
    next: int | None = Field(default=None, description=NEXT)


class TrialList(BaseModel):
    """A page of trials, the newest first."""

    trials: list[TrialSummary]
    next: int | None = Field(default=None, description=NEXT)


class PriorDetail(PriorRecord):
    """A stored prior, compared with the live head."""

    unknown: list[str] = Field(description="names that the live head does not have; they weigh nothing")


class PriorSummary(BaseModel):
    """A stored prior in a list."""

    name: str = Field(description="what requests call it")
    kind: Literal["weights", "classes"] = Field(description="what it was stored as")
    count: int = Field(description="classes that it names")
    actor: str = Field(description="who stored it")
    at: str = Field(description="when, ISO 8601")


class PriorList(BaseModel):
    """A page of priors, by name."""

    priors: list[PriorSummary]
    next: str | None = Field(default=None, description=NEXT)


class Sample(BaseModel):
    """A sample image of the bundle."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(description="name of the sample")
    cls: str = Field(alias="class", description="its class")


class SampleList(BaseModel):
    """All sample images."""

    samples: list[Sample]


class ActivationList(BaseModel):
    """A page of what was live when, the newest first."""

    activations: list[Activation]
    next: int | None = Field(default=None, description=NEXT)
    before: int | None = Field(default=None, description="version that a rollback would lead to; null: there is none")


class PairCount(BaseModel):
    """How far the collection of pairs for a migration is."""

    have: int = Field(description="pairs in the store, of all servers, as far as this one knows")
    wanted: int = Field(description="when there are so many, no more are collected (`migrate_pairs`)")
    dropped: int = Field(description="images that this server did not use, since others waited")
    collecting: bool = Field(description="false: there are enough, or the store could not be written")


class Health(BaseModel):
    """Alive, or ready."""

    status: str = Field(description="`alive` or `ready`")
    head: int | None = Field(default=None, description="version of the live head")
    lines: int | None = Field(default=None, description="how many lines there are, the default one among them")
    model: str | None = Field(default=None, description="name of the bundle's model")
    classes: int | None = Field(default=None, description="classes that the live head knows")
    device: str | None = Field(default=None, description="where the models run")
    precision: Literal["full", "half", "int8"] | None = Field(
        default=None, description="of the backbone; absent without one"
    )
    takes: list[Literal["images", "features"]] | None = Field(
        default=None, description="what is predicted from; a bundle without a backbone takes features only"
    )
    backbone: str | None = Field(default=None, description="sha256 that names the feature space")
    feature_dim: int | None = Field(default=None, description="D, the numbers of a feature")
    proved_seconds_ago: float | None = Field(default=None, description="since an inference last answered")
    refits: str | None = Field(
        default=None, description="where refits run: `here`, `elsewhere`, `off`, or the server that this one waits for"
    )
    pairs: PairCount | None = Field(default=None, description="null where none are collected (`migrate_to`)")


class Problem(BaseModel):
    """What went wrong: what was expected and what came."""

    type: str = Field(description="one of the types in the table of errors")
    message: str = Field(description="a sentence for people")


class ProblemResponse(BaseModel):
    """The one shape of every error."""

    error: Problem
