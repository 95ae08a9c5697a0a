"""Labelled rows of features from a file, as test rows of a bundle.

It knows nothing of images or of how a head is measured.

Letters: N rows, D feature dimensions, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots.convert import open_safely
from breadcrumbs.models.snapshots.fields import Given
from breadcrumbs.models.snapshots.snapshot import MAPPED
from breadcrumbs.training.data.class_names import listed, plain
from breadcrumbs.training.data.split import DataError, Split

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Test rows.

    Attributes:
        features: f32 (N, D).
        rows: labels (N,) among the bundle's classes, and ids; without images.
        notes: what a reader should know, a sentence each.
    """

    features: Floats
    rows: Split
    notes: tuple[str, ...] = ()


def read(bundle: Bundle, path: Path) -> FeatureRows:
    """Read the labelled rows of a file: `.npz`, Parquet, Arrow or a snapshot.

    A file that does not say which backbone made it is taken as the bundle's.

    Raises:
        DataError: the rows are of another backbone or width, have no label, or are of classes that the bundle does not
            know.
        FormatError: the file is damaged.
    """
    found = open_safely(path, Given(backbone=bundle.backbone_digest, epoch=1))
    if found.backbone != bundle.backbone_digest:
        raise DataError(
            f"{path} has features of the backbone {found.backbone[:12]}, expected those of {bundle.folder}: "
            f"{bundle.backbone_digest[:12]}; make them with the bundle's backbone"
        )
    if found.feature_dim != bundle.manifest.feature_dim:
        raise DataError(
            f"{path} has features of {found.feature_dim} dimensions, expected {bundle.manifest.feature_dim} as in "
            f"{bundle.folder}; make them with the bundle's backbone"
        )
    labelled = np.flatnonzero(found.labels >= 0)
    if not len(labelled):
        raise DataError(f"{path}: no row has a label; expected labels to measure on")
    own = found.labels[labelled]
    used = np.unique(own)
    place = np.full(len(found.classes), -1, np.int64)
    place[used] = among(bundle.manifest.classes, [found.classes[label] for label in used])
    left = len(found.labels) - len(labelled)
    notes = [f"{left} of {len(found.labels)} rows of {path.name} have no label and are left out"] if left else []
    if found.lineage == MAPPED:
        notes.append(f"the rows of {path.name} were mapped from another backbone: recall on them is too high")
    ids = np.arange(len(found.labels)) if found.ids is None else found.ids
    rows = Split(place[own], np.asarray(ids[labelled], np.int64), dataset=found.dataset)
    return FeatureRows(np.asarray(found.features[labelled], np.float32), rows, tuple(notes))


def among(known: Sequence[str], names: Sequence[str]) -> Integers:
    """The place (C,) of each of the data's classes among a bundle's, by name.

    Raises:
        DataError: the bundle does not know one.
    """
    place = {plain(name): index for index, name in enumerate(known)}
    strange = [name for name in names if plain(name) not in place]
    if strange:
        raise DataError(
            f"the data has {len(strange)} classes that are not among the {len(known)} of the bundle: "
            f"{listed(strange)}; leave their images out, or add the classes by a refit"
        )
    return np.array([place[plain(name)] for name in names], np.int64)
