"""The embedded images, dealt out as a user would have them: some to train on, some that arrive later, some to report.

One class is left out of training. It knows nothing of commands or servers.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.dataset import Split, load

NEW = "bag"
"""The class that nobody trains."""
ARRIVING = 15
"""Photos of each class that arrive later."""
TESTED, REPORTED = 80, 80
"""Test images of each trained class in the folder, and of each class in the report."""


@dataclass(frozen=True)
class Photo:
    """An image file, as bytes, and its class."""

    data: bytes
    cls: str


@dataclass(frozen=True)
class Photos:
    """What the folder got, and what it did not.

    Attributes:
        trained: training images of each trained class.
        arriving: of all classes; nothing is trained or reported on them.
        reported: of all classes; nothing is trained, chosen or judged on them.
    """

    trained: dict[str, int]
    arriving: list[Photo]
    reported: list[Photo]


def deal(folder: Path, seed: int = 0) -> Photos:
    """Write `train/` and `test/` with a folder for each class but the new one, and return the other images.

    Args:
        folder: is made.
        seed: of the draw.
    """
    data = load(TrainConfig())
    names = data.classes
    for row, label in enumerate(data.train.labels):
        if names[label] != NEW:
            _write(folder / "train", data.train, row, names)
    rng = np.random.default_rng(seed)
    arriving, reported = list[Photo](), list[Photo]()
    for label, name in enumerate(names):
        own = rng.permutation(np.flatnonzero(data.test.labels == label)).tolist()
        reported += [Photo(_png(data.test, row), name) for row in own[:REPORTED]]
        arriving += [Photo(_png(data.test, row), name) for row in own[REPORTED : REPORTED + ARRIVING]]
        if name != NEW:
            for row in own[-TESTED:]:
                _write(folder / "test", data.test, row, names)
    counts = np.bincount(data.train.labels, minlength=len(names)).tolist()
    trained = {name: count for name, count in zip(names, counts, strict=True) if name != NEW}
    return Photos(trained, [arriving[place] for place in rng.permutation(len(arriving))], reported)


def lay(folder: Path, photos: Sequence[Photo]) -> None:
    """Write photos below a folder, in one for each class, numbered in their order."""
    for number, photo in enumerate(photos):
        (folder / photo.cls).mkdir(parents=True, exist_ok=True)
        (folder / photo.cls / f"{number:03d}.png").write_bytes(photo.data)


def _write(folder: Path, split: Split, row: int, names: Sequence[str]) -> None:
    place = folder / names[split.labels[row]]
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{int(split.ids[row]):05d}.png").write_bytes(_png(split, row))


def _png(split: Split, row: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(split.image(row)).save(buffer, "PNG")
    return buffer.getvalue()
