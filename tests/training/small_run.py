"""A small data set on disk and a configuration that trains on it in a second."""

from pathlib import Path

import numpy as np
from PIL import Image

from breadcrumbs.training.config import TrainConfig

CLASSES = ("blue", "green", "red")
COUNTS = (30, 12, 3)
SIDE = 16


def write_images(root: Path) -> Path:
    """Write `root/train` and `root/test` with a folder per class; a class is a colour under noise."""
    rng = np.random.default_rng(0)
    for part, counts in (("train", COUNTS), ("test", (8, 8, 8))):
        for index, (name, count) in enumerate(zip(CLASSES, counts, strict=True)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 140, (SIDE, SIDE, 3))
                pixels[:, :, 2 - index] += 90
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02d}.png")
    return root


def small_config(root: Path, epochs: int = 3) -> TrainConfig:
    """Three quick epochs on the images of `write_images`."""
    return TrainConfig(data=str(root), size=SIDE, epochs=epochs, batch_size=8, keep_snapshots=2, learning_rate=0.05)
