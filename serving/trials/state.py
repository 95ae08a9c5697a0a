"""What a trial has come to: answers and labels together, by group and by class.

It knows nothing of where counts and labels come from.
"""

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from breadcrumbs.serving.trials.counts import Counts
from breadcrumbs.serving.trials.evidence import Tally, interval
from breadcrumbs.serving.trials.trial import GROUPS, End, Start, TrialGroup
from breadcrumbs.serving.trials.verified import Recall


class Measured(BaseModel):
    """Answers and labels of a group of classes, or of one."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    compared: int = 0
    """Answers of these classes by the head that the trial compares with."""
    disagreed: int = 0
    """Those where the head on trial said another class."""
    labels: int = 0
    """Verified labels of these classes that came since the start."""
    recall: float | None = None
    """Share of them that the head on trial has right; null: there are none."""
    recall_against: float | None = None
    """The same of the head that it is compared with."""
    gained: int = 0
    """Labels that only the head on trial has right."""
    lost: int = 0
    """Labels that only the other head has right."""


class GroupMeasured(Measured):
    """Answers and labels of a group of classes."""

    low: float | None = None
    """Recall gained, at least: all intervals of a trial hold together, at 1 − α. Null: there is no label."""
    high: float | None = None
    """Recall gained, at most."""


class ClassMeasured(Measured):
    """Answers and labels of one class."""

    name: str
    """The class."""
    group: TrialGroup
    """Its group, by its training images."""


class TrialSummary(BaseModel):
    """A trial in a list."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    start: Start
    """How it was started."""
    end: End | None
    """How it ended; null: it runs."""


class TrialState(TrialSummary):
    """A trial, with what it has come to."""

    answered: dict[int, int] = {}
    """Answers by the version of the head that gave them."""
    errors: int = 0
    """Answers for which the head on trial failed."""
    dropped: int = 0
    """Answers that were not compared, since too many waited."""
    placed: int = 0
    """Answers of which it was looked at how well they are known; only with `stop_if.unknown`."""
    unknown: int = 0
    """Those that only the head on trial does not know."""
    unknown_against: int = 0
    """Those that only the other head does not know."""
    groups: dict[TrialGroup, GroupMeasured] = {}
    """By group, and of all classes."""
    classes: list[ClassMeasured] = []
    """By class, those with the most disagreements and lost labels first; 1,000 at most."""
    notes: list[str] = []
    """What a reader should know: rules that are hard to decide."""


CLASSES = 1_000
"""Classes that are shown at most."""


def tallies(recalls: Mapping[str, Recall], groups: Mapping[str, TrialGroup]) -> dict[TrialGroup, Tally]:
    """Return what labels say of each group that has some, and of all."""
    found: dict[TrialGroup, Tally] = {}
    for name, one in recalls.items():
        for group in ("all", groups.get(name, "new")):
            found[group] = found.get(group, Tally()) + one.tally
    return found


def state_of(
    start: Start, end: End | None, counts: Counts, recalls: Mapping[str, Recall], groups: Mapping[str, TrialGroup],
    notes: list[str],
) -> TrialState:  # fmt: skip
    """Return what a trial has come to.

    Args:
        start: of the trial.
        end: of it. None means that it runs.
        counts: of all processes.
        recalls: what labels say, by class.
        groups: of the bundle's classes.
        notes: what a reader should know.
    """
    names = sorted(counts.classes.keys() | recalls.keys())
    classes = [_of_class(name, counts, recalls, groups.get(name, "new")) for name in names]
    told = tallies(recalls, groups)
    level = start.alpha / len(GROUPS)
    return TrialState(
        start=start,
        end=end,
        answered=counts.answered,
        errors=counts.errors,
        dropped=counts.dropped,
        placed=counts.placed,
        unknown=counts.unknown,
        unknown_against=counts.unknown_against,
        groups={group: _of_group(group, classes, told.get(group), level) for group in GROUPS},
        classes=sorted(classes, key=lambda one: -(one.disagreed + one.lost))[:CLASSES],
        notes=notes,
    )


def _of_class(name: str, counts: Counts, recalls: Mapping[str, Recall], group: TrialGroup) -> ClassMeasured:
    counted = counts.classes.get(name)
    found = ClassMeasured(name=name, group=group)
    if counted is not None:
        found.compared, found.disagreed = counted.compared, counted.disagreed
    if name in recalls:
        one = recalls[name]
        found.labels, found.gained, found.lost = one.labels, one.tally.gained, one.tally.lost
        found.recall, found.recall_against = one.head / one.labels, one.against / one.labels
    return found


def _of_group(
    group: TrialGroup, classes: Iterable[ClassMeasured], tally: Tally | None, level: float
) -> GroupMeasured:  # fmt: skip
    some = [one for one in classes if group in ("all", one.group)]
    found = GroupMeasured(
        compared=sum(one.compared for one in some),
        disagreed=sum(one.disagreed for one in some),
        labels=sum(one.labels for one in some),
    )
    if tally is not None:
        found.gained, found.lost = tally.gained, tally.lost
        found.recall = sum(one.labels * (one.recall or 0) for one in some) / found.labels
        found.recall_against = sum(one.labels * (one.recall_against or 0) for one in some) / found.labels
        found.low, found.high = interval(tally, level)
    return found
