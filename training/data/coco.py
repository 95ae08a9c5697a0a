"""Lists in COCO's form, as iNaturalist's: images, categories, and annotations that join them.

It knows nothing of classes' numbers or of other lists.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breadcrumbs.training.data.faults import Faults
from breadcrumbs.training.data.split import DataError


@dataclass(frozen=True)
class Found:
    """The content of a COCO file.

    Attributes:
        rows: place among the images (from 1), path and category of each image that has one.
        classes: the categories of these images in the order of their numbers.
        notes: what is not used, in words.
    """

    rows: list[tuple[int, str, str]]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def read(file: Path, whole: dict[str, Any]) -> Found:
    """Read the three lists.

    Raises:
        DataError: a list is not there, names what is not there, or an image has several categories.
    """
    images, annotations, categories = (_objects(file, whole, name) for name in ("images", "annotations", "categories"))
    faults = Faults(str(file))
    names = _names(file, categories)
    categories_of = _categories_of(file, annotations, names, faults)
    rows = []
    without = 0
    for place, image in enumerate(images, 1):
        path, number = image.get("file_name"), image.get("id")
        own = categories_of.pop(_key(number), None)
        if not isinstance(path, str) or not path:
            faults.add(f"{file}: image {number!r:.80}: expected file_name, got {path!r:.80}")
        elif own is None:
            without += 1
        else:
            rows.append((place, path, names[own]))
    for number in list(categories_of):
        faults.add(f"{file}: an annotation is of image {number!r:.80}, which is not among the images")
    faults.tell()
    used = {name for _, _, name in rows}
    classes = tuple(name for name in names.values() if name in used)
    notes = [f"{without} images without an annotation"] if without else []
    if len(used) < len(names):
        notes.append(f"{len(names) - len(used)} categories without an image")
    return Found(rows, classes, tuple(f"not used: {note} in {file.name}" for note in notes))


def _objects(file: Path, whole: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = whole.get(name)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        got = "nothing" if found is None else type(found).__name__
        raise DataError(
            f"{file}: expected COCO's lists of objects images, annotations and categories; '{name}' is {got}; a list "
            'of other JSON has lines as {"file_name": "a.jpg", "label": "oak"}'
        )
    return found


def _key(number: Any) -> Any:
    return number if isinstance(number, str | int) else repr(number)


def _names(file: Path, categories: list[dict[str, Any]]) -> dict[Any, str]:
    """The categories' names by their numbers, in the order of the numbers."""
    faults = Faults(str(file))
    for category in categories:
        if not isinstance(category.get("id"), int) or not isinstance(category.get("name"), str | int):
            faults.add(f"{file}: category {category!r:.120}: expected a number as id, and a name")
    faults.tell()
    names = {one["id"]: str(one["name"]).strip() for one in sorted(categories, key=lambda one: int(one["id"]))}
    for what, values in (("id", [one["id"] for one in categories]), ("name", list(names.values()))):
        for value, count in Counter(values).items():
            if count > 1:
                faults.add(f"{file}: {count} categories have the {what} {value!r:.120}; each must have its own")
    faults.tell()
    return names


def _categories_of(
    file: Path, annotations: list[dict[str, Any]], names: dict[Any, str], faults: Faults
) -> dict[Any, Any]:
    """The category of each image that has one."""
    found: dict[Any, Any] = {}
    several = set()
    for annotation in annotations:
        image, category = _key(annotation.get("image_id")), _key(annotation.get("category_id"))
        if category not in names:
            faults.add(
                f"{file}: an annotation of image {image!r:.80} has category {category!r:.80}, which is not there"
            )
        elif found.setdefault(image, category) != category and image not in several:
            several.add(image)
            one, other = names[found[image]], names[category]
            faults.add(f"{file}: image {image!r:.80} is '{one}' and '{other}'; a picture here is of one class")
    return found
