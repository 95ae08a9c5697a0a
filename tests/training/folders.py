"""Folders of small pictures, no two alike, for tests of what is found in them."""

import io
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

NUMBER = count()


def image(kind: str = "PNG") -> bytes:
    """The bytes of a picture that no other call gives."""
    file = io.BytesIO()
    pixels = np.random.default_rng(next(NUMBER)).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def put(root: Path, *names: str, kind: str = "PNG") -> None:
    """Write a picture under each name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image(kind))


def classes(*names: str, images: int = 3) -> list[str]:
    """Names of pictures, so many in a folder for each class."""
    return [f"{name}/{number}.png" for name in names for number in range(images)]
