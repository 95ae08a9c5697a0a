"""A folder with a folder per class: which of its folders are classes, which are parts, and the images in each class.

The parts (`train`, `test`, `val` and their other names, in any case) are told apart from classes of these names by
their content: a part has folders of images, a class has images. It knows nothing of hold-out or of what an image must
be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from breadcrumbs.training.data import class_names
from breadcrumbs.training.data.image_files import (
    BACK,
    NO_SUFFIX,
    Unused,
    entries,
    identities,
    identity,
    is_folder,
    is_image,
    is_left_out,
    suffix_of,
    walk,
)
from breadcrumbs.training.data.split import DataError

Part = Literal["train", "test", "validation"]
PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
}
METADATA = ("metadata.csv", "metadata.jsonl")
"""List files that a folder may contain, as those of Hugging Face do."""
SHOWN = 20  # names in one message


@dataclass(frozen=True)
class Folders:
    """Where the classes' folders are.

    Attributes:
        train: the folder of the classes.
        test: the same for the test images; None if there are none.
        classes: the folder of each class by its name, in the order of names.
    """

    train: Path
    test: Path | None
    classes: dict[str, Path]


def find(source: Path, unused: Unused) -> Folders:
    """Find the classes, and the test images beside them.

    Raises:
        DataError: there is no image; the images are in no class; the folder is one too high or too low; a name cannot
            be a class's; or it cannot be told whether `train` is a class.
    """
    children = _folders(source, unused)
    parts = _parts(children)
    rest = [child for child in children if child not in parts and _has_image(child)] if parts else []
    train = _train(source, parts, rest)
    if train is None:
        test = _test_beside_classes(source, parts, rest)
        root, own = source, [child for child in children if child != test]
    else:
        test = _test(source, parts)
        root, own = train, _folders(train, unused)
        for folder in children:
            if folder not in {train, test}:
                unused.add_folder(str(folder), folder.name)
    _refuse_another_level(root, own, unused)
    return Folders(root, test, named(own))


def named(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the classes' folders by their names.

    Raises:
        DataError: a name cannot be a class's, or two are the same to Unicode.
    """
    faults = list(class_names.faults(folder.name for folder in folders))
    if faults:
        parent = folders[0].parent
        more = f"\n… and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(f"{parent}: its folders are the classes, and\n" + "\n".join(faults[:SHOWN]) + more)
    return dict(sorted((class_names.plain(folder.name), folder) for folder in folders))


def of_test(test: Path, classes: Sequence[str], train: Path, unused: Unused) -> dict[str, Path]:
    """Return the folders of the test images by class.

    Raises:
        DataError: there is no such folder, or it has classes that the training images do not have.
    """
    if not test.is_dir():
        raise DataError(f"no test folder at {test}")
    found = named(_folders(test, unused))
    known = {name.casefold(): name for name in classes}
    extra = [
        f"{name} (there it is '{known[name.casefold()]}')" if name.casefold() in known else name
        for name in sorted(set(found) - set(classes))
    ]
    if extra:
        more = f" and {len(extra) - SHOWN} more" if len(extra) > SHOWN else ""
        raise DataError(f"{test} has classes that {train} does not have: {', '.join(extra[:SHOWN])}{more}")
    if not found and _has_image(test):
        raise DataError(f"{test} has images, but no class folders; expected {test}/CLASS/IMAGE")
    return found


def images(folder: Path, unused: Unused) -> list[Path]:
    """Return the images of a class, at any depth, in the order of their paths."""
    return sorted(walk(folder, unused))


def _folders(root: Path, unused: Unused) -> list[Path]:
    """The folders in a folder; other entries are counted."""
    found = []
    above = identities(root)
    for entry in entries(root):
        if entry.is_symlink() and is_folder(entry) and identity(entry.path) in above:
            unused.folders[f"{entry.name} ({BACK})"] += 0
        elif is_left_out(entry.name):
            if is_folder(entry):
                unused.add_folder(entry.path, entry.name)
        elif is_folder(entry):
            found.append(Path(entry.path))
        else:
            unused.files[f"{suffix_of(entry.name) or NO_SUFFIX} beside the folders"] += 1
    return found


def _parts(children: Sequence[Path]) -> dict[Path, Part]:
    return {child: part for child in children if (part := PARTS.get(class_names.plain(child.name).lower()))}


def _train(source: Path, parts: dict[Path, Part], rest: Sequence[Path]) -> Path | None:
    """The folder of the training part; None means that the folder itself has the classes."""
    trains = [child for child, part in parts.items() if part == "train"]
    others = [child.name for child, part in parts.items() if part != "train"]
    if len(trains) > 1:
        raise DataError(f"{source} has {_words(trains)}, which are all training images; put them together in one")
    if not trains:
        if others and not rest:
            raise DataError(
                f"{source} has {' and '.join(others)}, but no folder train; name the training images with --data, and "
                "these with --test-data"
            )
        return None
    train = trains[0]
    if not _holds_classes(train):
        if not others and rest:
            return None  # a class of that name among others
        what = "images, but no class folders" if _has_image(train) else "no image in it"
        listed = _listed(train)
        raise DataError(f"{train} has {what}; expected {train}/CLASS/IMAGE{listed}")
    if not others and len(rest) > 1 and not any(_holds_classes(child) for child in rest):
        raise DataError(
            f"{source}: is train a class, as {_words(rest)} beside it, or the training images? It has folders in it: "
            f"if these are the classes, --data {train}; if train is a class, put its images into it without folders"
        )
    return train


def _test(source: Path, parts: dict[Path, Part]) -> Path | None:
    """The part to test on: `test`, else `val`; what has no class folders is without labels and left."""
    for wanted in ("test", "validation"):
        own = [child for child, part in parts.items() if part == wanted and _holds_classes(child)]
        if len(own) > 1:
            raise DataError(f"{source} has {_words(own)}; say which are the test images with --test-data")
        if own:
            return own[0]
    return None


def _test_beside_classes(source: Path, parts: dict[Path, Part], rest: Sequence[Path]) -> Path | None:
    """A part beside the classes themselves: one whose folders are these classes; any other is a class of that name."""
    names = {class_names.plain(child.name) for child in rest}
    found = [
        child
        for child in parts
        if _holds_classes(child)
        and {class_names.plain(own.name) for own in _folders(child, Unused()) if _has_image(own)} <= names
    ]
    if len(found) > 1:
        raise DataError(f"{source} has {_words(found)}; say which are the test images with --test-data")
    return found[0] if found else None


def _refuse_another_level(root: Path, classes: Sequence[Path], unused: Unused) -> None:
    """Refuse a folder without images, one with images in no class, and one that has the folder of the classes in it."""
    filled = list(islice((folder for folder in classes if _has_image(folder)), 2))
    if not filled:
        count = _count_images(root)
        if count:
            some = f"{count} image{'s' if count > 1 else ''}"
            raise DataError(f"{root} has {some}, but no class folders; expected {root}/CLASS/IMAGE{_listed(root)}")
        for folder in classes:
            images(folder, unused)
        raise DataError("; ".join([f"there is no image in {root}", *unused.sentences()]))
    if len(filled) == 1 and _holds_classes(filled[0]):
        one = filled[0]
        raise DataError(
            f"{root} has one folder with images, {one.name}, and that has folders: if these are the classes, "
            f"--data {one}; if {one.name} is the class, put its images into it without folders"
        )


def _listed(folder: Path) -> str:
    """What to write where a list names the classes of a folder's images."""
    found = next((folder / name for name in METADATA if (folder / name).is_file()), None)
    return f", or the list that names the classes: --data {found}" if found else ""


def _holds_classes(folder: Path) -> bool:
    """Whether images are in folders of it: in several, or in one with none beside it."""
    filled = sum(_has_image(own) for own in _folders(folder, Unused()))
    return filled > 1 or (filled == 1 and not _count_images(folder, most=1))


def _has_image(folder: Path) -> bool:
    return next(walk(folder, Unused()), None) is not None


def _count_images(folder: Path, most: int | None = None) -> int:
    """Images directly in a folder, counted up to a limit."""
    found = (
        entry
        for entry in entries(folder)
        if not is_folder(entry) and not is_left_out(entry.name) and is_image(entry, Unused())
    )
    return sum(1 for _ in islice(found, most))


def _words(folders: Sequence[Path]) -> str:
    names = [folder.name for folder in folders[:SHOWN]]
    return " and ".join(names) if len(folders) <= SHOWN else ", ".join(names) + f" and {len(folders) - SHOWN} more"
