"""Which images there are to train on and to test on, checked before anything starts.

They are the embedded Fashion-MNIST-LT, a standard set in long-tailed form (`training.data.standard`), or one's own
(`training.data.sources`). It knows nothing of batches, augmentation or torch.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.training.config import EMBEDDED, STANDARD, TrainConfig
from breadcrumbs.training.data import image_set, sources, standard
from breadcrumbs.training.data.check import check, check_presence
from breadcrumbs.training.data.faults import Faults
from breadcrumbs.training.data.sources import Found
from breadcrumbs.training.data.split import Data, DataError, Split
from breadcrumbs.training.data.taxonomy import with_taxonomy

__all__ = ["Data", "DataError", "Images", "Split", "held_out", "images", "load"]

LOG = logging.getLogger("breadcrumbs.data")

EMBEDDED_FILE = Path(__file__).with_name("embedded") / "fashion-mnist-lt.npz"


@dataclass(frozen=True)
class Images:
    """Labelled images, nothing held out.

    Attributes:
        split: the images.
        classes: the names; a class may be without images.
        notes: as in `Data`.
    """

    split: Split
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def load(config: TrainConfig, *, show: bool = True) -> Data:
    """Find the images that a configuration names, and check them all.

    Args:
        config: which images.
        show: show progress and log the notes; with several processes, in one of them.

    Raises:
        DataError: naming unreadable files, empty classes, labels out of range and paths that occur twice; or a setting
            that is not for this source; or the taxonomy cannot be read.
        TaxonomyError: the taxonomy is damaged, or has no place for a class.
    """
    return with_taxonomy(_images_of(config, show=show), config.taxonomy)


def _images_of(config: TrainConfig, *, show: bool) -> Data:
    """The images, without a taxonomy."""
    if config.data not in STANDARD:
        _refuse_settings_of_standard_sets(config)
    if config.data == EMBEDDED:
        return _embedded()
    if config.data in STANDARD:
        data = standard.load(config)
        found = Found(data.train, data.classes, data.test)
    else:
        found = sources.find(config, show=show)
        data = _hold_out(found, config) if found.test is None else Data(found.train, found.test, found.classes)
    data = replace(data, train=_limited(data.train, config), test=_limited(data.test, config))
    faults = Faults("the data")
    seen = check({"train": data.train, "test": data.test}, data.classes, config, faults, show=show)
    tested = None if found.test is None else config.test_data or config.data
    check_presence(data, found.instead, faults, tested=tested)
    faults.tell()
    data = _named(data, found)
    return replace(data, notes=_noted((*found.notes, *seen), show=show))


def images(config: TrainConfig) -> Images:
    """Find all training images that a configuration names, nothing held out, and the names of their classes.

    Where the data has parts of its own, it is the part `train`.

    Raises:
        DataError: as `load`.
    """
    if config.data in (EMBEDDED, *STANDARD):
        data = _images_of(config, show=True)
        return Images(data.train, data.classes, data.notes)
    _refuse_settings_of_standard_sets(config)
    found = sources.find(config, tested=False)
    faults = Faults("the data")
    seen = check({"the data": found.train}, found.classes, config, faults, show=True)
    if len(found.train) == 0:
        faults.add(f"there is no image in {config.data}")
    faults.tell()
    split = replace(found.train, dataset=image_set.digest(found.train))
    return Images(_limited(split, config), found.classes, _noted((*found.notes, *seen), show=True))


def _named(data: Data, found: Found) -> Data:
    """Name the set that the ids of each split number: what is held out is of the set that it was taken from."""
    train = found.train.dataset or image_set.digest(found.train)
    test = train if found.test is None else image_set.digest(found.test)
    return replace(data, train=replace(data.train, dataset=train), test=replace(data.test, dataset=test))


def _limited(split: Split, config: TrainConfig) -> Split:
    return replace(split, max_pixels=config.max_pixels)


def _noted(notes: tuple[str, ...], *, show: bool) -> tuple[str, ...]:
    if show:
        for note in notes:
            LOG.warning("%s", note)
    return notes


def _refuse_settings_of_standard_sets(config: TrainConfig) -> None:
    given = {"imbalance": config.imbalance, "largest": config.largest, "download": config.download or None}
    for name, value in given.items():
        if value is not None:
            raise DataError(f"--{name} is for {' and '.join(STANDARD)} only; --data is {config.data}")


def _embedded() -> Data:
    with np.load(EMBEDDED_FILE, allow_pickle=False) as file:
        train, test = (
            Split(file[f"{s}_labels"], file[f"{s}_ids"], pixels=file[f"{s}_images"]) for s in ("train", "test")
        )
        classes = tuple(str(name) for name in file["classes"])
    return _named(Data(train, test, classes), Found(train, classes, test))


def _hold_out(found: Found, config: TrainConfig) -> Data:
    """Hold out a seeded share of each class; a class with one image keeps it for training."""
    everything = found.train
    held = held_out(everything.labels, len(found.classes), config.holdout, config.seed)
    return Data(everything.take(np.flatnonzero(~held)), everything.take(np.flatnonzero(held)), found.classes)


def held_out(labels: NDArray[np.int64], classes: int, share: float, seed: int) -> NDArray[np.bool_]:
    """Mark a seeded share of each class's rows (N,), at least one; a class with one row keeps it for training.

    Args:
        labels: int64 (N,).
        classes: C.
        share: between 0 and 1.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in range(classes):
        own = rng.permutation(np.flatnonzero(labels == label))
        count = min(len(own) - 1, max(1, round(share * len(own)))) if len(own) > 1 else 0
        held[own[:count]] = True
    return held
