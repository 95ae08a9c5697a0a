"""Images of every kind, whole, damaged or too large."""

import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from breadcrumbs.models.images.decoding import MAX_PIXELS, decode
from breadcrumbs.models.images.errors import ImageError, ImageTooLarge

RNG = np.random.default_rng(3)
COLOUR = np.kron(RNG.integers(0, 256, (3, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)  # (24, 40, 3), in large squares
GREY = COLOUR[:, :, 0]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def near(a: np.ndarray, b: np.ndarray, tolerance: float = 6) -> bool:
    """Whether two images are the same but for what JPEG loses."""
    return a.shape == b.shape and float(np.abs(a.astype(float) - b).mean()) < tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_exif_orientation_is_applied(kind: str, mode: str, orientation: int) -> None:
    """Each of the eight orientations comes out upright, as Pillow's own transposition says."""
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(COLOUR).convert(mode), kind, exif=exif(orientation), **options)

    found = decode(data)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")

    assert found.shape == ((24, 40, 3) if orientation < 5 else (40, 24, 3))
    assert near(found, np.asarray(upright), 1)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_is_ignored(orientation: int) -> None:
    """An orientation outside of 1 … 8 turns nothing."""
    data = encoded(Image.fromarray(COLOUR), "PNG", exif=exif(orientation))

    assert np.array_equal(decode(data), COLOUR)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_grey_becomes_three_equal_channels(kind: str) -> None:
    """A grey image has its grey in each channel."""
    found = decode(encoded(Image.fromarray(GREY), kind))

    assert near(found, np.stack([GREY] * 3, axis=2))
    assert (np.ptp(found, axis=2) <= (4 if kind == "WEBP" else 0)).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_colour_is_exact(kind: str) -> None:
    """What a lossless file holds is what comes out, and it is a plain array of bytes."""
    found = decode(encoded(Image.fromarray(COLOUR), kind, **({"lossless": True} if kind == "WEBP" else {})))

    assert found.dtype == np.uint8
    assert np.array_equal(found, COLOUR)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"dpi": (300, 300)}])
def test_jpeg_is_as_pillow_decodes_it(options: dict[str, Any]) -> None:
    """The fast JPEG decoder gives what Pillow gives, within rounding."""
    data = encoded(Image.fromarray(COLOUR), "JPEG", **options)

    assert near(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), 2)


def with_metadata(jpeg: bytes) -> bytes:
    """The same picture with an empty EXIF block, so that Pillow has to read the header."""
    return jpeg[:2] + b"\xff\xe1\x00\x08Exif\0\0" + jpeg[2:]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"comment": b"a shoe"}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_without_metadata_is_decoded_alike_without_pillow(
    monkeypatch: pytest.MonkeyPatch, mode: str, options: dict[str, Any]
) -> None:
    """Reading the header in Python takes as long as decoding a small photo; without metadata nothing needs it."""
    data = encoded(Image.fromarray(COLOUR).convert(mode), "JPEG", **options)
    expected = decode(with_metadata(data))
    opened: list[object] = []
    monkeypatch.setattr(Image, "open", lambda file, **_: opened.append(file))

    assert np.array_equal(decode(data), expected)
    assert opened == []
    with pytest.raises(ImageTooLarge, match="40 x 24 = 960 pixels; the limit is 959"):
        decode(data, 959)


def test_cmyk_is_converted() -> None:
    """A CMYK JPEG comes out in the colours it shows."""
    data = encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", quality=95)

    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert near(decode(data), COLOUR, 12)


def test_palette_is_looked_up() -> None:
    """A palette image comes out in its palette's colours."""
    image = Image.fromarray(COLOUR).quantize(16)

    found = decode(encoded(image, "PNG"))

    assert np.array_equal(found, np.asarray(image.convert("RGB")))
    assert near(found, COLOUR)


def test_alpha_is_laid_over_white() -> None:
    """Clear is white, half-clear is half-way to white, opaque is itself."""
    colours = np.uint8([[[10, 20, 30, 0], [10, 20, 30, 128], [10, 20, 30, 255]]])

    found = decode(encoded(Image.fromarray(colours, "RGBA"), "PNG"))

    assert found[0, 0].tolist() == [255, 255, 255]
    assert np.abs(found[0, 1].astype(int) - [132, 137, 142]).max() <= 1
    assert found[0, 2].tolist() == [10, 20, 30]


def test_alpha_is_laid_over_white_in_webp_and_in_grey() -> None:
    """The same for WebP, for grey with alpha, and for a palette or a grey with one clear colour."""
    clear = Image.new("RGBA", (4, 4), (9, 9, 9, 0))
    index = Image.fromarray(np.uint8([[0, 1]]), "P")
    index.putpalette([0, 0, 0, 200, 0, 0])

    assert (decode(encoded(clear, "WEBP", lossless=True)) == 255).all()
    assert (decode(encoded(clear.convert("LA"), "PNG")) == 255).all()
    assert decode(encoded(index, "PNG", transparency=0)).tolist() == [[[255] * 3, [200, 0, 0]]]
    assert decode(encoded(Image.fromarray(np.uint8([[0, 7]])), "PNG", transparency=0))[0].tolist() == [
        [255] * 3,
        [7] * 3,
    ]


def test_sixteen_bits_keep_the_high_byte() -> None:
    """16-bit grey is scaled by its high byte, never clipped."""
    values = np.uint16([[0x0000, 0x00FF, 0x0100, 0x7FFF, 0xFF00, 0xFFFF]])

    found = decode(encoded(Image.fromarray(values), "PNG"))

    assert found[0].tolist() == [[v] * 3 for v in (0, 0, 1, 127, 255, 255)]


def test_sixteen_bit_grey_is_turned_upright() -> None:
    """16-bit grey has its orientation applied, too."""
    values = np.arange(6, dtype=np.uint16).reshape(2, 3) << 8

    found = decode(encoded(Image.fromarray(values), "PNG", exif=exif(6)))

    assert found[:, :, 0].tolist() == [[3, 0], [4, 1], [5, 2]]


def test_sixteen_bit_colour_keeps_the_high_byte() -> None:
    """A PNG of 16 bits a channel, which Pillow cannot write, has the high byte of each."""
    row = b"\0" + struct.pack(">6H", 0x0180, 0x02FF, 0xFF00, 0xFFFF, 0x8000, 0x7F80)
    data = png_of(2, 1, depth=16, colour=2, rows=zlib.compress(row))

    assert decode(data).tolist() == [[[1, 2, 255], [255, 128, 127]]]


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_animations_give_their_first_frame(kind: str) -> None:
    """Of an animation only the first frame counts."""
    frames = [Image.fromarray(np.full((6, 6, 3), v, np.uint8)) for v in (10, 120, 240)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])

    assert Image.open(io.BytesIO(data)).n_frames == 3  # type: ignore[attr-defined]
    assert near(decode(data), np.full((6, 6, 3), 10, np.uint8), 3)


def test_two_pictures_in_one_jpeg_give_the_first() -> None:
    """A camera's multi-picture JPEG is its first picture."""
    other = Image.fromarray(255 - COLOUR)
    data = encoded(Image.fromarray(COLOUR), "MPO", save_all=True, append_images=[other])

    assert near(decode(data), COLOUR, 20)
    assert not near(decode(data), np.asarray(other), 60)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_file_cut_short_is_refused(kind: str, share: float) -> None:
    """A file that ends early is an ImageError, never a picture that is grey below."""
    noise = Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    data = encoded(noise, kind)

    with pytest.raises(ImageError):
        decode(data[: int(share * len(data))])


def test_a_turned_jpeg_cut_short_is_refused() -> None:
    """A JPEG that goes through Pillow, since it must be turned, is refused in the same way."""
    data = encoded(Image.fromarray(COLOUR), "JPEG", exif=exif(6))

    with pytest.raises(ImageError, match="damaged image"):
        decode(data[:-100])


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA"])
def test_other_formats_are_refused(kind: str) -> None:
    """A file is what its bytes say: other formats are refused even where Pillow could read them."""
    data = encoded(Image.fromarray(COLOUR), kind)

    with pytest.raises(ImageError, match="not a JPEG, PNG or WebP image"):
        decode(data)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8 ", b"<svg/>"])
def test_hardly_anything_is_refused(data: bytes) -> None:
    """Nothing, a bare signature or text is an ImageError."""
    with pytest.raises(ImageError, match=r"not a JPEG|damaged image"):
        decode(data)


def png_of(width: int, height: int, depth: int = 8, colour: int = 2, rows: bytes = b"") -> bytes:
    """A PNG that claims a size, whatever its rows."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG that claims a size."""
    data = encoded(Image.new("RGB", (8, 8)), "JPEG")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def webp_of(width: int, height: int, kind: bytes) -> bytes:
    """A WebP file of one of its three kinds that claims a size."""
    if kind == b"VP8X":
        body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        body = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little") + bytes(20)
    else:
        body = b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(20)
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


BOMBS = [
    (png_of, 11_000, 11_000),
    (png_of, 12_000, 12_000),  # where Pillow would warn
    (png_of, 60_000, 60_000),  # where Pillow would refuse
    (png_of, 2**31 - 1, 2**31 - 1),
    (jpeg_of, 11_000, 11_000),
    (jpeg_of, 65_535, 65_535),
    (lambda w, h: webp_of(w, h, b"VP8X"), 11_000, 11_000),
    (lambda w, h: webp_of(w, h, b"VP8X"), 2**24, 2**24),
    (lambda w, h: webp_of(w, h, b"VP8L"), 16_384, 16_384),
    (lambda w, h: webp_of(w, h, b"VP8 "), 16_383, 16_383),
]


@pytest.mark.parametrize(("make", "width", "height"), BOMBS)
def test_a_bomb_is_refused_from_its_header(make: Any, width: int, height: int) -> None:
    """An image that claims too many pixels is refused by our limit, whatever Pillow's is, without being decoded."""
    with pytest.raises(ImageTooLarge) as error:  # a warning of Pillow's would be raised in its place
        decode(make(width, height))

    assert f"image has {width} x {height} = {width * height} pixels; the limit is {MAX_PIXELS}; " in str(error.value)


@pytest.mark.parametrize("kind", [b"VP8X", b"VP8L", b"VP8 "])
def test_a_webp_over_the_limit_by_one_column_is_refused(kind: bytes) -> None:
    """The size is read from each kind of WebP header in the right order and to the pixel."""
    with pytest.raises(ImageTooLarge, match="image has 301 x 20 = 6020 pixels; the limit is 6000"):
        decode(webp_of(301, 20, kind), 6000)


def test_the_limit_is_ours_alone() -> None:
    """A higher limit than Pillow's own lets a larger image through to its decoder, without a warning."""
    with pytest.raises(ImageError, match="damaged image"):  # it has no rows, which only its decoder can find out
        decode(png_of(10_000, 10_000, colour=0), 100_000_000)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_limit_itself_passes(kind: str) -> None:
    """An image of exactly the limit is decoded; one more pixel than it is not."""
    data = encoded(Image.fromarray(COLOUR), kind)

    assert decode(data, 24 * 40).shape == (24, 40, 3)
    with pytest.raises(ImageTooLarge, match="image has 40 x 24 = 960 pixels; the limit is 959"):
        decode(data, 24 * 40 - 1)


def test_damaged_metadata_is_not_complained_of(tmp_path: Path) -> None:
    """A damaged EXIF block decodes without a word: Python would remember each of 65,535 texts a file, for ever."""
    tags = b"".join(struct.pack(">HHII", 1_000 + tag, 7, 2**20, 0) for tag in range(99))
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\x63" + tags
    path = tmp_path / "damaged.jpg"
    path.write_bytes(encoded(Image.fromarray(COLOUR), "JPEG", exif=block))
    program = (
        "import sys; from breadcrumbs.models.images.decoding import decode\n"
        "print(decode(open(sys.argv[1], 'rb').read()).shape)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("(24, 40, 3)\n", "")


TAGS = exif(6)
TAGS[0x010E] = "a description"
SEEDS = [
    encoded(Image.fromarray(COLOUR), "JPEG"),
    encoded(Image.fromarray(COLOUR), "JPEG", exif=TAGS),
    encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", progressive=True),
    encoded(Image.fromarray(COLOUR), "PNG", exif=TAGS),
    encoded(Image.fromarray(COLOUR).quantize(16), "PNG", transparency=3),
    encoded(Image.fromarray(GREY.astype(np.uint16) << 8), "PNG"),
    encoded(Image.fromarray(COLOUR), "PNG", save_all=True, append_images=[Image.fromarray(255 - COLOUR)]),
    encoded(Image.fromarray(COLOUR), "WEBP", exif=TAGS),
    encoded(Image.fromarray(COLOUR), "WEBP", lossless=True),
    encoded(Image.fromarray(COLOUR), "WEBP", save_all=True, append_images=[Image.fromarray(255 - COLOUR)]),
]


def with_sound_sums(data: bytes) -> bytes:
    """A PNG with its checksums put right, so that a mutation gets past them."""
    fixed, place = bytearray(data[:8]), 8
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        if place + 12 + size > len(data):
            break
        body = data[place + 4 : place + 8 + size]
        fixed += data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + size
    return bytes(fixed) + data[place:]


def test_damaged_exif_is_no_hindrance() -> None:
    """EXIF with text where a number belongs, which no library could write back, still turns the image upright."""
    data = encoded(Image.fromarray(COLOUR), "PNG", exif=TAGS)
    damaged = with_sound_sums(data.replace(b"\x01\x0e\x00\x02", b"\x01\x01\x00\x02"))

    assert damaged != data
    assert np.array_equal(decode(damaged), np.rot90(COLOUR, -1))


def decode_or_refuse(data: bytes) -> np.ndarray | None:
    """Decode, and allow pixels or an ImageError; anything else that is raised is the caller's failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged EXIF and goes on
        try:
            found = decode(data, 1_000_000)
        except ImageError:
            return None
    assert found.dtype == np.uint8
    assert found.ndim == 3
    assert found.shape[2] == 3
    return found


@settings(max_examples=150)
@given(data=st.binary(max_size=200), front=st.sampled_from([b"", *(seed[:40] for seed in SEEDS)]))
def test_random_bytes_raise_only_image_errors(data: bytes, front: bytes) -> None:
    """Whatever bytes come, alone or after the beginning of an image: pixels or an ImageError."""
    decode_or_refuse(front + data)


@settings(max_examples=200)
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4), st.integers(0, 6)), max_size=4),
    end=st.integers(0, 60),
)
def test_random_damage_raises_only_image_errors(seed: bytes, changes: list[tuple[int, bytes, int]], end: int) -> None:
    """Whatever bytes of an image are replaced, inserted or cut: pixels or an ImageError."""
    data = bytearray(seed)
    for place, new, length in changes:
        data[place : place + length] = new
    damaged = bytes(data[: len(data) - end])

    found = decode_or_refuse(damaged)
    if damaged.startswith(b"\x89PNG"):
        decode_or_refuse(with_sound_sums(damaged))
    if found is not None and damaged.startswith(b"\xff\xd8\xff"):
        again = decode_or_refuse(with_metadata(damaged))
        assert again is not None
        assert np.array_equal(found, again)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_after_load_codecs_no_image_loads_one(tmp_path: Path, kind: str) -> None:
    """No module is new after the first image of a fresh process; without the call, Pillow's are."""
    path = tmp_path / "image"
    path.write_bytes(encoded(Image.fromarray(COLOUR), kind))
    program = (
        "import sys; from pathlib import Path; from breadcrumbs.models.images import decoding\n"
        "if sys.argv[2] == 'ready': decoding.load_codecs()\n"
        "before = set(sys.modules); decoding.decode(Path(sys.argv[1]).read_bytes())\n"
        "print(len([name for name in set(sys.modules) - before if name.startswith('PIL.')]))"
    )

    def loaded(how: str) -> int:
        return int(subprocess.run([sys.executable, "-c", program, path, how], capture_output=True, check=True).stdout)

    assert loaded("ready") == 0
    assert loaded("not") > 0
