"""Files of features that were computed elsewhere, and what of them is fitted and what is tested on.

    .npz, Parquet, Arrow, safetensors -> rows with labels -> training rows, test rows, the name of their space

It knows nothing of backbones, heads or bundles.

Letters: N rows, D feature dimensions, C classes.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from breadcrumbs.models import files, printable
from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.snapshots.convert import open_safely
from breadcrumbs.models.snapshots.fields import Given
from breadcrumbs.models.snapshots.snapshot import MAPPED, Snapshot
from breadcrumbs.training.adopt.opened import AdoptError
from breadcrumbs.training.data.class_names import faults, listed, plain
from breadcrumbs.training.data.dataset import held_out
from breadcrumbs.training.data.split import Data, Split

UNNAMED = "0" * 64  # stands for the backbone of a file that names none


@dataclass(frozen=True)
class FeatureFiles:
    """What a user names.

    Attributes:
        train: the file of features to fit to, with labels.
        test: the one to test on; None: a share of each class of `train` is held out.
        space: what the user calls the backbone; None: the files name it by its digest.
    """

    train: Path
    test: Path | None = None
    space: str | None = None


@dataclass(frozen=True, eq=False)
class Contents:
    """What is in the files.

    Attributes:
        data: labels and ids, and what was left out.
        train, test: features f32 (N, D) of the two parts.
        space: the digest that names the feature space.
        called: the backbone's name for people.
        epoch: of the training rows.
    """

    data: Data
    train: Floats
    test: Floats
    space: str
    called: str
    epoch: int


def read(named: FeatureFiles, share: float, seed: int) -> Contents:
    """Read the files, and divide the rows where there is no file of test features.

    Args:
        named: the files.
        share: of each class that is held out then; a class of one row keeps it for training.
        seed: of the draw.

    Raises:
        AdoptError: the rows do not fit together, or nothing says which backbone made them.
        FormatError: a file is damaged.
    """
    space = _digest(named.space)
    train = _open(named.train, space)
    _check_classes(train, named.train)
    first, notes = _split(train, train.classes, named.train)
    features = np.asarray(train.features, np.float32)
    if named.test is None:
        held = held_out(first.labels, len(train.classes), share, seed)
        if not held.any():
            raise AdoptError(
                f"{named.train}: every class has one row, which training keeps; name a file to test on with "
                "--test-features"
            )
        rows = np.flatnonzero(train.labels >= 0)
        parts = [(first.take(own), features[rows[own]]) for own in (np.flatnonzero(~held), np.flatnonzero(held))]
    else:
        test = _open(named.test, space)
        _check_alike(train, test, named)
        second, more = _split(test, train.classes, named.test)
        notes += more
        tested = np.asarray(test.features, np.float32)[test.labels >= 0]
        parts = [(first, features[train.labels >= 0]), (second, tested)]
    (fitted, own), (judged, others) = parts
    data = Data(fitted, judged, train.classes, notes)
    return Contents(data, own, others, train.backbone, named.space or train.backbone[:12], train.epoch)


def _digest(space: str | None) -> str | None:
    """The digest of a name that a user gives."""
    if space is None:
        return None
    why = printable.defect(space) or ("is empty" if not space.strip() else None)
    if why:
        raise AdoptError(f"--space {space!r:.80} {why}; expected a name for the backbone that made the features")
    return hashlib.sha256(space.encode()).hexdigest()


def _open(path: Path, space: str | None) -> Snapshot:
    """The rows of a file, in a space that has a name."""
    found = open_safely(path, Given(backbone=space or UNNAMED, epoch=1))
    if found.backbone == UNNAMED:
        raise AdoptError(
            f"{path}: nothing says which backbone made the features; name it with --space, for example --space "
            "dinov2-base, and use one name for all files of that backbone"
        )
    if space not in (None, found.backbone):
        raise AdoptError(
            f"{path} says itself that the backbone {found.backbone[:12]} made its features, and --space names another; "
            "leave --space out"
        )
    if found.lineage == MAPPED:
        raise AdoptError(
            f"{path} has rows that were mapped from another backbone; expected rows that the backbone made itself"
        )
    return found


def _check_classes(train: Snapshot, path: Path) -> None:
    if not (train.labels >= 0).any():
        raise AdoptError(f"{path}: no row has a label; expected labels to fit to")
    for words in faults(train.classes):
        raise AdoptError(f"{path}: {words}")
    if len(train.classes) < 2:
        raise AdoptError(f"{path} has one class, {train.classes[0]!r:.80}; expected at least two")
    empty = [name for name, count in zip(train.classes, train.counts(), strict=True) if not count]
    if empty:
        raise AdoptError(
            f"{path}: {len(empty)} of {len(train.classes)} classes have no row: {listed(empty)}; add rows of them, or "
            "leave them out of the file's classes"
        )


def _check_alike(train: Snapshot, test: Snapshot, named: FeatureFiles) -> None:
    if test.backbone != train.backbone:
        raise AdoptError(
            f"{named.test} has features of the backbone {test.backbone[:12]}, expected those of {named.train}: "
            f"{train.backbone[:12]}; make both with one backbone"
        )
    if test.feature_dim != train.feature_dim:
        raise AdoptError(
            f"{named.test} has features of {test.feature_dim} dimensions, expected {train.feature_dim} as in "
            f"{named.train}; make both with one backbone"
        )


def _split(snapshot: Snapshot, classes: tuple[str, ...], path: Path) -> tuple[Split, tuple[str, ...]]:
    """The labelled rows, their labels among `classes`, and what was left out, in words."""
    known = {plain(name): place for place, name in enumerate(classes)}
    place = np.array([known.get(plain(name), -1) for name in snapshot.classes], np.int64)
    labelled = np.flatnonzero(snapshot.labels >= 0)
    labels = place[snapshot.labels[labelled]]
    strange = sorted({snapshot.classes[label] for label in snapshot.labels[labelled[labels < 0]]})
    if strange:
        raise AdoptError(
            f"{path}: {len(strange)} classes that no training row has: {listed(strange)}; leave their rows out, or add "
            "training rows"
        )
    if not len(labelled):
        raise AdoptError(f"{path}: no row has a label; expected labels to test on")
    ids = np.arange(len(snapshot.labels)) if snapshot.ids is None else snapshot.ids
    dataset = snapshot.dataset if snapshot.ids is not None and snapshot.dataset else files.sha256(path)
    left = len(snapshot.labels) - len(labelled)
    notes = (f"{left} of {len(snapshot.labels)} rows of {path.name} have no label and are left out",) if left else ()
    return Split(labels, ids[labelled], dataset=dataset), notes
