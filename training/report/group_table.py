"""Recall by group as a table: how many classes, training images and rows stand behind each number.

It knows nothing of how anything was measured.

Letters: C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from breadcrumbs.models.groups import GROUPS, Group
from breadcrumbs.training.report.html import Interval
from breadcrumbs.training.report.style import Integers

Shares = Mapping[str, Interval]
"""A share and its interval, by group."""


@dataclass(frozen=True)
class Line:
    """One group, or all classes.

    Attributes:
        name: of the group.
        classes, train_images, rows: how many there are; of rows None where that is not known.
        recall: of each head, the mean over the classes; None: no class has a row.
        intervals: of the same, where there are any.
        unlike: share of the rows that are unlike what was fitted; None: not measured.
    """

    name: str
    classes: int
    train_images: int
    rows: int | None
    recall: Sequence[float | None]
    intervals: Sequence[Interval | None]
    unlike: Interval | None


def lines(
    counts: Integers,
    groups: Sequence[Group],
    rows: Integers | None,
    heads: Mapping[str, Mapping[str, Any]],
    intervals: Mapping[str, Shares],
    unlike: Shares,
) -> list[Line]:
    """Return a line for each group that has classes, and one for all classes.

    Args:
        counts: training images of each class (C,).
        groups: of each class (C,).
        rows: test rows of each class (C,); None: not known.
        heads: metrics of each head, by name.
        intervals: of those metrics.
        unlike: share of rows that are unlike what was fitted.
    """
    own = np.array(groups)
    found = []
    for name in (*GROUPS, "all classes"):
        mask = own == name if name in GROUPS else np.ones(len(counts), bool)
        if not mask.any():
            continue
        metric = name if name in GROUPS else "balanced"
        found.append(
            Line(
                name, int(mask.sum()), int(counts[mask].sum()), None if rows is None else int(rows[mask].sum()),
                [head.get(metric) for head in heads.values()],
                [intervals.get(head, {}).get(metric) for head in heads],
                unlike.get(name if name in GROUPS else "all"),
            )
        )  # fmt: skip
    return found
