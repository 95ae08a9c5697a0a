"""Whether a candidate head may replace the live one: yes, no, or not measured.

Worse means worse beyond chance, and by more than is allowed. Classes that the live head does not know are judged apart,
for it cannot be right on them; so are classes that it was taught of a few images, for it may have seen all of them. It
knows nothing of how either head was made, nor of activations.

Letters: N held-out rows, C classes, those of the live head first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import GROUPS, Group
from breadcrumbs.models.printable import listed
from breadcrumbs.models.refit_report import Answer
from breadcrumbs.training.metrics import Interval, as_json, evaluate, intervals, wilson
from breadcrumbs.training.pairs import Pairs

MIN_ROWS = 10  # fewer in a group: its recall is not known to ± 25 points
RULED_OUT = 5  # times the tolerance: of old classes beside new ones, a loss that chance explains is allowed below that

MAPPED_ROWS = (
    "the judged rows were mapped from another backbone, which proves nothing of real images; give a hold-out that this "
    "backbone made"
)

Integers = NDArray[np.integer]


@dataclass(frozen=True)
class NewClass:
    """A class that the live head does not know: its judged rows, and its recall by the candidate, None without rows."""

    name: str
    rows: int
    recall: Interval | None


@dataclass(frozen=True)
class Verdict:
    """The gate's answer, and each reason why it is not yes."""

    answer: Answer
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """What the gate says, and what it says it from.

    Attributes:
        gate: the answer.
        difference: the old classes' change of recall, `balanced` and each group that has rows.
        change: the change of each class (C,), None without rows; that of a new class is from 0.
        lost: names of the old classes that lost half of their recall or more, beyond chance.
        new_classes: each with its recall.
    """

    gate: Verdict
    difference: dict[str, Interval]
    change: tuple[Interval | None, ...]
    lost: tuple[str, ...]
    new_classes: tuple[NewClass, ...]


def comparison(
    live: Floats, candidate: Floats, labels: Integers, class_groups: Sequence[Group], seed: int
) -> dict[str, Any]:
    """Measure two heads' logits (N, C) on the same labels (N,), each with intervals."""
    both = {"live": live, "candidate": candidate}
    return {
        "rows": len(labels),
        **{name: evaluate(logits, labels, class_groups).as_dict() for name, logits in both.items()},
        "intervals": {name: as_json(intervals(logits, labels, class_groups, seed)) for name, logits in both.items()},
    }


def judged(
    counts: Pairs, groups: Sequence[Group], classes: Sequence[str], known: int, tolerance: float,
    min_rows: int = MIN_ROWS, *, mapped: bool = False, apart: Mapping[int, int] = MappingProxyType({}),
) -> Decision:  # fmt: skip
    """Judge from counts of rows.

    Args:
        counts: of held-out rows, and for new classes of rows out of fold, on which the live head cannot be right.
        groups: of each class (C,).
        classes: C names.
        known: classes of the live head, the first ones.
        tolerance: recall that a group may lose, 0 … 1.
        min_rows: judged rows that a group of old classes needs.
        mapped: the backbone never saw the held-out images, so the rows may tell of harm and of nothing else.
        apart: known classes of too few held-out rows to compare heads on, and the rows of each that the candidate was
            measured on out of fold.
    """
    old, groups = counts.first(known), groups[:known]
    compared = old.without(list(apart))
    difference = compared.difference(groups)
    lost = tuple(classes[y] for y in old.lost_classes())
    new = tuple(_new(name, counts, y) for y, name in enumerate(classes) if y >= known)
    unmeasured = [*([MAPPED_ROWS] if mapped else []), *_unmeasured(old, groups, classes, min_rows, apart)]
    harm = [f"the candidate's logits are not finite for {counts.broken} rows"] if counts.broken else []
    harm += [
        f"{group} is worse beyond chance: {_told(compared, difference[group], np.array(groups) == group)}; "
        f"{100 * tolerance:g} points are allowed"
        for group in GROUPS
        if group in difference and difference[group].high < 0 and difference[group].value < -tolerance
    ]
    harm += [f"lost beyond chance: {listed(lost)}"] if lost else []
    level = _not_better(compared, difference, any(one.recall and one.recall.value for one in new), tolerance)
    answer: Answer = "no" if harm else "not measured" if unmeasured else "no" if level else "yes"
    return Decision(Verdict(answer, (*harm, *unmeasured, *level)), difference, tuple(counts.changes()), lost, new)


def _unmeasured(
    old: Pairs, groups: Sequence[Group], classes: Sequence[str], min_rows: int, apart: Mapping[int, int]
) -> list[str]:
    absent = [classes[y] for y, rows in enumerate(old.rows) if not rows and not apart.get(y)]
    reasons = [f"no judged row of: {listed(absent)}; give a hold-out with rows of them"] if absent else []
    own = np.array([None if y in apart else group for y, group in enumerate(groups)], object)
    rows = {group: int(old.rows[own == group].sum()) for group in GROUPS if group in own}
    return reasons + [
        f"{group} has {few} judged rows, {min_rows} are needed; give a hold-out with more rows of this group"
        for group, few in rows.items()
        if few < min_rows
    ]


def _not_better(old: Pairs, difference: dict[str, Interval], grown: bool, tolerance: float) -> list[str]:
    """Why the candidate is no gain: old classes must be better beyond chance, or keep level where new ones come in."""
    if "balanced" not in difference:
        return []
    balanced = difference["balanced"]
    told = _told(old, balanced, old.rows > 0)
    if grown:
        by_chance = balanced.high >= 0 and balanced.low >= -RULED_OUT * tolerance
        fell = balanced.value < -tolerance and not by_chance
        return [f"the old classes fell by more than {100 * tolerance:g} points: {told}"] if fell else []
    return [] if balanced.low > 0 else [f"balanced accuracy is not better beyond chance: {told}"]


def _told(old: Pairs, change: Interval, own: NDArray[np.bool_]) -> str:
    own = own & (old.rows > 0)
    live, candidate = (float((right[own] / old.rows[own]).mean()) for right in (old.live, old.candidate))
    ends = f"{100 * change.low:+.1f} to {100 * change.high:+.1f}"
    return f"{live:.4f} -> {candidate:.4f}, {100 * change.value:+.1f} points ({ends})"


def _new(name: str, counts: Pairs, y: int) -> NewClass:
    rows = int(counts.rows[y])
    return NewClass(name, rows, wilson(int(counts.candidate[y]) / rows, rows) if rows else None)
