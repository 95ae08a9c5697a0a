"""Whether a candidate head may replace the live one: measured on the same rows, group by group.

It knows nothing of how either head came about, nor of activations.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.groups import GROUPS, Group
from training.evaluate import compare, evaluate

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate passed, and each reason it did not."""

    passed: bool
    reasons: tuple[str, ...]


def comparison(
    live: Floats, candidate: Floats, labels: Integers, class_groups: Sequence[Group], seed: int
) -> dict[str, Any]:
    """Measure two heads' logits (N, C) on the same labels (N,), with paired intervals of the differences."""
    return {
        "rows": len(labels),
        "live": evaluate(live, labels, class_groups).as_dict(),
        "candidate": evaluate(candidate, labels, class_groups).as_dict(),
        "difference": {k: asdict(v) for k, v in compare(live, candidate, labels, class_groups, seed).items()},
    }


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
    lost = [
        name for name, a, b in zip(classes, live["recall"], candidate["recall"], strict=True) if a and b == 0
    ]  # a class that is absent from the hold-out has recall None
    if lost:
        reasons.append(f"no row is right any more of: {', '.join(lost)}")
    return Verdict(not reasons, tuple(reasons))
