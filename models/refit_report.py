"""A refit's report: what `report.json` holds, and `judged.json`, the part that decides; checked when they are written.

It knows nothing of how the numbers come about or how they are shown. The page that shows them is made of this and of
nothing else.

Letters: C classes, in the order of the new head.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, model_validator

from breadcrumbs.models.calibration import Calibration
from breadcrumbs.models.groups import Convention, Group
from breadcrumbs.models.rejection import Rejection
from breadcrumbs.models.report_part import Interval, ReportPart

FORMAT: Literal["breadcrumbs.refit/2"] = "breadcrumbs.refit/2"
JUDGED: Literal["breadcrumbs.judged/1"] = "breadcrumbs.judged/1"

Answer = Literal["yes", "no", "not measured"]


class Measured(ReportPart):
    """How good one head is on the hold-out; shares are 0 … 1, a group without rows is null."""

    all: float
    """Share of rows whose top class is right."""
    balanced: float
    """Mean over the classes of their recall."""
    many: float | None
    """The same over the many-shot classes."""
    medium: float | None
    """The same over the medium-shot classes."""
    few: float | None
    """The same over the few-shot classes."""
    harmonic: float
    """Harmonic mean of the classes' recalls."""
    worst: float
    """The lowest recall of a class."""
    macro_f1: float
    """Mean over the classes of their F1."""
    ece: float
    """Expected calibration error of the top class, the rows as they are."""
    nll: float
    """Mean negative log-likelihood, nats."""
    recall: list[float | None]
    """Of each class (C), null where the hold-out has no row of it."""
    precision: list[float | None] = Field(default=[])
    """Of each class (C), null where no row is predicted as it; empty in older reports."""


class Baseline(Measured):
    """A head that the same rows could have become, and what was chosen for it."""

    l2: float | None
    """λ, where it was solved for."""
    tau: float | None
    """τ, where it was normalised."""
    prior_offset: float
    """t."""


class Origin(ReportPart):
    """Which head was refitted, and which head came of it."""

    bundle: str
    """Name of the bundle."""
    backbone: str
    """sha256 of the deployed backbone."""
    live: str
    """Digest of the live head."""
    candidate: str
    """Digest of the new head."""


class Look(ReportPart):
    """One uploaded snapshot."""

    epoch: int
    rows: int
    deployed_backbone: bool
    """Whether the deployed backbone made it."""


class Classes(ReportPart):
    """The classes of the new head."""

    count: int
    """C."""
    new: list[str]
    """Those that the live head does not know."""
    names: list[str]
    """Of each class (C)."""
    train_images: list[int]
    """Of each class (C)."""
    groups: list[Group]
    """Of each class (C)."""


class Pool(ReportPart):
    """The rows that the head was fitted to."""

    rows: list[int]
    """Of each class (C)."""
    moved: list[int]
    """Of these, those of further looks, and of other backbones (C)."""


class Way(ReportPart):
    """One way to bring looks to the deployed backbone's rows, tried with one plain head."""

    balanced: float
    """Balanced accuracy on images that were left out."""
    classes: int
    """Classes that have rows to fit."""
    change: Interval
    """Balanced accuracy less that of leaving the looks out, paired."""


class Transfer(ReportPart):
    """How further looks were brought to the deployed backbone's rows."""

    looks: str
    """Which looks."""
    chosen: str
    """The way that was used."""
    ways: dict[str, Way]
    """All that were tried."""


class MemberPart(ReportPart):
    """One of the heads that the new head is the average of."""

    member: str
    """`plain` or `balanced`."""
    penalty: float
    """λ, in units of the features' variance."""
    prior_offset: float
    """t."""
    share: float
    """Its weight in the average; 0: it is not in it."""
    score: float | None
    """Balanced accuracy on images that were left out; null where nothing was chosen."""


class NewClass(ReportPart):
    """A class that the live head does not know, measured on images that were left out."""

    name: str
    images: int
    """That were fitted."""
    rows: int
    """That were measured."""
    recall: Interval | None
    """Null where no row was measured."""


class Step(ReportPart):
    """What the solver told on its way."""

    l2: float
    """λ of the problem that it was solving."""
    iteration: int
    gradient_norm: float
    objective: float


class Solver(ReportPart):
    """How the convex problem of the new head was solved."""

    objective: float
    """F at the solution."""
    gradient_norm: float
    """‖∇F‖ there."""
    gap_bound: float
    """F is at most this far above the optimum."""
    iterations: int
    converged: bool
    """Whether the norm that was asked for was reached."""
    device: str = "cpu"
    """Where it was solved: `cpu` or `cuda`."""
    trace: list[Step]
    """Every member's problem, one after the other."""


class Holdout(ReportPart):
    """What both heads were compared on."""

    source: Literal["pinned", "snapshot", "bundle", "split"]
    """The operator's, the request's or the bundle's, each with a share of the new images; or a share of all images."""
    groups: Convention
    """Convention of many, medium and few."""


class Gate(ReportPart):
    """Whether the new head may go live by itself."""

    answer: Answer
    """`not measured`: nothing speaks against it, but a class of the live head has no judged row, or a group too few."""
    reasons: list[str]
    """Each reason why the answer is not yes."""

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, given: Any) -> Any:
        """Version 1 said `passed`, true or false."""
        if isinstance(given, dict) and isinstance(given.get("passed"), bool) and "answer" not in given:
            rest = {name: value for name, value in given.items() if name != "passed"}
            return {"answer": "yes" if given["passed"] else "no", **rest}
        return given

    @property
    def words(self) -> str:
        """The answer and its reasons, in one line."""
        return self.answer + (f": {'; '.join(self.reasons)}" if self.reasons else "")


class Regression(ReportPart):
    """A class that lost recall."""

    name: str
    train_images: int
    group: Group
    rows: int
    """Of the class in the hold-out."""
    live: float
    """Its recall by the live head."""
    candidate: float
    """Its recall by the new head."""
    change: Interval
    """The second less the first, paired."""


class Move(ReportPart):
    """A confusion whose rows changed in number."""

    true: str
    """What the rows are."""
    predicted: str
    """What they were taken for."""
    live: int
    """Rows by the live head."""
    candidate: int
    """Rows by the new head."""


class Confused(ReportPart):
    """How many rows of one class are taken for another."""

    true: int
    """Number of the class that the rows are of."""
    predicted: int
    """Number of the class that they were taken for."""
    live: int
    """Rows by the live head."""
    candidate: int
    """Rows by the new head."""


class Evidence(ReportPart):
    """Lemma 1, measured for one class, in nats; `docs/certificate.md`."""

    name: str
    n: int
    loss: float
    augmented_loss: float
    gain: float
    bound: float
    held: bool
    floor: float


class Certificate(ReportPart):
    """Lemma 1, measured on two epochs."""

    epoch: int
    older_epoch: int
    bound_held_share: float | None
    head: str
    """How the heads that it was measured with were fitted."""
    classes: list[Evidence]


class Fit(ReportPart):
    """How well a map predicts pairs that it was not fitted to."""

    pairs: int
    """That it was fitted to."""
    explained: float
    """Share of the pairs' variance in the new space that is predicted, out of fold; 1 is all of it."""


class Kept(ReportPart):
    """Recall before a change of backbone and after it, by one group of classes."""

    old: float
    """By the old head, of the rows as the old backbone made them."""
    new: float
    """By the new head, of the same images in the new space."""


class Migration(ReportPart):
    """How labelled rows came to another backbone without their images: a map, and what it kept."""

    backbone: str
    """sha256 of the old backbone."""
    pairs: int
    """Images that both backbones saw, and that the map was fitted to."""
    judged_pairs: int
    """Labelled images that both backbones saw, and that both heads were judged on."""
    map: str
    """The family of maps that was chosen: `procrustes` or `ridge`."""
    families: dict[str, float]
    """The explained share of each family that was tried, out of fold."""
    explained: float
    """That of the chosen one."""
    curve: list[Fit]
    """The same of fewer pairs, the fewest first."""
    further_hundred: float | None
    """What a hundred more pairs would add to the explained share, about; null where it cannot be known."""
    forecast: str
    """The same in a sentence."""
    mapped: dict[str, int]
    """Labelled rows that were mapped, by group; a group without classes is left out."""
    seen: int
    """Labelled rows that the new backbone made itself, and that the head was fitted to."""
    kept_on: Literal["mapped hold-out", "labelled pairs", "mapped share of the rows"]
    """What `kept` was measured on; the new head was fitted to none of it."""
    kept_rows: int
    """How many rows that is."""
    kept: dict[str, Kept]
    """Of `balanced`, and of each group that has rows."""


class Judged(ReportPart):
    """What a server must know to store the new head and to decide on it; `judged.json`, there before the report."""

    format: Literal["breadcrumbs.judged/1"] = JUDGED
    candidate: str
    """Digest of the new head."""
    live: str
    """Digest of the head that it was compared with."""
    rows: int
    """Of the hold-out."""
    holdout: Literal["pinned", "snapshot", "bundle", "split"]
    """Whose it is, as in the report."""
    judged_examples: int = 0
    """Verified examples among the rows."""
    gate: Gate
    candidate_metrics: Measured
    """How good the new head is on the hold-out."""
    new_classes: list[NewClass] = Field(default=[])
    notes: list[str] = Field(default=[])
    """What a reader should know, a sentence each."""


class RefitReport(ReportPart):
    """Everything that is known of a refit; `report.json`."""

    format: Literal["breadcrumbs.refit/2"] = FORMAT
    origin: Origin
    spec: dict[str, Any]
    """The settings, every field of `RefitSpec`."""
    snapshots: list[Look]
    """Those that were uploaded, not the bundle's own."""
    classes: Classes
    pool: Pool
    transfer: list[Transfer]
    """Empty where there are no further looks, or the spec says how."""
    members: list[MemberPart]
    solver: Solver
    holdout: Holdout
    rows: int
    """Of the hold-out."""
    judged_examples: int = 0
    """Verified examples among the rows; they are never fitted."""
    live: Measured
    candidate: Measured
    intervals: dict[str, dict[str, Interval]]
    """Of the metrics of `live` and `candidate`, by name; one without an interval is left out."""
    difference: dict[str, Interval]
    """Candidate less live, paired: `balanced`, and each group that has rows, of the classes that both know."""
    class_rows: list[int] = Field(default=[])
    """Rows of each class in the hold-out (C); empty in older reports."""
    change: list[Interval | None]
    """The same of each class's recall (C), null where the hold-out has no row of it."""
    regressions: list[Regression]
    """The classes that lost recall, the surest loss first; 10 at most."""
    moves: list[Move]
    """The confusions that changed most in number, the largest change first; 20 at most."""
    confused: list[Confused] = Field(default=[])
    """The confusions with most rows, those of the new head first; 1,600 at most, empty in older reports."""
    unlike: dict[str, Interval] = Field(default={})
    """Share of the hold-out's rows whose `known` is below 0.05, by the new head: of `all`, and each group that has
    rows; empty where nothing tells how well a row is known, and in older reports."""
    gate: Gate
    new_classes: list[NewClass]
    notes: list[str]
    """What a reader should know, a sentence each."""
    baselines: dict[str, Baseline]
    certificate: Certificate | None
    """Null where there is only one look at all the classes."""
    migration: Migration | None = None
    """Null unless the rows were brought to another backbone."""
    calibration: Calibration | None = None
    """The temperature, and what it did to the probabilities; null in older reports."""
    rejection: Rejection | None = None
    """Which judged rows `known` would reject; null where the head has no points, and in older reports."""

    def columns(self) -> dict[str, list[Any]]:
        """Return the recall of both heads as a table by columns, a row for each class (C); pandas takes it.

        `rows` are the class's in the hold-out; a recall is None where there are none.
        """
        return {
            "class": self.classes.names,
            "group": self.classes.groups,
            "train_images": self.classes.train_images,
            "rows": self.class_rows,
            "live": self.live.recall,
            "candidate": self.candidate.recall,
        }


class OlderReport(BaseModel):
    """A report of version 1, which had other parts: it is kept beside the page that was made of it."""

    format: Literal["breadcrumbs.refit/1"]
    origin: Origin
    gate: Gate


STORED: TypeAdapter[RefitReport | OlderReport] = TypeAdapter(
    Annotated[RefitReport | OlderReport, Field(discriminator="format")]
)
"""Reads a report that may be of any version."""


def to_bytes(report: RefitReport | Judged) -> bytes:
    """Return the bytes of `report.json` or `judged.json`."""
    return json.dumps(report.model_dump(mode="json"), indent=1).encode() + b"\n"
