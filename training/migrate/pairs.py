"""Pairs: the same images under two backbones, from a folder of images or from two snapshots made elsewhere.

A pair needs no label. Where a folder's subfolders are named as classes, its images have these; in any other they have
none. It knows nothing of what is learned of pairs.

Letters: P images, D' and D dimensions of the two spaces.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from breadcrumbs.models.arrays import Floats, Pixels
from breadcrumbs.models.files import read_regular
from breadcrumbs.models.images.decoding import MAX_PIXELS
from breadcrumbs.models.images.errors import ImageError
from breadcrumbs.models.images.preprocess import load
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import UNLABELLED, Snapshot
from breadcrumbs.training.adopt.opened import Opened
from breadcrumbs.training.data.class_names import plain
from breadcrumbs.training.data.image_files import Unused, walk
from breadcrumbs.training.migrate.backbone import maker_of
from breadcrumbs.training.refit.rows import RefitError
from breadcrumbs.training.terminal.bars import track

BATCH = 64  # images that go through a backbone at once
SKIPPED = 0.1  # share of the images that may be unreadable
NAMED = 5  # unreadable images that a sentence names


@dataclass(frozen=True, eq=False)
class Pairs:
    """The same P images under both backbones.

    Attributes:
        old: rows of the old backbone (P, D'); both snapshots name one data set, and one id is one image.
        new: rows of the new backbone (P, D).
        notes: what a reader should know, a sentence each.
    """

    old: Snapshot
    new: Snapshot
    notes: tuple[str, ...] = ()


def pairs_of_folder(
    old: Opened, new: Opened, folder: Path, classes: Sequence[str], max_pixels: int = MAX_PIXELS
) -> Pairs:
    """Pass a folder's images through both backbones, each with its own transform.

    Args:
        old: the backbone that has labelled rows.
        new: the one that they will move to.
        folder: images, at any depth.
        classes: names that a subfolder may have.
        max_pixels: the largest number of pixels in one image.

    Raises:
        DataError: a folder cannot be read.
        RefitError: there is no image, too many cannot be decoded, or a backbone makes other features than it says.
        SnapshotError: a feature is not finite.
    """
    unused = Unused()
    paths = sorted(walk(folder, unused))
    if not paths:
        raise RefitError(f"{folder}: no image found, expected a folder of images; name another with --pairs")
    ways = [(backbone.preprocess, maker_of(backbone)) for backbone in (old, new)]
    made: tuple[list[Floats], list[Floats]] = ([], [])
    readable: list[Path] = []
    faults: list[str] = []
    parts = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    for part in track(parts, len(parts), "pairs"):
        images = [(path, _decoded(path, folder, old, new, max_pixels, faults)) for path in part]
        both = [(path, pixels) for path, pixels in images if pixels is not None]
        readable += [path for path, _ in both]
        if both:
            for side, (_, features) in enumerate(ways):
                made[side].append(features([pixels[side] for _, pixels in both]))
    if len(faults) > SKIPPED * len(paths):
        raise RefitError(
            f"{folder}: {len(faults)} of {len(paths)} images cannot be decoded, and {SKIPPED:.0%} may be skipped: "
            f"{_first(faults)}; mend or remove them"
        )
    notes = [f"{len(faults)} images of the pairs were skipped: {_first(faults)}"] if faults else []
    labels = _labels([path.relative_to(folder) for path in readable], classes)
    first, second = (np.concatenate(own) for own in made)
    ids, name = np.arange(len(labels)), _name(first)
    looks = (
        Snapshot(first, labels, tuple(classes), old.digest, 1, ids=ids, dataset=name),
        Snapshot(second, labels, tuple(classes), new.digest, 1, ids=ids, dataset=name),
    )
    for look, whose in zip(looks, ("old", "new"), strict=True):
        snapshots.check(look, f"pairs by the {whose} backbone")
    return Pairs(*looks, (*notes, *unused.sentences()))


def _name(features: Floats) -> str:
    """A name for a set of images that has no other: the digest of what one backbone makes of them."""
    return hashlib.sha256(np.ascontiguousarray(features).tobytes()).hexdigest()


def _decoded(
    path: Path, folder: Path, old: Opened, new: Opened, max_pixels: int, faults: list[str]
) -> tuple[Pixels, Pixels] | None:
    """The pixels that each backbone takes; None, and a fault more, where the file is no image."""
    try:
        data = read_regular(path)
        return load(data, old.preprocess, max_pixels), load(data, new.preprocess, max_pixels)
    except OSError as error:
        faults.append(f"{path.relative_to(folder)} ({error.strerror or error})")
    except ImageError as error:
        faults.append(f"{path.relative_to(folder)} ({error})")
    return None


def _first(faults: Sequence[str]) -> str:
    more = len(faults) - NAMED
    return ", ".join(faults[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _labels(paths: Sequence[Path], classes: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The class (P,) that each image's nearest folder is named as; −1 for any other."""
    place = {plain(name): index for index, name in enumerate(classes)}
    return np.array([place.get(plain(path.parent.name), UNLABELLED) for path in paths], np.int64)


def pairs_of_snapshots(old: Snapshot, new: Snapshot, digests: tuple[str, str]) -> Pairs:
    """Check two snapshots made elsewhere, and say of both that they are of one data set.

    Two that name their data sets pair by id within it. Two that name none pair by id, or row by row without ids.

    Args:
        old: rows of the old backbone.
        new: rows of the new one.
        digests: of both backbones.

    Raises:
        RefitError: another backbone made one, or no image is in both.
    """
    for look, digest, whose in zip((old, new), digests, ("old", "new"), strict=True):
        if look.backbone != digest:
            raise RefitError(
                f"--pairs-from: the snapshot of the {whose} backbone was made by {look.backbone[:12]}, expected "
                f"{digest[:12]}; name first the one of the old backbone, then the one of the new"
            )
    if old.dataset != new.dataset:
        raise RefitError(
            "--pairs-from: the two snapshots name different data sets, so no row of one is known to show an image of "
            "the other; make both of the same images"
        )
    if not old.dataset:
        old, new = _of_one_set(old, new)
    if old.ids is None or new.ids is None or not np.isin(old.ids, new.ids).any():
        raise RefitError(
            "--pairs-from: no image is in both snapshots, expected rows of one id in both; make both of the same images"
        )
    return Pairs(old, new)


def _of_one_set(old: Snapshot, new: Snapshot) -> tuple[Snapshot, Snapshot]:
    """Name a data set for two snapshots that name none; without ids a row's number is its id."""
    if old.ids is None and new.ids is None:
        if len(old.labels) != len(new.labels):
            raise RefitError(
                f"--pairs-from: {len(old.labels)} rows and {len(new.labels)} rows without ids, expected as many in "
                "both, in the same order; or give both ids"
            )
        old, new = (replace(look, ids=np.arange(len(look.labels))) for look in (old, new))
    name = _name(old.features)
    return replace(old, dataset=name), replace(new, dataset=name)
