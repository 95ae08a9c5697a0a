"""Examines the images of a head: labels that are likely wrong, near-duplicates, and what the head mistakes.

    found = inspected(train, test, head, classes, seed)
    found.write(folder)       # CSV files
    found.section()           # a part of a report page

It knows nothing of how a head is fitted, or of whose page shows what it finds.

Letters: C classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.data.split import DataError
from breadcrumbs.training.inspect import cards, csv_files, duplicates, suspects
from breadcrumbs.training.inspect.class_table import class_table
from breadcrumbs.training.inspect.duplicates import Duplicate
from breadcrumbs.training.inspect.looked import Looked
from breadcrumbs.training.inspect.mistakes import Answers, answers
from breadcrumbs.training.inspect.suspects import Suspect
from breadcrumbs.training.inspect.thumbnails import Thumbnails
from breadcrumbs.training.report import html

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found.

    Attributes:
        classes: C names.
        train: the training images.
        test: the test images; None means that there are none.
        suspects: training images whose labels are likely wrong, the likeliest first.
        twins: training images of two classes that are nearly the same, the nearest first.
        leaks: test images, and training images that are nearly the same, the nearest first.
        answers: of the head, on the test images; None where there are none.
        notes: what was not examined, a sentence each.
    """

    classes: tuple[str, ...]
    train: Looked
    test: Looked | None
    suspects: Sequence[Suspect] = ()
    twins: Sequence[Duplicate] = ()
    leaks: Sequence[Duplicate] = ()
    answers: Answers | None = None
    notes: Sequence[str] = field(default=())

    def write(self, folder: Path) -> list[Path]:
        """Write what was found as CSV files into a folder, and return them; each is whole or not there.

        `suspects.csv`, `duplicates.csv`, and with test images `wrong.csv`, `confusions.csv` and `classes.csv`.
        """
        named = {name: folder / f"{name}.csv" for name in ("suspects", "duplicates")}
        csv_files.write_suspects(named["suspects"], self.suspects, self.train.images, self.classes)
        csv_files.write_duplicates(named["duplicates"], self._pairs(), self.classes)
        if self.test is not None and self.answers is not None:
            named |= {name: folder / f"{name}.csv" for name in ("wrong", "confusions", "classes")}
            wrong = self.answers.worst_first().tolist()
            csv_files.write_answers(named["wrong"], self.answers, wrong, self.test.images, self.classes)
            csv_files.write_confusions(named["confusions"], self.answers, self.classes)
            counts = np.bincount(self.train.labels, minlength=len(self.classes))
            csv_files.write_classes(named["classes"], class_table(self.answers, self.classes, counts))
        return list(named.values())

    def section(self) -> "Markup":
        """Return what was found as a part of a page: at most 60 small pictures inside, below 400 kB."""
        pictures = Thumbnails()
        test, found = self.test, self.answers
        return html.fragment(
            "findings.html",
            notes=self.notes,
            suspects=cards.suspect_pairs(self.suspects, self.train, self.classes, pictures),
            suspect_count=len(self.suspects),
            twins=cards.duplicate_pairs(self.twins, self.train, self.train, self.classes, pictures),
            twin_count=len(self.twins),
            leaks=[] if test is None else cards.duplicate_pairs(self.leaks, test, self.train, self.classes, pictures),
            leak_count=len(self.leaks),
            wrong=[] if test is None or found is None else cards.wrong_cards(found, test, self.classes, pictures),
            wrong_count=0 if found is None else int((~found.right).sum()),
            tested=0 if found is None else len(found),
        )

    def _pairs(self) -> Iterator[csv_files.Pair]:
        for pair in self.twins:
            yield "train", self.train, "train", self.train, pair
        if self.test is not None:
            for pair in self.leaks:
                yield "test", self.test, "train", self.train, pair


def inspected(
    train: Looked, test: Looked | None, head: LinearHead, classes: tuple[str, ...], seed: int = 0
) -> Findings:
    """Examine training images and test images by their features.

    What would take too long is left out, with a note: labels where N · D · C is above the limit of a thorough refit,
    near-duplicates where all pairs are too many.

    Args:
        train: the training images.
        test: the test images; None or without rows: only the training images are examined.
        head: whose mistakes on the test images are told.
        classes: C names, in the order of the head's.
        seed: of the folds.

    Raises:
        DataError: features, head, labels and classes do not fit.
    """
    _check(train, head, classes)
    if test is not None and not len(test):
        test = None
    if test is not None:
        _check(test, head, classes)
    notes: list[str] = []
    return Findings(
        classes, train, test,
        suspects=_suspects(train, len(classes), seed, notes),
        twins=_twins(train, notes),
        leaks=[] if test is None else _leaks(test, train, notes),
        answers=None if test is None else answers(head.logits(test.features), test.labels),
        notes=notes,
    )  # fmt: skip


def _check(looked: Looked, head: LinearHead, classes: Sequence[str]) -> None:
    if looked.feature_dim != head.feature_dim:
        raise DataError(
            f"the images' features have {looked.feature_dim} dimensions; the head expects {head.feature_dim}: "
            "compute both with one backbone"
        )
    if tuple(classes) != head.classes:
        raise DataError(f"{len(classes)} classes are given; the head has {len(head.classes)}, in its own order")
    strange = int(((looked.labels < 0) | (looked.labels >= len(classes))).sum())
    if strange:
        raise DataError(f"{strange} of {len(looked)} labels are not 0 … {len(classes) - 1}, the places of the classes")


def _suspects(train: Looked, classes: int, seed: int, notes: list[str]) -> list[Suspect]:
    if suspects.within_limit(len(train), train.feature_dim, classes):
        return suspects.suspects(train.features, train.labels, classes, seed)
    notes.append(
        f"Labels were not examined: {len(train):,} images with {train.feature_dim:,} feature dimensions and "
        f"{classes:,} classes would take too long."
    )
    return []


def _twins(train: Looked, notes: list[str]) -> list[Duplicate]:
    if duplicates.within_limit(len(train), len(train), train.feature_dim):
        return duplicates.between_classes(train.features, train.labels)
    notes.append(f"Near-duplicates between classes were not sought: pairs of {len(train):,} images take too long.")
    return []


def _leaks(test: Looked, train: Looked, notes: list[str]) -> list[Duplicate]:
    if duplicates.within_limit(len(test), len(train), train.feature_dim):
        return duplicates.between_parts(test.features, train.features)
    notes.append(
        f"Near-duplicates of training and test images were not sought: pairs of {len(test):,} and {len(train):,} "
        "images take too long."
    )
    return []
