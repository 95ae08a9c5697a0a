"""From the bytes of an image file to the uint8 pixels that a backbone takes.

This is the one evaluation transform: the trainer's evaluation, the export gate and the server all call `load`, so
that none of them can differ. What happens to each kind of image is decided here, once:

    EXIF orientation   applied
    grey               three equal channels
    CMYK, YCCK         converted to RGB by Pillow
    palette, alpha     laid over white
    16 bits a channel  the high byte
    animation          the first frame

It knows nothing of tensors, batches or normalisation: mean and deviation travel in `Preprocess`, but they are applied
inside `backbone.onnx`.
"""

import io
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field

from models.errors import BreadcrumbsError

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 50_000_000

Pixels = NDArray[np.uint8]

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class ImageError(BreadcrumbsError):
    """The bytes are not an image that can be decoded."""


class ImageTooLarge(ImageError):
    """The image has more pixels than the limit; found in its header, before anything is decoded."""


class Preprocess(BaseModel):
    """The evaluation transform and the normalisation, as stored in a bundle's manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(gt=0, le=4096, description="rows of the network's input, in pixels")
    width: int = Field(gt=0, le=4096, description="columns of the network's input, in pixels")
    resize: int | None = Field(
        default=None, gt=0, le=8192, description="shorter side before the centre crop; absent: resize straight to size"
    )
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, float, float] = Field(description="of each channel, on the scale 0 … 1")
    std: tuple[float, float, float] = Field(description="of each channel, on the scale 0 … 1")


def load(data: bytes, preprocess: Preprocess, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode one image file and bring it to the network's size.

    Args:
        data: the bytes of a JPEG, PNG or WebP file.
        preprocess: the size to reach, and how.
        max_pixels: refuse a larger image, before decoding it.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        ImageTooLarge: more than `max_pixels` pixels.
        ImageError: not one of `FORMATS`, damaged, or cut short.
    """
    return fit(decode(data, max_pixels), preprocess)


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode one image file to upright RGB pixels, uint8 (rows, columns, 3). Raises as `load` does."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageTooLarge(
                    f"image has {width} x {height} = {width * height} pixels; the limit is {max_pixels}"
                )
            return _pixels(image, data)
    except UnidentifiedImageError as error:
        raise ImageError(f"not a JPEG, PNG or WebP image ({len(data)} bytes)") from error
    except ImageError:
        raise
    # Pillow's decoders raise these and no common base; a damaged file is the sender's mistake, whichever it is.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, ZeroDivisionError, OverflowError) as e:
        raise ImageError(f"damaged image: {e}") from e
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(str(error)) from error


def _pixels(image: Image.Image, data: bytes) -> Pixels:
    if image.format == "JPEG" and image.mode in {"RGB", "L"} and image.getexif().get(0x0112, 1) == 1:
        return np.asarray(simplejpeg.decode_jpeg(data, "RGB", strict=True))  # twice as fast as Pillow
    upright = ImageOps.exif_transpose(image)
    return np.asarray(_rgb(upright), dtype=np.uint8)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip instead of scale
        high = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(high).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def fit(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    """Resize, and centre-crop if `preprocess.resize` is set: uint8 (rows, columns, 3) -> (height, width, 3)."""
    height, width = preprocess.height, preprocess.width
    if pixels.shape[:2] == (height, width) and preprocess.resize is None:
        return pixels
    resampling = _RESAMPLING[preprocess.interpolation]
    image = Image.fromarray(pixels)
    if preprocess.resize is None:
        return np.asarray(image.resize((width, height), resampling))
    scale = max(
        preprocess.resize / min(image.size), height / image.height, width / image.width
    )  # the crop must fit inside
    scaled = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return np.asarray(image.resize(scaled, resampling).crop((left, top, left + width, top + height)))
