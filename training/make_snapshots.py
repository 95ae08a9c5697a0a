"""Snapshots of images for a refit, made with a bundle's backbone by ONNX Runtime.

It knows nothing of heads or of what a snapshot is used for.

Letters: N images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.images.decoding import MAX_PIXELS
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.config import Check, TrainConfig
from breadcrumbs.training.data.class_names import plain
from breadcrumbs.training.data.dataset import DataError, images
from breadcrumbs.training.data.loader import augmented_batches, evaluation_batches
from breadcrumbs.training.export import open_session
from breadcrumbs.training.measure import config_of
from breadcrumbs.training.run.snapshots import path_of
from breadcrumbs.training.terminal.bars import track


@dataclass(frozen=True)
class Written:
    """The snapshots that were written, and what they hold.

    Attributes:
        paths: of the files, the oldest epoch first.
        rows: number of images of each class that has some, by name.
        new: those of these classes that the bundle does not know.
        notes: remarks on the data that are not errors, a sentence each.
    """

    paths: tuple[Path, ...]
    rows: dict[str, int]
    new: tuple[str, ...]
    notes: tuple[str, ...] = ()


def make_snapshots(
    bundle: Bundle,
    out: Path,
    *,
    data: str | None = None,
    folder: Path | None = None,
    epochs: int = 1,
    clean: bool = False,
    check: Check = "headers",
    max_pixels: int = MAX_PIXELS,
    workers: int = 0,
) -> Written:
    """Pass images through a bundle's backbone and write a snapshot of each epoch.

    Every epoch is augmented anew as the bundle's recipe says; the same data, seed and epoch give the same snapshot. An
    image's id is its row in the data, so later epochs of the same data have the same ids, and `dataset` says that they
    are of the same data, as do the snapshots of a training run on it. Classes are matched by name;
    those that the bundle does not know come after its own. Epochs are numbered from the bundle's newest snapshot on.

    Args:
        bundle: has the backbone, and the classes that come first.
        out: folder for `epoch-0038.safetensors` and so on.
        data: the images, as for training, with none held out; None means those that the bundle was trained on.
        folder: root of the paths in list files.
        epochs: number of epochs.
        clean: one epoch, with the transform of evaluation.
        check: how the images are checked first.
        max_pixels: largest number of pixels in one image.
        workers: processes that decode and augment.

    Raises:
        DataError: the images cannot be used, the bundle cannot augment, or a snapshot would be overwritten.
        SnapshotError: a feature is not finite.
        BundleError: the bundle has no backbone.
    """
    bundle.check_backbone()
    if epochs < 1 or (clean and epochs > 1):
        raise DataError(f"--epochs {epochs}: expected at least 1, and 1 with --clean, since clean epochs are all equal")
    config = _config(bundle, data, folder, workers, check, clean=clean).model_copy(update={"max_pixels": max_pixels})
    found = images(config)
    split, names = found.split, found.classes
    classes, labels = _labels(bundle.manifest.classes, names, split.labels)
    first = 1 + max((snapshot.epoch for snapshot in bundle.snapshots()), default=0)
    paths = [path_of(out, epoch) for epoch in range(first, first + epochs)]
    taken = [str(path) for path in paths if path.exists()]
    if taken:
        raise DataError(f"{taken[0]} exists already; choose another folder with --out")
    session = open_session(bundle.backbone())
    for epoch, path in enumerate(paths, first):
        batches = (
            evaluation_batches(split, bundle.preprocess, config)
            if clean
            else augmented_batches(split, config, epoch, bundle.preprocess.interpolation)
        )
        made = [
            session.run(None, {"image": pixels.numpy()})[0]
            for pixels, _, _ in track(batches, len(batches), f"epoch {epoch}")
        ]
        digest = bundle.backbone_digest
        look = Snapshot(np.concatenate(made), labels, classes, digest, epoch, ids=split.ids, dataset=split.dataset)
        snapshots.write(path, look)
    rows = {classes[c]: int(n) for c, n in enumerate(np.bincount(labels)) if n}
    return Written(tuple(paths), rows, classes[len(bundle.manifest.classes) :], found.notes)


def _config(
    bundle: Bundle, data: str | None, folder: Path | None, workers: int, check: Check, *, clean: bool
) -> TrainConfig:
    """The part of the bundle's recipe that says where images are and how they are augmented."""
    preprocess = bundle.preprocess
    if not clean and preprocess.height != preprocess.width:
        raise DataError(
            f"the bundle's input is {preprocess.height} × {preprocess.width}; augmentation makes squares: use --clean"
        )
    recipe = bundle.manifest.recipe
    augmentation = recipe.get("augmentation", TrainConfig.model_fields["augmentation"].default)
    known = config_of(bundle, data=data, images=folder).model_dump()
    changed = {"augmentation": augmentation, "size": preprocess.height, "workers": workers, "check": check}
    if data is not None:  # these fields are about the recipe's own data
        changed |= {"test_data": None, "imbalance": None, "largest": None, "download": False}
    return TrainConfig.model_validate({**known, **changed})


def _labels(
    known: Sequence[str], names: Sequence[str], labels: NDArray[np.int64]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The bundle's classes and, after them, new ones that have images; and the labels (N,) among all of these."""
    present = [names[c] for c in np.unique(labels)]
    already = {plain(name) for name in known}
    classes = (*known, *(name for name in present if name not in already))
    place = {plain(name): index for index, name in enumerate(classes)}
    index = np.array([place.get(name, -1) for name in names], np.int64)
    return classes, index[labels]
