"""What int8 costs: the change of recall on judged rows, paired, with its intervals, and the limit of it.

It knows nothing of graphs or of files.

Letters: M judged rows, D feature dimensions, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import Group
from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.metrics import Interval, as_json
from breadcrumbs.training.pairs import pairs

LOSS = 0.005
"""Largest loss of balanced recall."""
GROUP_LOSS = 0.01
"""Largest loss of a group's mean recall."""


@dataclass(frozen=True)
class Cost:
    """The cost of int8 on the same rows.

    Attributes:
        change: of mean recall, `balanced` and of each group that has rows, with 95 % intervals.
        differs: share of the rows whose top class is another.
        cosine: mean cosine between the two features of a row.
        broken: rows whose feature is not finite.
    """

    change: dict[str, Interval]
    differs: float
    cosine: float
    broken: int

    @property
    def excess(self) -> str | None:
        """What is beyond its limit, in words; None: nothing is."""
        if self.broken:
            return f"{self.broken} features are not finite"
        for name, interval in self.change.items():
            limit = LOSS if name == "balanced" else GROUP_LOSS
            if interval.value < -limit:
                return f"{name} recall changes by {told(interval)} points, and may fall by {100 * limit:g}"
        return None

    def as_dict(self) -> dict[str, Any]:
        """Return the cost in JSON's own types."""
        return {"change": as_json(self.change), "differs": self.differs, "cosine": self.cosine}


def told(interval: Interval) -> str:
    """Return a change in points, with its interval."""
    return f"{100 * interval.value:+.1f} ({100 * interval.low:+.1f} … {100 * interval.high:+.1f})"


def cost(
    full: Floats, int8: Floats, labels: NDArray[np.int64], head: LinearHead, class_groups: Sequence[Group]
) -> Cost:
    """Compare two backbones' features of the same images under one head.

    Args:
        full: features by the backbone in full precision (M, D).
        int8: features by the one in int8 (M, D).
        labels: (M,).
        head: the exported head.
        class_groups: each class's group (C,).
    """
    broken = int((~np.isfinite(int8).all(1)).sum())
    if broken:
        return Cost({}, 1.0, 0.0, broken)
    before, after = head.logits(full), head.logits(int8)
    lengths = np.linalg.norm(full, axis=1) * np.linalg.norm(int8, axis=1)
    cosine = (full * int8).sum(1) / np.maximum(lengths, np.finfo(np.float32).tiny)
    return Cost(
        pairs(before, after, labels).difference(class_groups),
        float((before.argmax(1) != after.argmax(1)).mean()),
        float(cosine.mean()),
        0,
    )
