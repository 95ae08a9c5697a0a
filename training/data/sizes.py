"""The sizes of the training images, and a warning if training reduces them a lot.

It reads the headers of a few of them, and knows nothing of networks.
"""

from pathlib import Path

import numpy as np

from breadcrumbs.models.images.decoding import open_image
from breadcrumbs.models.images.errors import ImageError
from breadcrumbs.training.data.objects import Span
from breadcrumbs.training.data.split import Split

LOOKED_AT = 200  # images, evenly over the classes
REMOTE = 20  # of images read over the network
TIMES = 4  # from this ratio on, images count as reduced a lot


def reduced(split: Split, size: int) -> str | None:
    """Return a warning where the images' median shorter side is more than `TIMES` the network's input; else None."""
    median = _median(split)
    if median is None or min(median) <= TIMES * size:
        return None
    width, height = median
    return (
        f"the training images are reduced a lot: {width} × {height} pixels at the median, to {size} × {size}; "
        f"a larger --size keeps more of them"
    )


def _median(split: Split) -> tuple[int, int] | None:
    """Median width and median height of some of the images; None if none of them can be opened."""
    if split.pixels is not None:
        return split.pixels.shape[2], split.pixels.shape[1]
    count = min(len(split), REMOTE if split.remote else LOOKED_AT)
    rows = np.linspace(0, len(split) - 1, count).round().astype(int)
    sizes = [size for row in rows if (size := _size((split.paths or ())[row])) is not None]
    if not sizes:
        return None
    width, height = np.median(np.array(sizes), axis=0).round().astype(int).tolist()
    return width, height


def _size(path: Path | Span) -> tuple[int, int] | None:
    try:
        with path.open("rb") as file, open_image(file, 2**62) as image:
            return image.size
    except (OSError, ImageError):  # `training.data.dataset` reports it, or decoding will
        return None
