"""The one evaluation transform: from an image file, or its pixels, to the uint8 pixels that a backbone takes.

The trainer's evaluation, the export gate and the server all call it, so that they cannot differ. It knows nothing
of tensors, batches or normalisation: mean and deviation travel in `Preprocess`, but they are applied inside
`backbone.onnx`.
"""

from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.images.budget import Budget
from breadcrumbs.models.images.decoding import BUDGET, MAX_PIXELS, open_bytes

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
_RESAMPLING: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Preprocess(BaseModel):
    """The evaluation transform and the normalisation, as stored in a bundle's manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(gt=0, le=4096, description="rows of the network's input, in pixels")
    width: int = Field(gt=0, le=4096, description="columns of the network's input, in pixels")
    resize: int | None = Field(
        default=None, gt=0, le=8192, description="shorter side before the centre crop; absent: resize straight to size"
    )
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = Field(description="of each channel, on the scale 0 … 1")
    std: tuple[float, float, float] = Field(description="of each channel, on the scale 0 … 1")
    source: str | None = Field(
        default=None, max_length=200, description="where these values come from; for people, nothing depends on it"
    )

    @property
    def shorter(self) -> int:
        """The length of an image's shorter side that the transform makes use of, in pixels."""
        return max(self.resize or 0, self.height, self.width)


def load(data: bytes, preprocess: Preprocess, max_pixels: int = MAX_PIXELS, *, budget: Budget = BUDGET) -> Pixels:
    """Decode one image file and bring it to the network's size.

    Args:
        data: the bytes of an image file.
        preprocess: the size to reach, and how.
        max_pixels: refuse a larger image, before decoding it.
        budget: memory to decode and resize in.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        ImageTooLarge, ImageError: as `models.images.decoding.decode`.
    """
    opened = open_bytes(data, max_pixels, preprocess.shorter)
    with budget.take(opened.cost, opened.what):
        pixels = opened.read()
        return fit(pixels, preprocess, opened.factor, opened.shape(pixels))


def fit(pixels: Pixels, preprocess: Preprocess, factor: int = 1, shape: tuple[int, int] | None = None) -> Pixels:
    """Resize, and centre-crop if `preprocess.resize` is set: uint8 (rows, columns, 3) -> (height, width, 3).

    Pixels that were reduced by `factor` from a picture of `shape` (rows, columns) are cropped as that picture would be.
    Only what the crop shows is resized, so that time and memory follow the pixels and the output, whatever the shape.
    """
    height, width = preprocess.height, preprocess.width
    if pixels.shape[:2] == (height, width) and preprocess.resize is None:
        return pixels
    rows, columns = shape or pixels.shape[:2]
    box = (0.0, 0.0, float(columns), float(rows))
    if preprocess.resize is not None:
        # the crop must fit inside the scaled image
        scale = max(preprocess.resize / min(rows, columns), height / rows, width / columns)
        scaled = max(width, round(columns * scale)), max(height, round(rows * scale))
        beside, above = (scaled[0] - width) // 2, (scaled[1] - height) // 2
        across, down = columns / scaled[0], rows / scaled[1]  # pixels of the image to one of the scaled image
        box = (beside * across, above * down, (beside + width) * across, (above + height) * down)
    image = Image.fromarray(pixels)
    left, top, right, bottom = (side / factor for side in box)
    how = _RESAMPLING[preprocess.interpolation]
    if preprocess.resize is None and image.height > height and image.width < width:
        # Pillow widens first, which of a long narrow picture makes a large one
        image, bottom = image.resize((image.width, height), how), float(height)
    return np.asarray(image.resize((width, height), how, (left, top, right, bottom)))
