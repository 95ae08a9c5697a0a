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

import importlib
import io
import struct
import warnings
import zlib
from collections import Counter
from itertools import islice
from typing import IO, Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field

from models.errors import BreadcrumbsError
from models.segments import PLAIN, PROFILE, SCAN, segments

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 50_000_000
MAX_SCANS = 64
"""Scans of one JPEG: each visits every block of the image, however few bytes it has. Encoders write 1, or about 10."""
MAX_SEGMENTS = 10_000
"""Segments of one JPEG or chunks of one PNG: Pillow reads each in Python. A PNG of 20 MiB has about 2,600."""

# Pillow's own limit warns or raises before ours can be named. `open_image` is the one place that opens files, and it
# checks every size before anything of that size is allocated.
Image.MAX_IMAGE_PIXELS = None
# A damaged EXIF block makes a warning for each of up to 65,535 tags, and Python remembers every text.
warnings.filterwarnings("ignore", module=r"PIL\.")

Pixels = NDArray[np.uint8]

# Pillow's decoders raise these and no common base; a damaged file is the sender's mistake, whichever it is.
_DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, ZeroDivisionError, OverflowError, struct.error,
    zlib.error,
)  # fmt: skip

ORIENTATION = 0x0112  # the EXIF tag: how the camera was held
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
_RESAMPLING: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class ImageError(BreadcrumbsError):
    """The bytes are not an image that can be decoded."""


class ImageTooLarge(ImageError):
    """The image has more pixels, scans or segments than the limit; found before anything is decoded."""


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


def load_codecs() -> None:
    """Load Pillow's decoders of `FORMATS` now; it would do so when it opens the first image, in a tenth of a second."""
    Image.preinit()
    importlib.import_module("PIL.WebPImagePlugin")


def load(data: bytes, preprocess: Preprocess, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode one image file and bring it to the network's size.

    Args:
        data: the bytes of a JPEG, PNG or WebP file.
        preprocess: the size to reach, and how.
        max_pixels: refuse a larger image, before decoding it.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        ImageTooLarge: more than `max_pixels` pixels, `MAX_SCANS` scans or `MAX_SEGMENTS` segments.
        ImageError: not one of `FORMATS`, damaged, or cut short.
    """
    return fit(decode(data, max_pixels), preprocess)


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode one image file to upright RGB pixels, uint8 (rows, columns, 3). Raises as `load` does."""
    kinds = _check_segments(data)
    try:
        if kinds[SCAN] and PLAIN.issuperset(kinds) and (size := _plain_size(data)) is not None:
            _check_size(*size, max_pixels)
            return _jpeg(data)
        with open_image(io.BytesIO(data), max_pixels) as image:
            return _pixels(image, data)
    except ImageError:
        raise
    except _DAMAGED as error:
        raise ImageError(f"damaged image: {error}") from error


def open_image(file: IO[bytes], max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image file, of which only the header is read, for the caller to decode and to close.

    Raises:
        ImageTooLarge: more than `max_pixels` pixels.
        ImageError: not one of `FORMATS`, or damaged in the header.
    """
    canvas = _webp_canvas(file.read(30))
    if canvas is not None:  # Pillow's WebP decoder allocates the canvas when it opens the file
        _check_size(*canvas, max_pixels)
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(f"not a JPEG, PNG or WebP image ({file.seek(0, io.SEEK_END)} bytes)") from error
    except _DAMAGED as error:
        raise ImageError(f"damaged image: {error}") from error
    _check_size(*image.size, max_pixels)
    return image


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLarge(f"image has {width} x {height} = {width * height} pixels; the limit is {max_pixels}")


def _plain_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a grey or colour JPEG; none where Pillow should say what it is, which takes longer."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, LookupError):  # the latter where the subsampling is none that it knows
        return None
    return (width, height) if colours in {"Gray", "YCbCr", "RGB"} else None


def _check_segments(data: bytes) -> Counter[bytes]:
    kinds = Counter(islice(segments(data), MAX_SEGMENTS + 1))
    if kinds[SCAN] > MAX_SCANS:
        raise ImageTooLarge(f"the JPEG has {kinds[SCAN]} scans; the limit is {MAX_SCANS}")
    if kinds.total() > MAX_SEGMENTS:
        raise ImageTooLarge(f"the image file has more than {MAX_SEGMENTS} segments or chunks, which is the limit")
    if kinds[PROFILE] > 1:  # Pillow inflates up to 1 MiB from each
        raise ImageError(f"damaged image: the PNG has {kinds[PROFILE]} colour profiles; expected one at most")
    return kinds


def _webp_canvas(header: bytes) -> tuple[int, int] | None:
    """The width and height that the first 30 bytes of a WebP file claim; none for any other file."""
    if header[:4] != b"RIFF" or header[8:12] != b"WEBP" or len(header) < 30:
        return None
    kind = header[12:16]
    if kind == b"VP8X":
        return int.from_bytes(header[24:27], "little") + 1, int.from_bytes(header[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(header[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(header[26:28], "little") & 0x3FFF, int.from_bytes(header[28:30], "little") & 0x3FFF


def _pixels(image: Image.Image, data: bytes) -> Pixels:
    if image.format == "JPEG" and image.mode in {"RGB", "L"} and image.getexif().get(ORIENTATION, 1) == 1:
        return _jpeg(data)
    turn = _TURNS.get(image.getexif().get(ORIENTATION, 1))
    return np.asarray(_rgb(image if turn is None else image.transpose(turn)), dtype=np.uint8)


def _jpeg(data: bytes) -> Pixels:
    return np.asarray(simplejpeg.decode_jpeg(data, "RGB", strict=True))  # twice as fast as Pillow


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
