"""Thumbnails: a small JPEG of an image, for people to recognise it by.

It knows nothing of who looks at it.
"""

import io

import numpy as np
from PIL import Image

from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.images import decoding
from breadcrumbs.models.images.budget import Budget
from breadcrumbs.models.images.decoding import BUDGET, MAX_PIXELS

SIDE = 128
"""Pixels of a thumbnail's longer side, at most."""
QUALITY = 75


def thumbnail(image: bytes | Pixels, max_pixels: int = MAX_PIXELS, *, budget: Budget = BUDGET) -> bytes:
    """Return a JPEG of at most `SIDE` x `SIDE` pixels.

    Args:
        image: the bytes of an image file, or uint8 (rows, columns, 3).
        max_pixels: of the file.
        budget: memory to decode in.

    Raises:
        ImageError: the file cannot be decoded.
    """
    if isinstance(image, bytes):
        opened = decoding.open_bytes(image, max_pixels, SIDE)
        with budget.take(opened.cost, opened.what):
            return _small(opened.read())
    return _small(np.asarray(image))


def _small(pixels: Pixels) -> bytes:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
