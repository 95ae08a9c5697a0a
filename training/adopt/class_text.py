"""The words for each class: its name, or other ones from a file, in sentences such as "a photo of a {}".

It knows nothing of text towers or of images.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from breadcrumbs.models.files import open_regular
from breadcrumbs.training.adopt.opened import AdoptError
from breadcrumbs.training.data.class_names import faults, plain

TEMPLATES = ("a photo of a {}",)
"""The sentence that a class's words are put into, unless others are named."""
COLUMNS = ["class", "text"]
MOST_BYTES = 2**24
"""Of a file of words."""


def read_words(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a CSV file with the columns `class` and `text`; several rows of a class are several words for it.

    Raises:
        AdoptError: it cannot be read, has other columns, or a class or a text in it cannot be used.
    """
    reader = csv.DictReader(io.StringIO(_text(path), newline=""))
    if sorted(reader.fieldnames or ()) != COLUMNS:
        raise AdoptError(
            f"{path} has the columns {', '.join(reader.fieldnames or ()) or 'none'!s:.200}; expected a first line "
            "`class,text`, and a line for each class"
        )
    words: dict[str, tuple[str, ...]] = {}
    try:
        for row in reader:
            name, text = ((row[column] or "").strip() for column in COLUMNS)
            if not name or not text or None in row:
                raise AdoptError(
                    f"{path}, line {reader.line_num}: expected a class and a text, quoted if it has commas"
                )
            words[plain(name)] = (*words.get(plain(name), ()), text)
    except csv.Error as error:
        raise AdoptError(f"{path}, line {reader.line_num}: {error}; expected CSV") from error
    for fault in faults(words):
        raise AdoptError(f"{path}: {fault}")
    return words


def _text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise AdoptError(f"{path} is larger than {MOST_BYTES} bytes; expected a CSV file of classes and texts")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise AdoptError(f"cannot read --class-text {path} ({error.strerror}); name a CSV file") from error
    except UnicodeDecodeError as error:
        raise AdoptError(f"{path} is not UTF-8 text; save it as UTF-8") from error


def sentences(
    classes: Sequence[str], words: Mapping[str, tuple[str, ...]], templates: Sequence[str]
) -> list[list[str]]:
    """Return the sentences of each class: its words, or its name with spaces for `_`, in every template."""
    return [
        [template.replace("{}", text) for text in words.get(name, (name.replace("_", " "),)) for template in templates]
        for name in classes
    ]
