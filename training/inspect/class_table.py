"""How well each class is found: recall and precision with their 95 % intervals, and how many images there are.

It knows nothing of pages or files.

Letters: C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.training.inspect.mistakes import Answers
from breadcrumbs.training.metrics import Interval, wilson


@dataclass(frozen=True)
class ClassRow:
    """One class.

    Attributes:
        name: of the class.
        train_images, test_images: how many there are.
        recall: share of its test images that are predicted as it; None means that it has none.
        precision: share of the test images predicted as it that are of it; None means that none is predicted so.
    """

    name: str
    train_images: int
    test_images: int
    recall: Interval | None
    precision: Interval | None


def class_table(found: Answers, classes: Sequence[str], train_counts: NDArray[np.int64]) -> list[ClassRow]:
    """Return a row for each class, in the classes' order.

    Args:
        found: a head's answers on the test images.
        classes: C names.
        train_counts: training images of each class (C,).
    """
    count = len(classes)
    tested = np.bincount(found.given, minlength=count)
    predicted = np.bincount(found.predicted, minlength=count)
    hits = np.bincount(found.given[found.right], minlength=count)
    return [
        ClassRow(name, int(train_counts[c]), int(tested[c]), _share(hits[c], tested[c]), _share(hits[c], predicted[c]))
        for c, name in enumerate(classes)
    ]


def _share(hits: int, rows: int) -> Interval | None:
    return wilson(int(hits) / int(rows), int(rows)) if rows else None
