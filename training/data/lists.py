"""List files as splits: their paths, the classes of their labels, and what is wrong with either.

It knows nothing of the forms in which lists are kept (`training.data.list_rows`), nor of folders.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from breadcrumbs.training.data import class_names, list_rows, objects
from breadcrumbs.training.data.class_folders import Part
from breadcrumbs.training.data.faults import Faults
from breadcrumbs.training.data.list_rows import Row, Rows
from breadcrumbs.training.data.objects import Span
from breadcrumbs.training.data.split import DataError, Split

NAMES = "classnames.txt"
_NUMBER = re.compile("-?[0-9]{1,9}")


@dataclass(frozen=True)
class Classes:
    """The classes of a list.

    Attributes:
        names: in their order.
        numbered: whether a label is a class's place, from 0; else it is its name.
    """

    names: tuple[str, ...]
    numbered: bool


@dataclass(frozen=True)
class Listed:
    """The images of a list.

    Attributes:
        train: all of them, or those of the part `train`.
        test: those of the part `test`, or else `validation`; None if the list has no parts.
        classes: of the training images.
        notes: what is not used, in words.
    """

    train: Split
    test: Split | None
    classes: Classes
    notes: tuple[str, ...]


def read(file: Path, root: Path | None) -> Listed:
    """Read the list of training images, which may name the test images too.

    Args:
        file: the list.
        root: the folder of its relative paths; None means the list's folder.

    Raises:
        DataError: it cannot be read, or names no training image.
    """
    found = list_rows.read(file)
    parts = {row.part for row in found.rows}
    if parts == {None}:
        classes = _classes(file, found.rows, found)
        return Listed(_split(file, found.rows, classes, root), None, classes, found.notes)
    train = [row for row in found.rows if row.part == "train"]
    if not train:
        raise DataError(f"{file}: no row has the split train; there are {', '.join(sorted(str(p) for p in parts))}")
    tested = _tested(parts)
    classes = _classes(file, train, found)
    test = _split(file, [row for row in found.rows if row.part == tested], classes, root) if tested else None
    return Listed(_split(file, train, classes, root), test, classes, found.notes + _others(found.rows, tested))


def read_test(file: Path, root: Path | None, classes: Classes) -> Split:
    """Read the list of test images, whose classes are those of training.

    Raises:
        DataError: it cannot be read, or has a label that is no class.
    """
    rows = list_rows.read(file).rows
    tested = _tested({row.part for row in rows})
    return _split(file, rows if tested is None else [row for row in rows if row.part == tested], classes, root)


def _tested(parts: set[Part | None]) -> Part | None:
    return next((part for part in ("test", "validation") if part in parts), None)


def _others(rows: Sequence[Row], tested: Part | None) -> tuple[str, ...]:
    parts = Counter(row.part for row in rows)
    notes = []
    if tested == "test" and parts["validation"]:
        notes.append(f"not used: {parts['validation']} images of the split validation, since there is a split test")
    if parts[None]:
        notes.append(f"not used: {parts[None]} images without a split")
    return tuple(notes)


def _classes(file: Path, rows: Sequence[Row], found: Rows) -> Classes:
    """The classes in `classnames.txt` beside the list, in the list's own order, or those that occur."""
    labels = {row.label for row in rows}
    numbers = {label for label in labels if _NUMBER.fullmatch(label)}
    given = _given(file.parent / NAMES)
    if given is not None:
        return Classes(given, numbered=bool(numbers) and not labels <= set(given))
    if found.order is not None:
        return Classes(found.order, numbered=False)
    if numbers == labels and found.named:
        return Classes(tuple(sorted(labels, key=int)), numbered=False)
    if numbers == labels:
        # More classes than images cannot be: a label beyond that is a problem to be named, not a number of classes.
        largest = min(max((int(label) for label in labels), default=-1), len(rows) - 1)
        return Classes(tuple(str(label) for label in range(largest + 1)), numbered=True)
    if numbers and not found.named:
        number, name = (next(row for row in rows if (row.label in numbers) is wanted) for wanted in (True, False))
        raise DataError(
            f"{file}:{name.line}: label {name.label!r:.80} is not a whole number like that of line {number.line}, "
            f"{number.label}; expected 'path label', all labels numbers from 0 or all of them names"
        )
    return Classes(tuple(sorted({class_names.plain(label) for label in labels})), numbered=False)


def _given(names: Path) -> tuple[str, ...] | None:
    if not names.is_file():
        return None
    try:
        text = names.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{names}: expected class names, one a line, as text in UTF-8") from error
    found = tuple(line.strip() for line in text.splitlines() if line.strip())
    faults = Faults(str(names))
    faults.extend(class_names.faults(found))
    faults.tell()
    return tuple(class_names.plain(name) for name in found)


def _split(file: Path, rows: Sequence[Row], classes: Classes, root: Path | None) -> Split:
    """The rows as images; a number that is no class stays, and the check of all labels reports it."""
    faults = Faults(str(file))
    places = {name: place for place, name in enumerate(classes.names)}
    base = file.parent if root is None else root
    paths: list[Path | Span] = []
    labels: list[int] = []
    for row in rows:
        if any(ord(letter) < 32 or "\ud800" <= letter <= "\udfff" for letter in row.path):
            faults.add(f"{file}:{row.line}: the path has a control character or half a letter: {row.path!r:.120}")
        if classes.numbered and _NUMBER.fullmatch(row.label):
            label = int(row.label)
        else:
            label = places.get(class_names.plain(row.label), -1)
            if label < 0:
                faults.add(f"{file}:{row.line}: label {row.label!r:.80} is not known; {_expected(classes)}")
        paths.append(_place(row.path, base))
        labels.append(label)
    faults.tell()
    return Split(np.array(labels, np.int64), np.arange(len(paths)), paths=tuple(paths))


def _expected(classes: Classes) -> str:
    if classes.numbered:
        return f"expected a number, 0 … {len(classes.names) - 1}, as in the training list"
    some = ", ".join(classes.names[:5])
    more = f" and {len(classes.names) - 5} more" if len(classes.names) > 5 else ""
    return f"expected a name of a class: {some}{more}"


def _place(path: str, base: Path) -> Path | Span:
    """Resolve a path; backslashes, from Windows, are separators unless a file has that name."""
    if objects.is_url(path):
        return Span(path)
    if "\\" in path and not os.path.lexists(base / path):
        return base / path.replace("\\", "/")
    return base / path
