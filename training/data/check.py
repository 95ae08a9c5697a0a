"""Checks of labelled images before a run starts: faults, and notes.

It knows nothing of where images come from.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data import class_names, image_check, same_pictures
from breadcrumbs.training.data.faults import Faults
from breadcrumbs.training.data.split import Data, Split


def check(
    splits: Mapping[str, Split], classes: Sequence[str], config: TrainConfig, faults: Faults, *, show: bool
) -> list[str]:
    """Check names, labels and every file.

    Args:
        splits: training and, where there is one, test, each by its name in a message.
        classes: the names.
        config: how thoroughly.
        faults: collects what is wrong.
        show: show progress.

    Returns:
        Notes, a sentence each.
    """
    faults.extend(class_names.faults(classes))
    for name, split in splits.items():
        faults.extend(_outside(name, split, classes))
    faults.extend(_listed_twice(splits.values()))
    paths = [path for split in splits.values() for path in split.paths or ()]
    marks = []
    for path, seen in zip(
        paths, image_check.look(paths, config.max_pixels, full=config.check == "full", show=show), strict=True
    ):
        marks.append(seen.mark)
        if seen.defect is not None:
            faults.add(f"{path}: {seen.defect}", remedy=_remedy(seen.defect, config))
    notes = list(class_names.alike(classes))
    if paths and not faults.count:
        notes += same_pictures.sentences(list(splits.values()), marks, classes)
    return notes


def _remedy(defect: str, config: TrainConfig) -> str:
    """If a file is missing, where the paths of a list lead."""
    if defect != os.strerror(errno.ENOENT) or Path(config.data).is_dir():
        return ""
    if config.images is None:
        return f"paths in a list are relative to its folder, {Path(config.data).parent}; --images names another"
    return f"paths in a list are relative to --images, {config.images}"


def check_presence(data: Data, instead: Mapping[str, str], faults: Faults, *, tested: str | None) -> None:
    """Find too few classes, classes without training images, and a test set without images.

    Args:
        data: what to check.
        instead: for a class without images, what its folder has.
        faults: collects what is wrong.
        tested: where the test images are from; None means they were held out.
    """
    if len(data.train) == 0 and len(data.test) == 0:
        faults.add("there is no image")
        return
    if len(data.classes) == 1:
        faults.add(f"there is one class, '{data.classes[0]}'; expected at least two: a folder, or a label, for each")
    present = set(data.train.labels.tolist())
    for label, name in enumerate(data.classes):
        if label not in present:
            there = f"; it has {instead[name]}" if name in instead else ""
            faults.add(f"class '{name}' has no training image{there}")
    if len(data.test) == 0 and len(data.classes) > 1 and present:
        why = "every class has one image, which training keeps" if tested is None else f"{tested} has none"
        faults.add(f"there is no test image: {why}; name some with --test-data")


def _outside(name: str, split: Split, classes: Sequence[str]) -> Iterator[str]:
    for row in np.flatnonzero((split.labels < 0) | (split.labels >= len(classes))):
        yield f"{split.name(int(row))}: label {split.labels[row]} in {name}, expected 0 … {len(classes) - 1}"


def _listed_twice(splits: Iterable[Split]) -> Iterator[str]:
    seen = set[str]()
    for path in (path for split in splits for path in split.paths or ()):
        plain = os.path.normpath(str(path))
        if plain in seen:
            yield f"{path}: listed twice"
        seen.add(plain)
