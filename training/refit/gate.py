"""Whether a candidate head may replace the live one: measured on the same rows, group by group.

It knows nothing of how either head was made, nor of activations.

Letters: N held-out rows, C classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import GROUPS, Group
from breadcrumbs.training.metrics import Interval, compare, compare_classes, evaluate, intervals

NAMED = 20  # lost classes that a reason names

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate passed, and each reason it did not."""

    passed: bool
    reasons: tuple[str, ...]


def comparison(
    live: Floats, candidate: Floats, labels: Integers, class_groups: Sequence[Group], seed: int
) -> dict[str, Any]:
    """Measure two heads' logits (N, C) on the same labels (N,), with intervals of each and, paired, of what changed."""
    both = {"live": live, "candidate": candidate}
    return {
        "rows": len(labels),
        **{name: evaluate(logits, labels, class_groups).as_dict() for name, logits in both.items()},
        "intervals": {name: _json(intervals(logits, labels, class_groups, seed)) for name, logits in both.items()},
        "difference": _json(compare(live, candidate, labels, class_groups, seed)),
        "change": [one and asdict(one) for one in compare_classes(live, candidate, labels, seed)],
    }


def _json(found: dict[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: asdict(interval) for name, interval in found.items()}


def judge(measured: dict[str, Any], classes: Sequence[str], tolerance: float) -> Verdict:
    """Pass a candidate that is better in balanced accuracy, loses no group by more than `tolerance` and no class.

    Args:
        measured: what `comparison` returned.
        classes: C names.
        tolerance: of a group's recall, 0 … 1.
    """
    live, candidate = measured["live"], measured["candidate"]
    reasons = []
    if not np.isfinite(candidate["nll"]):
        reasons.append("the candidate's likelihood is not finite")
    if candidate["balanced"] <= live["balanced"]:
        reasons.append(f"balanced accuracy {candidate['balanced']:.4f} is not above the live {live['balanced']:.4f}")
    reasons += [
        f"{group}: recall {candidate[group]:.4f} is below the live {live[group]:.4f} by more than {tolerance}"
        for group in GROUPS
        if live[group] is not None and candidate[group] < live[group] - tolerance
    ]
    both = zip(classes, live["recall"], candidate["recall"], strict=True)
    lost = [name for name, before, after in both if before and after == 0]  # None: the hold-out has no such class
    if lost:
        more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
        reasons.append(f"no row is right any more of: {', '.join(lost[:NAMED])}{more}")
    return Verdict(not reasons, tuple(reasons))
