"""From the bytes of an image file to upright RGB pixels, within limits; the one decoder of training and serving.

What happens to each kind of image is decided here, once:

    EXIF orientation          applied
    grey                      three equal channels
    CMYK, YCCK                converted to RGB by Pillow
    palette, alpha, tRNS      laid over white
    16 bits a channel         the high byte
    animation                 the first frame
    colour profile, gamma     not looked at: the numbers in the file count

It knows nothing of the size or the numbers that a network wants.
"""

import importlib
import io
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import IO

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.images.budget import Budget
from breadcrumbs.models.images.errors import ImageError, ImageTooLarge
from breadcrumbs.models.images.jpeg import OtherSubsampling, decode_jpeg
from breadcrumbs.models.images.kinds import HEAD, JPEG, UNKNOWN, Kind, jpeg_process, kind_of
from breadcrumbs.models.images.segments import PLAIN, PROFILE, SCAN, segments

MAX_PIXELS = 120_000_000
"""Default limit of pixels of one image: above what phone cameras give (50 and 108 million)."""
MAX_SCANS = 64
"""Scans of one JPEG: each visits every block of the image, however few bytes it has. Encoders write 1, or about 10."""
MAX_SEGMENTS = 10_000
"""Segments of one JPEG or chunks of one PNG: Pillow reads each in Python. A PNG of 20 MiB has about 2,600."""
BUDGET = Budget()
"""Default memory budget for decoding in this process."""
GAP = 4
"""A JPEG is decoded at 1/2, 1/4 or 1/8 only while it stays this many times larger than what is wanted of it: the
resized picture then differs by two levels at most."""
BAND = 2**20
"""Pixels converted at a time."""

# Bytes for each pixel while an image is decoded and resized, measured at 24 million pixels.
_JPEG_BYTES, _COEFFICIENTS, _INKS = 8, 6, 10
_BYTES = {"PNG": 12, "WEBP": 20, "GIF": 12, "BMP": 12, "TIFF": 12}
_OTHER_BYTES = 24

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

_PROGRESSIVE = b"\xff\xc2"
_PNG_DEPTH = 24  # the byte of a PNG that says how many bits a channel has
ORIENTATION = 0x0112  # the EXIF tag of the camera's orientation
_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


@dataclass(frozen=True, eq=False)
class Opened:
    """An image whose header was read and whose limits were checked.

    Attributes:
        width, height: in pixels, as stored in the file.
        cost: approximate bytes that decoding and resizing take.
        factor: reduction during decoding: 1, 2, 4 or 8.
        decoder: decodes it.
    """

    width: int
    height: int
    cost: int
    factor: int
    decoder: Callable[[], Pixels]

    def read(self) -> Pixels:
        """Decode it: uint8 (rows, columns, 3), RGB, upright.

        Raises:
            ImageError: it is damaged or cut short.
        """
        try:
            return self.decoder()
        except _DAMAGED as error:
            raise ImageError(f"damaged image: {error}") from error

    def shape(self, pixels: Pixels) -> tuple[int, int]:
        """Rows and columns of the whole picture, in the orientation of `pixels`."""
        upright = pixels.shape[0] == -(-self.height // self.factor)
        return (self.height, self.width) if upright else (self.width, self.height)

    @property
    def what(self) -> str:
        """The image's name in an error message."""
        return f"an image of {self.width} x {self.height} pixels"


def load_codecs() -> None:
    """Load Pillow's decoders now, so that the first image does not wait a tenth of a second for them."""
    Image.preinit()
    importlib.import_module("PIL.WebPImagePlugin")
    more_formats()


@cache
def more_formats() -> frozenset[str]:
    """The names of Pillow's readers that the extra `formats` adds; empty if it is not installed."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return frozenset()
    for name in ("Gif", "Bmp", "Tiff", "Avif"):
        importlib.import_module(f"PIL.{name}ImagePlugin")
    return frozenset({"HEIF", "AVIF", "GIF", "BMP", "TIFF"})


def decode(data: bytes, max_pixels: int = MAX_PIXELS, *, budget: Budget = BUDGET, shorter: int | None = None) -> Pixels:
    """Decode one image file.

    Args:
        data: the bytes of a JPEG, PNG or WebP file, or of what the extra `formats` reads.
        max_pixels: refuse a larger image, before decoding it.
        budget: memory to decode in.
        shorter: the length of the shorter side that is wanted of it, in pixels: a JPEG that is much larger is reduced
            while it is decoded. None: all pixels are wanted.

    Returns:
        uint8 (rows, columns, 3), RGB, upright.

    Raises:
        ImageTooLarge: more than `max_pixels` pixels, `MAX_SCANS` scans, `MAX_SEGMENTS` segments or all the memory.
        ImageError: another kind of file, damaged, or cut short; the message says which.
    """
    opened = open_bytes(data, max_pixels, shorter)
    with budget.take(opened.cost, opened.what):
        return opened.read()


def open_bytes(data: bytes, max_pixels: int = MAX_PIXELS, shorter: int | None = None) -> Opened:
    """Read the header of an image file and check every limit but the memory's. Arguments and errors as for `decode`."""
    kinds = _check_segments(data)
    if kinds[SCAN] and PLAIN.issuperset(kinds) and (size := _plain_size(data)) is not None:
        _check_size(*size, max_pixels)
        factor = _reduction(*size, shorter)
        least = _least(size, factor)
        return Opened(*size, _jpeg_cost(*size, kinds, factor), factor, lambda: _libjpeg(data, least))
    canvas = _webp_canvas(data[:HEAD])
    if canvas is not None:  # Pillow would allocate it, before there is memory for it
        _check_size(*canvas, max_pixels)
        cost = canvas[0] * canvas[1] * _BYTES["WEBP"]
        return Opened(*canvas, cost, 1, lambda: _by_pillow(open_image(io.BytesIO(data), max_pixels), data))
    image = open_image(io.BytesIO(data), max_pixels)
    pixels = image.width * image.height
    if kind_of(data[:HEAD]) is not JPEG:
        cost = pixels * _BYTES.get(image.format or "", _OTHER_BYTES)
        return Opened(*image.size, cost, 1, lambda: _by_pillow(image, data))
    if image.mode in {"RGB", "L"}:
        factor = _reduction(*image.size, shorter)
        cost = _jpeg_cost(*image.size, kinds, factor)
    else:
        factor, cost = 1, pixels * (_INKS + _COEFFICIENTS)
    return Opened(*image.size, cost, factor, lambda: _jpeg(image, data, _least(image.size, factor)))


def open_image(file: IO[bytes], max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image file, of which only the header is read, for the caller to decode and to close.

    Raises:
        ImageTooLarge: more than `max_pixels` pixels.
        ImageError: a kind of file that is not read, or damaged in the header.
    """
    head = file.read(HEAD)
    kind = kind_of(head)
    _check_kind(kind, file)
    canvas = _webp_canvas(head)
    if canvas is not None:  # Pillow's WebP decoder allocates the canvas when it opens the file
        _check_size(*canvas, max_pixels)
    try:
        image = Image.open(file, formats=[str(kind.pillow)])
    except UnidentifiedImageError as error:
        what = _process(kind, file)
        raise ImageError(what or f"damaged image: the header of this {kind.name} cannot be read") from error
    except _DAMAGED as error:
        raise ImageError(_process(kind, file) or f"damaged image: {error}") from error
    _check_size(*image.size, max_pixels)
    return image


def _check_kind(kind: Kind, file: IO[bytes]) -> None:
    if kind.pillow is None or (kind.extra and kind.pillow not in more_formats()):
        size = file.seek(0, io.SEEK_END)
        if kind is UNKNOWN:
            raise ImageError(f"not a JPEG, PNG or WebP image ({size} bytes)")
        raise ImageError(f"this is {kind.name} ({size} bytes), not a JPEG, PNG or WebP image; {kind.remedy}")


def _process(kind: Kind, file: IO[bytes]) -> str | None:
    file.seek(0)
    process = jpeg_process(file.read(2**20)) if kind is JPEG else None
    return process and f"this is {process}, which is not read; save it as a JPEG of 8 bits or as PNG"


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"image has {width} x {height} = {width * height} pixels; the limit is {max_pixels}; make it smaller, or "
            f"raise `max_pixels`"
        )


def _plain_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a grey or colour JPEG; None means that Pillow must open it, which is slower."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, LookupError):  # LookupError: an unknown subsampling
        return None
    return (width, height) if colours in {"Gray", "YCbCr", "RGB"} else None


def _reduction(width: int, height: int, shorter: int | None) -> int:
    """The factor by which a JPEG may be reduced during decoding: 1, 2, 4 or 8."""
    if shorter is None:
        return 1
    return max((factor for factor in (2, 4, 8) if min(width, height) >= factor * GAP * shorter), default=1)


def _least(size: tuple[int, int], factor: int) -> tuple[int, int]:
    """Rows and columns of the reduced picture; zeros mean all of it."""
    return (0, 0) if factor == 1 else (-(-size[1] // factor), -(-size[0] // factor))


def _jpeg_cost(width: int, height: int, kinds: Counter[bytes], factor: int) -> int:
    pixels = width * height
    several = kinds[SCAN] > 1 or kinds[_PROGRESSIVE] > 0  # libjpeg then holds all coefficients
    return pixels // factor**2 * _JPEG_BYTES + pixels * _COEFFICIENTS * several


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
    """The width and height that the first 30 bytes of a WebP file claim; None for any other file."""
    if header[:4] != b"RIFF" or header[8:12] != b"WEBP" or len(header) < 30:
        return None
    kind = header[12:16]
    if kind == b"VP8X":
        return int.from_bytes(header[24:27], "little") + 1, int.from_bytes(header[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(header[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(header[26:28], "little") & 0x3FFF, int.from_bytes(header[28:30], "little") & 0x3FFF


def _jpeg(image: Image.Image, data: bytes, least: tuple[int, int]) -> Pixels:
    """Decode with libjpeg-turbo, which is twice as fast and reports lost data; with Pillow if it cannot."""
    try:
        if image.mode in {"RGB", "L"}:
            return _upright(_libjpeg(data, least), image)
        if image.mode == "CMYK":  # Pillow converts its inks; libjpeg-turbo only reports lost data
            decode_jpeg(data, "CMYK")
    except OtherSubsampling:
        pass
    return _by_pillow(image, data)


def _libjpeg(data: bytes, least: tuple[int, int]) -> Pixels:
    try:
        return decode_jpeg(data, least=least)
    except OtherSubsampling:
        raise
    except ImageError as error:
        raise ImageError(_process(JPEG, io.BytesIO(data)) or str(error)) from error


def _by_pillow(image: Image.Image, data: bytes) -> Pixels:
    with image:
        image.load()
        out = np.empty((image.height, image.width, 3), np.uint8)
        step = max(1, BAND // image.width)
        for top in range(0, image.height, step):
            bottom = min(image.height, top + step)
            out[top:bottom] = np.asarray(_rgb(image.crop((0, top, image.width, bottom)), data))
        return _upright(out, image)


def _upright(pixels: Pixels, image: Image.Image) -> Pixels:
    turn = _TURNS.get(image.getexif().get(ORIENTATION, 1))
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _rgb(band: Image.Image, data: bytes) -> Image.Image:
    """Convert some rows of an image to RGB, laid over white."""
    key = band.info.get("transparency")
    if band.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip instead of scale
        values = np.asarray(band).astype(np.int64)
        high = (values >> 8).clip(0, 255).astype(np.uint8)
        if isinstance(key, int):  # the transparent grey, laid over white
            high[values == key] = 255
        return Image.fromarray(high).convert("RGB")
    if band.mode == "L" and isinstance(key, int) and data.startswith(b"\x89PNG"):
        # Pillow scales grey of 2 and 4 bits to 8, and leaves the transparent grey as it was
        band.info["transparency"] = key * 255 // (2 ** data[_PNG_DEPTH] - 1)
    if band.has_transparency_data:
        band = band.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", band.size, "white"), band).convert("RGB")
    return band.convert("RGB")
