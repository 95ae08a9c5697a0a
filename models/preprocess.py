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
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field

from models.arrays import Pixels
from models.image_errors import ImageError, ImageTooLarge
from models.jpeg import OtherSubsampling, decode_jpeg
from models.segments import JPEG, PLAIN, PROFILE, SCAN, segments

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 50_000_000
MAX_SCANS = 64
"""Scans of one JPEG: each visits every block of the image, however few bytes it has. Encoders write 1, or about 10."""
MAX_SEGMENTS = 10_000
"""Segments of one JPEG or chunks of one PNG: Pillow reads each in Python. A PNG of 20 MiB has about 2,600."""

ON_THE_WAY = 2**22
"""Pixels between the two passes of a resize; only thin images make more."""

# Pillow's own limit warns or raises before ours can be named. `open_image` is the one place that opens files, and it
# checks every size before anything of that size is allocated.
Image.MAX_IMAGE_PIXELS = None
# A damaged EXIF block makes a warning for each of up to 65,535 tags, and Python remembers every text.
warnings.filterwarnings("ignore", module=r"PIL\.")

# Pillow's decoders raise these and no common base; a damaged file is the sender's mistake, whichever it is.
_DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, ZeroDivisionError, OverflowError, struct.error,
    zlib.error,
)  # fmt: skip

_PNG_DEPTH = 24  # the byte of a PNG that says how many bits a channel has
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
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


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
            return decode_jpeg(data)
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
    turn = _TURNS.get(image.getexif().get(ORIENTATION, 1))
    upright = _rgb(image, data)
    return np.asarray(upright if turn is None else upright.transpose(turn), dtype=np.uint8)


def _rgb(image: Image.Image, data: bytes) -> Image.Image:
    if data.startswith(JPEG):
        return _rgb_jpeg(image, data)
    key = image.info.get("transparency")
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip instead of scale
        values = np.asarray(image).astype(np.int64)
        high = (values >> 8).clip(0, 255).astype(np.uint8)
        if isinstance(key, int):  # the transparent grey, laid over white
            high[values == key] = 255
        return Image.fromarray(high).convert("RGB")
    if image.mode == "L" and isinstance(key, int) and image.format == "PNG":
        # Pillow scales grey of 2 and 4 bits to 8, and leaves the transparent grey as it was
        image.info["transparency"] = key * 255 // (2 ** data[_PNG_DEPTH] - 1)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _rgb_jpeg(image: Image.Image, data: bytes) -> Image.Image:
    """Pixels by libjpeg-turbo, which is twice as fast and tells lost data; Pillow where it cannot do it."""
    try:
        if image.mode in {"RGB", "L"}:
            return Image.fromarray(decode_jpeg(data))
        if image.mode == "CMYK":  # Pillow knows how to turn its inks, and does not tell lost data
            decode_jpeg(data, "CMYK")
    except OtherSubsampling:
        pass
    return image.convert("RGB")


def fit(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    """Resize, and centre-crop if `preprocess.resize` is set: uint8 (rows, columns, 3) -> (height, width, 3).

    Only what the crop shows is resized, so that time and memory follow the pixels and the output, whatever the shape.
    """
    height, width = preprocess.height, preprocess.width
    if pixels.shape[:2] == (height, width) and preprocess.resize is None:
        return pixels
    rows, columns = pixels.shape[:2]
    box = (0.0, 0.0, float(columns), float(rows))
    if preprocess.resize is not None:
        # the crop must fit inside the scaled image
        scale = max(preprocess.resize / min(rows, columns), height / rows, width / columns)
        scaled = max(width, round(columns * scale)), max(height, round(rows * scale))
        left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
        across, down = columns / scaled[0], rows / scaled[1]  # pixels of the image to one of the scaled image
        box = (left * across, top * down, (left + width) * across, (top + height) * down)
    return np.asarray(_resized(Image.fromarray(pixels), (width, height), _RESAMPLING[preprocess.interpolation], box))


def _resized(
    image: Image.Image, size: tuple[int, int], resampling: Image.Resampling, box: tuple[float, float, float, float]
) -> Image.Image:
    """Resize a box of an image. Pillow goes across first, which makes `rows` × `width` pixels on the way: where those
    are more than `ON_THE_WAY` and more than the image has, it goes down first.
    """
    width, height = size
    left, top, right, bottom = box
    if (bottom - top) * width > max(ON_THE_WAY, image.width * image.height):
        image = image.resize((image.width, height), resampling, box=(0, top, image.width, bottom))
        top, bottom = 0.0, float(height)
    return image.resize(size, resampling, box=(left, top, right, bottom))
