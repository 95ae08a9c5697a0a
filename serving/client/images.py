"""What a user may give a client as images, and the files that are sent of them.

    a path (str or Path) · bytes · an open binary file · a PIL image · a uint8 array · several of these

PIL images and arrays are sent as PNG, which changes no pixel. It knows nothing of requests.
"""

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

from breadcrumbs.models.errors import BreadcrumbsError

TAKEN = "a path, bytes, an open binary file, a PIL image or a uint8 array"
SHAPES = "H × W, H × W × 3 or H × W × 4, or a batch N × H × W × 3"
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
"""PIL's, which PNG holds as they are; the others become RGB."""


class ArrayLike(Protocol):
    """What numpy can make an array of, a torch tensor on the CPU among it."""

    def __array__(self) -> NDArray[Any]:
        """Return it as an array."""


Image = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Pillow.Image | NDArray[np.uint8]
"""One image."""
Images = Image | ArrayLike | Iterable[Image]
"""One image, or several."""
File = tuple[str, bytes]
"""Name and contents of a file that is sent."""


class InputError(BreadcrumbsError):
    """Something that is no image, nor a file of one; nothing was sent of it."""


def files(images: Images) -> Iterator[File]:
    """Yield name and contents of each image's file, one after the other.

    Raises:
        InputError: one of them cannot be taken; the message says which, what came and what to do.
    """
    some = False
    for number, image in enumerate(_each(images), 1):
        some = True
        yield _file(image, f"image {number}")
    if not some:
        raise InputError(f"no images came; expected at least one: {TAKEN}")


def _each(images: Any) -> Iterator[Any]:
    if isinstance(images, (Mapping, AbstractSet)):
        raise InputError(f"images: a {type(images).__name__} has no order to answer in; pass a list: {TAKEN}")
    if _is_array(images):
        yield from _unstacked(_array(images, "images"))
    elif _is_one(images) or not isinstance(images, Iterable):
        yield images
    else:
        for image in images:
            yield from _unstacked(_array(image, "an array")) if _is_array(image) else (image,)


def _is_one(image: Any) -> bool:
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, Pillow.Image)
    return isinstance(image, kinds) or hasattr(image, "read")


def _is_array(image: Any) -> bool:
    return hasattr(image, "__array__") and not isinstance(image, (Pillow.Image, str, bytes))


def _array(image: Any, what: str) -> NDArray[Any]:
    try:
        return np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a GPU, one that needs gradients
        raise InputError(f"{what}: numpy cannot read this {type(image).__name__}: {error}") from error


def _unstacked(array: NDArray[Any]) -> Iterator[Any]:
    """The images of an array: itself, those of a batch, or, of an array of paths or other objects, its items."""
    if array.dtype.kind in "OUS" and array.ndim == 1:
        yield from array.tolist()
    elif array.ndim == 4:
        yield from array
    else:
        yield array


def _file(image: Any, what: str) -> File:
    if isinstance(image, np.ndarray):
        return "image.png", _png(_picture(image, what))
    if isinstance(image, Pillow.Image):
        return "image.png", _png(_upright(image, what))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return "image", _some(bytes(image), what)
    if isinstance(image, (str, os.PathLike)):
        path = Path(os.fsdecode(image))
        return path.name or "image", _some(_contents(path, what), f"{what}: {_short(path)}")
    if hasattr(image, "read"):
        return "image", _some(_read(image, what), what)
    if _is_array(image):
        raise InputError(f"{what}: expected {TAKEN}, got a {type(image).__name__} in a list")
    raise InputError(f"{what}: expected {TAKEN}, got {_told(image)}")


def _told(image: Any) -> str:
    if image is None:
        return "None"
    if isinstance(image, Iterable) and not isinstance(image, Mapping):
        return f"a {type(image).__name__}; pass one flat list"
    return f"a value of type {type(image).__name__}"


def _some(data: bytes, what: str) -> bytes:
    if not data:
        raise InputError(f"{what}: expected the bytes of an image file, got none")
    return data


def _short(path: Path) -> str:
    return f"{str(path)!r:.200}"


def _contents(path: Path, what: str) -> bytes:
    if str(path).startswith(("http:/", "https:/", "data:")):
        raise InputError(f"{what}: {_short(path)} is a URL; get its bytes first, and pass those")
    try:
        if path.is_dir():
            raise InputError(
                f"{what}: {_short(path)} is a folder; pass its files, for example sorted(Path(folder).iterdir())"
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{what}: {_short(path)} cannot be read: {reason}") from error


def _read(file: Any, what: str) -> bytes:
    """The rest of an open file."""
    remedy = 'open it with "rb"'
    if isinstance(file, io.TextIOBase):
        raise InputError(f"{what}: expected a binary file, got one opened as text; {remedy}")
    try:
        data = file.read()
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{what}: the file cannot be read: {error}; {remedy}") from error
    if not isinstance(data, (bytes, bytearray)):
        if hasattr(data, "close"):
            data.close()  # of an asynchronous file: what nobody awaits
        raise InputError(f"{what}: expected a binary file, got one whose read() gives {type(data).__name__}; {remedy}")
    if not data:
        raise InputError(f"{what}: the file has no bytes left; it is empty, or was read before: seek(0) goes back")
    return bytes(data)


def _picture(array: NDArray[Any], what: str) -> Pillow.Image:
    """An array as a picture; refuses what is no picture."""
    got = f"got {array.dtype.name} of shape {array.shape}"
    if array.dtype != np.uint8:
        scale = "(255 * array).round().astype(numpy.uint8), if it is of 0 … 1" if array.dtype.kind == "f" else ""
        remedy = scale or "array.astype(numpy.uint8), if it is of 0 … 255"
        raise InputError(f"{what}: expected a uint8 array, {got}; {remedy}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in {3, 4})):
        first = array.ndim == 3 and array.shape[0] in {1, 3, 4}
        remedy = "; channels come last: array.transpose(1, 2, 0)" if first else ""
        if array.ndim == 1:
            remedy = "; if these are the bytes of an image file, pass array.tobytes()"
        raise InputError(f"{what}: expected an array of {SHAPES}, {got}{remedy}")
    return Pillow.fromarray(np.ascontiguousarray(array))


def _upright(image: Pillow.Image, what: str) -> Pillow.Image:
    """A picture as viewers show it, in a mode that PNG has."""
    if image.mode.startswith("F") or image.mode == "I":
        raise InputError(f"{what}: a PIL image of mode {image.mode} has no known range; convert it to L or RGB")
    try:
        upright = ImageOps.exif_transpose(image)
        return upright if upright.mode in MODES else upright.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{what}: the PIL image cannot be read: {error}") from error


def _png(image: Pillow.Image) -> bytes:
    if 0 in image.size:
        raise InputError(f"an image of {image.width} × {image.height} pixels has none")
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
