"""Lists of images as rows of path, label and part, from the forms in which they are kept.

    path label      one a line; the label is what follows the last space, tab, comma or semicolon
    CSV, TSV        with a header that names the columns
    JSON lines      an object a line; or one JSON list of them
    COCO            one JSON object with `images`, `annotations` and `categories`

It knows nothing of classes, folders or images.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breadcrumbs.training.data import coco
from breadcrumbs.training.data.class_folders import PARTS, Part
from breadcrumbs.training.data.faults import Faults
from breadcrumbs.training.data.image_files import SUFFIXES, suffix_of
from breadcrumbs.training.data.split import DataError

PATHS = ("file_name", "filename", "path", "file_path", "filepath", "file", "image", "image_path", "img", "img_path")
LABELS = (
    *("class_name", "label_name", "category_name", "label", "class", "category", "target", "species"),
    *("labels", "class_label", "class_id", "label_id", "category_id"),
)
"""Names of the column of labels, those of names before those of numbers."""
SPLITS = ("split", "subset", "partition", "set")
HEADER = "file_name,label"
"""An example of a first line."""
LINE = "path label"


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a list: where in the list, its path as it stands there, label, and part if the list has parts."""

    line: int
    path: str
    label: str
    part: Part | None = None


@dataclass(frozen=True)
class Rows:
    """The content of a list.

    Attributes:
        rows: of its images.
        named: whether a number is a class's name, as under a header; else it is the class's place, from 0.
        order: the classes in their order, where the list says it.
        notes: what the list has that is not used, in words.
    """

    rows: list[Row]
    named: bool = False
    order: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def read(file: Path) -> Rows:
    """Read a list in any form.

    Raises:
        DataError: it cannot be read, or a line says no path and label; with the line to write instead.
    """
    text = _text(file)
    first = next((line for line in text.split("\n") if line.strip()), "")
    if re.match(r"\s*(\{|\[\s*([{\]]|$))", first):
        found = _from_json(file, text)
    elif (delimiter := _header(file, first)) is not None:
        found = Rows(_from_table(file, text, delimiter), named=True)
    else:
        found = Rows(_from_lines(file, text, _delimiter(first)))
    if not found.rows:
        raise DataError(f"{file} names no image; expected '{LINE}' lines, or CSV that begins with {HEADER}")
    return found


def _text(file: Path) -> str:
    """The text of a list, with plain newlines."""
    if not file.is_file():
        raise DataError(f"no list file at {file}")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from error
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # UTF-16, which spreadsheets call Unicode text
    if b"\0" in data and not wide:
        raise DataError(f"{file} is not a list file: it is not text; unpack an archive first")
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except ValueError as error:
        raise DataError(f"{file} is not a list file: it is not text in UTF-8; save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _column(name: str) -> str:
    return re.sub(r"[\s.-]+", "_", name.strip().lower())


def _header(file: Path, first: str) -> str | None:
    """The delimiter of a table whose first line names its columns; None means it is no table."""
    for delimiter in (",", "\t", ";"):
        columns = [_column(name) for name in next(csv.reader([first], delimiter=delimiter), [])]
        if len(columns) < 2 and delimiter != ",":
            continue
        path, label = (set(names).intersection(columns) for names in (PATHS, LABELS))
        if path and label:
            return delimiter
        if (path or label) and not any(suffix_of(name) in SUFFIXES for name in columns):
            missing, names = ("label", LABELS) if path else ("path", PATHS)
            raise DataError(
                f"{file}: the first line names columns {', '.join(columns)}, none for the {missing}; expected one of "
                f"{', '.join(names[:6])}, so that the first line is for example {HEADER}"
            )
    return None


def _from_table(file: Path, text: str, delimiter: str) -> list[Row]:
    faults = Faults(str(file))
    rows = []
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        for cells in reader:
            if None in cells or None in cells.values():
                faults.add(
                    f"{file}:{reader.line_num}: expected {len(reader.fieldnames or ())} columns as in the header"
                )
            elif row := _row(file, reader.line_num, cells, faults):
                rows.append(row)
    except csv.Error as error:
        raise DataError(f"{file}:{reader.reader.line_num}: {error}; quote a cell with commas or quotes") from error
    faults.tell()
    return rows


def _row(file: Path, line: int, cells: Mapping[str, Any], faults: Faults) -> Row | None:
    """One row of a table or one object; what is wrong with it is a fault."""
    own = {_column(str(name)): value for name, value in cells.items()}
    path = next((own[name] for name in PATHS if name in own), None)
    label = next((own[name] for name in LABELS if name in own), None)
    if not isinstance(path, str) or not path.strip():
        faults.add(f"{file}:{line}: expected a path under one of {', '.join(PATHS[:6])}, got {path!r:.80}")
        return None
    word = _label(label)
    if not word:
        faults.add(f"{file}:{line}: expected one class under one of {', '.join(LABELS[:6])}, got {label!r:.80}")
        return None
    part = next((own[name] for name in SPLITS if name in own), None)
    if part in (None, ""):
        return Row(line, path.strip(), word)
    known = PARTS.get(str(part).strip().lower())
    if known is None:
        faults.add(f"{file}:{line}: split {part!r:.80}: expected train, validation or test")
    return Row(line, path.strip(), word, known)


def _label(value: object) -> str:
    """A label as text; a whole number without its point; empty where it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = str(value).strip()
    return re.sub(r"^(-?[0-9]+)\.0+$", r"\1", text)


def _delimiter(first: str) -> str:
    """What stands between path and label in a list without a header."""
    if "\t" in first:
        return "\t"
    for delimiter in (",", ";"):
        cells = next(csv.reader([first], delimiter=delimiter), [])
        if len(cells) == 2 and suffix_of(cells[0].strip()) in SUFFIXES:
            return delimiter
    return " "


def _from_lines(file: Path, text: str, delimiter: str) -> list[Row]:
    faults = Faults(str(file))
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        path, label = _cells(line.strip(), delimiter)
        if not path or not label or suffix_of(label) in SUFFIXES:
            faults.add(f"{file}:{number}: expected '{LINE.replace(' ', delimiter)}', got {line!r:.120}")
        else:
            rows.append(Row(number, path, label))
    faults.tell()
    return rows


def _cells(line: str, delimiter: str) -> tuple[str, str]:
    """Path and label of one line, without the quotes around them."""
    if delimiter in ",;":
        cells: Sequence[str] = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        path, label = cells if len(cells) == 2 else ("", "")
    else:
        path, _, label = line.rpartition(delimiter)
    return _unquoted(path.strip()), _unquoted(label.strip())


def _unquoted(cell: str) -> str:
    return cell[1:-1] if len(cell) > 2 and cell[0] == cell[-1] and cell[0] in "\"'" else cell


def _from_json(file: Path, text: str) -> Rows:
    """JSON lines, a JSON list, or COCO."""
    try:
        whole = json.loads(text)
    except ValueError:  # JSON lines: an object in each line
        return Rows(_from_objects(file, _lines_of_json(file, text)), named=True)
    except RecursionError as error:
        raise DataError(f"{file}: JSON nested too deep") from error
    if isinstance(whole, dict) and "images" in whole:
        found = coco.read(file, whole)
        return Rows([Row(*row) for row in found.rows], named=True, order=found.classes, notes=found.notes)
    objects = whole if isinstance(whole, list) else [whole]
    return Rows(_from_objects(file, enumerate(objects, 1)), named=True)


def _lines_of_json(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{file}:{number}: not a JSON object ({error}); expected a line as "
                    '{"file_name": "a.jpg", "label": "oak"}'
                ) from error


def _from_objects(file: Path, objects: Iterator[tuple[int, Any]]) -> list[Row]:
    faults = Faults(str(file))
    rows = []
    for line, value in objects:
        if not isinstance(value, dict):
            faults.add(f'{file}:{line}: expected an object as {{"file_name": "a.jpg", "label": "oak"}}')
        elif row := _row(file, line, value, faults):
            rows.append(row)
    faults.tell()
    return rows
