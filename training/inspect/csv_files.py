"""CSV files of what is wrong with images, a table each, that a spreadsheet opens as text.

A name that begins with `=`, `+`, `-` or `@` would become a formula, so an apostrophe stands before it. Files are UTF-8
with a line for the columns, and are written whole or not at all. It knows nothing of how anything was found.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from breadcrumbs.models.files import writing_whole
from breadcrumbs.models.printable import escaped
from breadcrumbs.training.coverage import Curve
from breadcrumbs.training.data.split import Split
from breadcrumbs.training.inspect.class_table import ClassRow
from breadcrumbs.training.inspect.duplicates import Duplicate
from breadcrumbs.training.inspect.looked import Looked
from breadcrumbs.training.inspect.mistakes import Answers, matrix_rows
from breadcrumbs.training.inspect.suspects import Suspect
from breadcrumbs.training.metrics import Interval

FORMULA = tuple("=+-@＝＋－＠")  # also in the full width that some spreadsheets take for the same

ANSWERS = ("image", "class", "predicted", "probability_class", "probability_predicted", "rank", "right")
COVERAGE = ("rank", "coverage", "accuracy", "probability")
CONFUSIONS = ("class", "predicted", "images", "share")
SUSPECTS = ("image", "class", "suggested", "probability_class", "probability_suggested", "score")
DUPLICATES = ("part", "image", "class", "other_part", "other_image", "other_class", "similarity")
CLASSES = (
    *("class", "train_images", "test_images", "recall", "recall_low", "recall_high"),
    *("precision", "precision_low", "precision_high"),
)

Cell = str | int | float | bool | None
Pair = tuple[str, Looked, str, Looked, Duplicate]
"""A near-duplicate, with the part and the images that each of its rows is of."""


def write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a table.

    Args:
        path: of the file; its folder is made.
        columns: the names of the columns; they are the users' own where classes are columns.
        rows: the cells of each row.
    """
    with writing_whole(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow([cell_text(name) for name in columns])
        table.writerows([cell_text(cell) for cell in row] for row in rows)
        text.flush()
        text.detach()


def cell_text(cell: Cell) -> str:
    """Return a cell as text: a float in six digits, a truth as yes or no, None as nothing, a name made safe."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:.6g}"
    return str(cell) if isinstance(cell, int) else safe(cell)


def safe(name: str) -> str:
    """Return a name that no spreadsheet takes for a formula and no terminal for a command."""
    printable = escaped(name)
    return f"'{printable}" if printable.lstrip().startswith(FORMULA) else printable


def write_answers(path: Path, found: Answers, rows: Iterable[int], images: Split, classes: Sequence[str]) -> None:
    """Write a head's answers on some rows, in their order, with the columns `ANSWERS`."""
    cells = (
        (
            images.name(row), classes[found.given[row]], classes[found.predicted[row]],
            float(found.given_probability[row]), float(found.predicted_probability[row]), int(found.rank[row]),
            bool(found.right[row]),
        )
        for row in map(int, rows)
    )  # fmt: skip
    write(path, ANSWERS, cells)


def write_matrix(path: Path, found: Answers, classes: Sequence[str]) -> None:
    """Write the confusion matrix: a row for each class, and how many of its images were predicted as each class."""
    counts = zip(classes, matrix_rows(found, len(classes)), strict=True)
    write(path, ("class", *classes), ((name, *row) for name, row in counts))


def write_coverage(path: Path, found: Iterable[Curve]) -> None:
    """Write accuracy against coverage, all points of each rank, with the columns `COVERAGE`."""
    cells = (
        (curve.rank, float(share), float(right), float(least))
        for curve in found
        for share, right, least in zip(curve.coverage, curve.accuracy, curve.probability, strict=True)
    )
    write(path, COVERAGE, cells)


def write_confusions(path: Path, found: Answers, classes: Sequence[str]) -> None:
    """Write the pairs of classes that are confused, the most frequent first, with the columns `CONFUSIONS`."""
    tested = np.bincount(found.given, minlength=len(classes))
    cells = (
        (classes[one.true], classes[one.predicted], one.rows, one.rows / int(tested[one.true]))
        for one in found.confused(len(classes))
    )
    write(path, CONFUSIONS, cells)


def write_classes(path: Path, table: Iterable[ClassRow]) -> None:
    """Write recall and precision of each class, with the columns `CLASSES`."""
    cells = ((one.name, one.train_images, one.test_images, *_ends(one.recall), *_ends(one.precision)) for one in table)
    write(path, CLASSES, cells)


def _ends(interval: Interval | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if interval is None else (interval.value, interval.low, interval.high)


def write_suspects(path: Path, found: Iterable[Suspect], images: Split, classes: Sequence[str]) -> None:
    """Write the labels that are likely wrong, the likeliest first, with the columns `SUSPECTS`."""
    cells = (
        (
            images.name(one.row), classes[one.given], classes[one.suggested], one.given_probability,
            one.suggested_probability, one.score,
        )
        for one in found
    )  # fmt: skip
    write(path, SUSPECTS, cells)


def write_duplicates(path: Path, pairs: Iterable[Pair], classes: Sequence[str]) -> None:
    """Write near-duplicates, with the columns `DUPLICATES`."""
    cells = (
        (
            part, looked.images.name(pair.row), classes[looked.labels[pair.row]],
            other_part, others.images.name(pair.other), classes[others.labels[pair.other]], pair.similarity,
        )
        for part, looked, other_part, others, pair in pairs
    )  # fmt: skip
    write(path, DUPLICATES, cells)
