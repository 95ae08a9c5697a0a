"""JPEGs that are not quite right: what viewers show is shown, lost data is refused, and metadata has no part in it."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from breadcrumbs.models.images import decoding
from breadcrumbs.models.images.errors import ImageError
from breadcrumbs.models.images.jpeg import EXTRANEOUS
from breadcrumbs.models.images.segments import SCAN, has_end, places

CASES = Path(__file__).parents[2] / "cases"
HARMLESS = [path.name for path in sorted(CASES.glob("*.jpg"))]


def picture(quality: int = 85, orientation: int | None = None, side: int = 96, **more: object) -> bytes:
    """A JPEG with some detail everywhere, so that damage shows."""
    rng = np.random.default_rng(side)
    pixels = rng.integers(0, 256, (side // 4, side // 3, 3), np.uint8).repeat(4, 0).repeat(3, 1)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality, exif=exif, **more)
    return out.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    """What Pillow shows, held upright."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def with_orientation(data: bytes, orientation: int) -> bytes:
    """The same picture with an EXIF block that says how it was held."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    block = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    return data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2) + block + data[2:]


def verdict(data: bytes) -> bool:
    """Whether a file is taken."""
    try:
        decoding.decode(data)
    except ImageError:
        return False
    return True


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
@pytest.mark.parametrize("name", HARMLESS)
def test_what_viewers_open_is_decoded_as_pillow_does(name: str, orientation: int | None) -> None:
    """Odd SOS parameters, stray bytes, JFIF 2, odd subsampling, a trailer: the same pixels, however it was held."""
    data = (CASES / name).read_bytes()
    if orientation is not None and "orient" not in name:
        data = with_orientation(data, orientation)

    assert np.array_equal(decoding.decode(data), by_pillow(data))


@pytest.mark.parametrize("padding", [b"\0" * 1000, b"\xaa" * 300, bytes(range(EXTRANEOUS - 1))])
def test_bytes_before_the_end_pass(padding: bytes) -> None:
    """Padding of any length, and a few bytes of any kind."""
    data = picture()

    padded = data[:-2] + padding + data[-2:]

    assert np.array_equal(decoding.decode(padded), by_pillow(data))


def test_two_harmless_defects_pass_together() -> None:
    """One hides the other from libjpeg's warnings."""
    data = bytearray((CASES / "sos-samsung.jpg").read_bytes())
    data[data.index(b"JFIF\0") + 5] = 2

    assert np.array_equal(decoding.decode(bytes(data)), by_pillow(bytes(data)))


def test_damage_behind_a_harmless_defect_is_found() -> None:
    """A wrong JFIF version does not hide that half of the picture is missing."""
    data = bytearray(picture())
    data[data.index(b"JFIF\0") + 5] = 2
    start = next(place for kind, place in places(bytes(data)) if kind == SCAN)
    middle = (start + len(data)) // 2

    assert not verdict(bytes(data[:middle]) + b"\xff\xd9")


@settings(max_examples=150)
@given(
    kind=st.sampled_from(["cut", "end", "zeros", "noise", "flip"]),
    share=st.floats(0.02, 0.98),
    size=st.integers(1, 200),
    progressive=st.booleans(),
    orientation=st.integers(1, 8),
)
def test_the_verdict_does_not_depend_on_metadata(
    kind: str, share: float, size: int, progressive: bool, orientation: int
) -> None:
    """Whatever is cut from or written over a scan, a file passes with an orientation tag if and only if without."""
    data = bytearray(picture(progressive=progressive))
    start = next(place for kind, place in places(bytes(data)) if kind == SCAN) + 14
    place = start + int(share * (len(data) - 2 - start))
    noise = np.random.default_rng(size).integers(0, 255, size, np.uint8).tobytes()
    if kind == "cut":
        del data[place:-2]
    elif kind == "end":
        del data[place:]
    elif kind == "flip":
        data[place] ^= 1 << size % 8
    else:
        data[place : min(place + size, len(data) - 2)] = bytes(size) if kind == "zeros" else noise

    damaged = bytes(data)

    assert verdict(damaged) == verdict(with_orientation(damaged, orientation))
    if kind in {"cut", "end"} and share < 0.9 and not progressive:
        assert not verdict(damaged)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_cut_picture_is_refused_in_every_mode(mode: str, orientation: int) -> None:
    """Grey, colour and four inks, with and without a turn; the whole picture passes."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(out, "JPEG", exif=exif)
    data = out.getvalue()

    assert np.array_equal(decoding.decode(data), by_pillow(data))
    assert not verdict(data[: len(data) // 2] + b"\xff\xd9")
    assert not verdict(data[: len(data) // 2])


@pytest.mark.parametrize("trailer", [b"", b"\0" * 4096, b"ftypmp42" * 500, picture(side=48)])
def test_the_end_is_found_before_any_trailer(trailer: bytes) -> None:
    """Zeros, a video, another picture: the end marker is the first picture's."""
    whole = picture(orientation=6) + trailer

    assert has_end(whole)
    assert verdict(whole)
    assert not has_end(picture()[:-2])
