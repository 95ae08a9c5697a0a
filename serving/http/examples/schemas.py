"""The bodies of requests and responses about answers, labels and examples; the others are in `schemas`.

It knows nothing of how they come about.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from breadcrumbs.models.groups import Group
from breadcrumbs.models.printable import Printable
from breadcrumbs.serving.http.schemas import NEXT, HeadName, Ranked, Strict, Vector
from breadcrumbs.serving.learning.examples import Change
from breadcrumbs.training.data import class_names


def _no_space(name: str) -> str:
    if why := class_names.spaced(name):
        raise ValueError(why)
    return name


class LabelBody(Strict):
    """One label: what it is about, and the class of that."""

    answer: str | None = Field(default=None, max_length=100)
    """Id of a remembered answer; or"""
    image: str | None = None
    """An image file, in base64; or"""
    feature: Vector | None = None
    """A feature of the backbone, D numbers."""
    cls: Annotated[Printable, Field(min_length=1, max_length=1000), AfterValidator(_no_space)] | int = Field(
        alias="class"
    )
    """Class name, or index of a class of the live head; an unknown name becomes a new class with the next refit."""
    by: Printable = Field(default="", max_length=200)
    """Who says so; the name of the key unless it is given."""
    verified: bool = False
    """Whether you vouch for it: refits use verified labels unless they are told otherwise. Takes the scope `refit`."""
    ref: Printable = Field(default="", max_length=200)
    """Your own name for it; that of the answer unless it is given."""


class LabelsBody(Strict):
    """Labels, 10,000 at most; all of them are kept or none."""

    labels: list[LabelBody] = Field(min_length=1)
    """Where one thing occurs twice, the last label counts."""


def labels_schema() -> dict[str, Any]:
    """Return the schema of `LabelsBody` in one piece, for `/openapi.json`."""
    whole = LabelsBody.model_json_schema()
    whole["properties"]["labels"]["items"] = whole.pop("$defs")[LabelBody.__name__]
    return whole


class Labelled(BaseModel):
    """What a label did."""

    example: str = Field(description="id of the example that has the label now")
    change: Change = Field(
        description="`new`: a new example; `changed`: another label of an example; `same`: it had this label"
    )


class LabelsResponse(BaseModel):
    """What the labels did, one entry a label, in order."""

    labels: list[Labelled]
    new_classes: list[str] = Field(description="names among them that the live head does not know")


class ExampleRecord(BaseModel):
    """An example: the newest label of one thing."""

    model_config = ConfigDict(populate_by_name=True)

    id: str
    cls: str = Field(alias="class")
    by: str = Field(description="who said so")
    verified: bool
    at: str = Field(description="when the label came, ISO 8601")
    source: str = Field(description="`answer:<id>`, `image:<sha256>` or `feature:<sha256>`: how it came")
    content: str = Field(description="sha256 of the image file, or of the feature")
    ref: str = Field(description="the sender's own name for it")
    backbone: str = Field(description="sha256 of what made its feature")
    owner: str | None = Field(default=None, description="name of the key that it belongs to; null: none")


class ExampleDetail(ExampleRecord):
    """An example with all its labels."""

    history: list[ExampleRecord] = Field(description="all labels, the oldest first")


class SuspectExample(ExampleRecord):
    """An example whose class is less likely than another, by a head that was fitted without it."""

    given_probability: float = Field(description="of its class")
    suggested: str = Field(description="the most probable other class")
    suggested_probability: float = Field(description="of that class")


class SuspectExamples(BaseModel):
    """Examples whose class is less likely than another, the likeliest wrong one first."""

    suspects: list[SuspectExample]


class AnswerRecord(BaseModel):
    """A remembered answer."""

    id: str
    at: str = Field(description="ISO 8601")
    kind: Literal["image", "feature"] = Field(description="what was sent")
    content: str = Field(description="sha256 of the image file, or of the feature")
    ref: str = Field(description="the sender's own name for it")
    owner: str | None = Field(default=None, description="name of the key that it belongs to; null: none")
    backbone: str = Field(description="sha256 of what made its feature")
    head: HeadName
    classes: list[Ranked] = Field(description="the top classes")
    thumbnail: str | None = Field(default=None, description="JPEG in base64; null: none is remembered")
    example: ExampleRecord | None = Field(default=None, description="its label; null: it has none")


class Queued(AnswerRecord):
    """An answer that is worth a label."""

    strategy: str = Field(description="which strategy chose it")
    score: float = Field(description="how much, by that strategy; the larger, the more")


class Queue(BaseModel):
    """Answers without a label, those that are worth most first."""

    remembers: bool = Field(description="whether this server remembers answers (`remember`)")
    answers: list[Queued]


class ClassRecord(BaseModel):
    """A class, and what there is of it."""

    name: str
    known: bool = Field(description="whether the live head knows it; if not, the next refit from examples may add it")
    group: Group | None = Field(description="by its training images; null: it is not a class of the bundle")
    train_images: int = Field(description="images of the bundle's training; 0: it is not a class of the bundle")
    examples: int = Field(description="examples that have it now")
    verified: int = Field(description="verified ones among them")


class ClassList(BaseModel):
    """All classes."""

    head: HeadName = Field(description="the live head")
    classes: list[ClassRecord]


class Erased(BaseModel):
    """What was removed."""

    answer: str | None = Field(default=None, description="id of the answer")
    examples: list[str] = Field(description="ids of the examples; no later refit has their rows")
    heads: list[int] = Field(description="versions of the heads that were fitted with them")


class BroughtRows(BaseModel):
    """What became of the rows of a file of examples."""

    new: int = Field(description="examples that were not there")
    changed: int = Field(description="examples that have another label now")
    same: int = Field(description="rows that say what is there already")
    older: int = Field(description="rows of examples that have a newer label, which stays")
    erased: int = Field(description="rows of what was erased in the last hour, which stays away")


class ExampleList(BaseModel):
    """A page of examples, those labelled last first."""

    examples: list[ExampleRecord]
    next: str | None = Field(default=None, description=NEXT)
