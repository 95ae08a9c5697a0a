"""The user's own images: in a folder, in shards or in a list; found, not yet checked.

It knows nothing of the standard sets, of hold-out or of what an image must be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from breadcrumbs.training.config import EMBEDDED, STANDARD, TrainConfig
from breadcrumbs.training.data import class_folders, lists, shards
from breadcrumbs.training.data.image_files import Unused
from breadcrumbs.training.data.split import DataError, Split


@dataclass(frozen=True)
class Found:
    """The content of a source.

    Attributes:
        train: the training images.
        classes: the names; a class may be without images.
        test: the test images; None means the source has none.
        notes: what is not used, as sentences.
        instead: for a class without images, what its folder has.
    """

    train: Split
    classes: tuple[str, ...]
    test: Split | None = None
    notes: tuple[str, ...] = ()
    instead: Mapping[str, str] = field(default_factory=dict)


def find(config: TrainConfig, *, tested: bool = True, show: bool = True) -> Found:
    """Find the images that a configuration names.

    Args:
        config: names them.
        tested: also find the test images.
        show: show progress.

    Raises:
        DataError: there are none of this name, or they are not laid out as a source is.
    """
    check_place(config)
    source = Path(config.data)
    if shards.are_shards(config.data):
        return _in_shards(config, tested=tested, show=show)
    if source.is_dir():
        return _in_folder(source, config, tested=tested)
    return _in_list(source, config, tested=tested)


def check_place(config: TrainConfig) -> None:
    """Check that the path or pattern in a configuration exists; nothing is read.

    Raises:
        DataError: it does not exist.
    """
    known = (EMBEDDED, *STANDARD)
    if config.data in known or shards.are_shards(config.data) or Path(config.data).exists():
        return
    names = ", ".join(f"'{name}'" for name in known)
    raise DataError(
        f"no data at {config.data}; expected {names}, a folder with a folder per class, or a list file; or "
        "shards as train-{000..011}.tar"
    )


def _in_folder(source: Path, config: TrainConfig, *, tested: bool) -> Found:
    unused = Unused()
    found = class_folders.find(source, unused)
    classes = tuple(found.classes)
    instead: dict[str, str] = {}
    train = _of_classes(found.classes, classes, unused, instead)
    place = found.test if config.test_data is None else Path(config.test_data)
    test = None
    if found.test is not None and not (tested and place == found.test):
        unused.add_folder(str(found.test), found.test.name)
    if tested and place is not None:
        folders = class_folders.of_test(place, classes, found.train, unused)
        test = _of_classes(folders, classes, unused, {})
    return Found(train, classes, test, tuple(unused.sentences()), instead)


def _of_classes(folders: Mapping[str, Path], classes: Sequence[str], unused: Unused, instead: dict[str, str]) -> Split:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        own = Unused()
        found = class_folders.images(folders[name], own) if name in folders else []
        if not found and own.files:
            instead[name] = own.words()
        unused.update(own)
        paths += found
        labels += [label] * len(found)
    return Split(np.array(labels, np.int64), np.arange(len(paths)), paths=tuple(paths))


def _in_shards(config: TrainConfig, *, tested: bool, show: bool) -> Found:
    train, classes = _read_shards(config.data, shards.class_names(config.data), show=show)
    if not tested or config.test_data is None:
        return Found(train, classes)
    if not shards.are_shards(config.test_data):
        raise DataError(f"--test-data {config.test_data}: --data names shards, so expected shards")
    return Found(train, classes, _read_shards(config.test_data, classes, show=show)[0])


def _read_shards(pattern: str, classes: Sequence[str] | None, *, show: bool) -> tuple[Split, tuple[str, ...]]:
    """The samples class by class, as folders have them."""
    samples = shards.index(pattern, show=show)
    labels, names = shards.labelled(samples, classes)
    order = np.argsort(np.array(labels, np.int64), kind="stable")
    paths = tuple(samples[row].span for row in order)
    return Split(np.array(labels, np.int64)[order], np.arange(len(order)), paths=paths), names


def _in_list(source: Path, config: TrainConfig, *, tested: bool) -> Found:
    found = lists.read(source, config.images)
    test = found.test if tested else None
    if tested and config.test_data is not None:
        test = lists.read_test(Path(config.test_data), config.images, found.classes)
    return Found(found.train, found.classes.names, test, found.notes)
