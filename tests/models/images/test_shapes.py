"""Images of every shape and depth: memory follows the pixels and the output, and a transparent grey is white."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from breadcrumbs.models.images import decoding, preprocess
from breadcrumbs.models.images.preprocess import Preprocess

ROOT = Path(__file__).parents[3]
PLAIN = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}


def resized_whole(pixels: np.ndarray, how: Preprocess) -> np.ndarray:
    """The slow, obvious way: resize the whole image, then cut out the middle."""
    image = Image.fromarray(pixels)
    assert how.resize is not None
    scale = max(how.resize / min(image.size), how.height / image.height, how.width / image.width)
    size = max(how.width, round(image.width * scale)), max(how.height, round(image.height * scale))
    left, top = (size[0] - how.width) // 2, (size[1] - how.height) // 2
    way = Image.Resampling[how.interpolation.upper()]
    return np.asarray(image.resize(size, way).crop((left, top, left + how.width, top + how.height)))


@settings(max_examples=80)
@given(
    rows=st.integers(1, 300),
    columns=st.integers(1, 300),
    size=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    margin=st.integers(0, 30),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_cropping_first_changes_hardly_a_level(
    rows: int, columns: int, size: tuple[int, int], margin: int, interpolation: str
) -> None:
    """Resizing the crop alone gives what resizing the whole image and cropping gives.

    Pillow goes across or down first, whichever is cheaper, so the greys leave room for what bicubic overshoots.
    """
    noise = np.random.default_rng(rows * columns).integers(80, 176, (rows, columns, 3), np.uint8)
    how = Preprocess(height=size[0], width=size[1], resize=min(size) + margin, interpolation=interpolation, **PLAIN)  # type: ignore[arg-type]

    difference = np.abs(preprocess.fit(noise, how).astype(int) - resized_whole(noise, how))

    assert difference.max() <= (1 if interpolation == "bilinear" else 2)


PEAK = """
import sys
from breadcrumbs.models.images import decoding, preprocess
from breadcrumbs.models.images.preprocess import Preprocess
how = Preprocess(height=224, width=224, resize=int(sys.argv[2]) or None, mean=(0, 0, 0), std=(1, 1, 1))
decoding.load_codecs()
def of(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))
before = of("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # forget the peak
found = preprocess.load(open(sys.argv[1], "rb").read(), how)
print(found.shape, (of("VmHWM") - before) // 1024)
"""


@pytest.mark.parametrize("resize", [0, 256])
@pytest.mark.parametrize(
    ("rows", "columns"),
    [(1, 60_000), (60_000, 1), (1_000_000, 1), (1, 1_000_000), (500_000, 3), (3, 500_000), (20_000, 1), (2_000, 2_000)],
)
def test_memory_follows_the_pixels_and_the_output(rows: int, columns: int, resize: int, tmp_path: Path) -> None:
    """Thin images, both ways, take tens of MiB and not gigabytes, with a crop and without."""
    path = tmp_path / "thin.png"
    Image.new("RGB", (columns, rows), (200, 30, 90)).save(path)

    line = [sys.executable, "-c", PEAK, str(path), str(resize)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    shape, peak = done.stdout.rsplit(" ", 1)

    assert shape == "(224, 224, 3)"
    assert int(peak) < 100


def grey16(values: list[int], key: int | None) -> bytes:
    """A PNG of 16-bit grey, one row, with a transparent grey."""
    out = io.BytesIO()
    more = {} if key is None else {"transparency": key}
    Image.fromarray(np.array([values], np.uint16)).save(out, "PNG", **more)
    return out.getvalue()


@settings(max_examples=40)
@given(values=st.lists(st.integers(0, 65_535), min_size=2, max_size=9), which=st.integers(0, 8))
def test_a_transparent_grey_of_16_bits_is_laid_over_white(values: list[int], which: int) -> None:
    """As for 8 bits: what has exactly that grey is white, everything else keeps its high byte."""
    key = values[which % len(values)]

    found = decoding.decode(grey16(values, key))

    assert found[0, :, 0].tolist() == [255 if value == key else value >> 8 for value in values]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_grey_of_any_depth_is_laid_over_white(depth: int) -> None:
    """Greys of 1, 2 and 4 bits are scaled to 8, and the transparent one with them."""
    levels = 2**depth
    bits = "".join(format(value, f"0{depth}b") for value in range(levels))
    row = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for key in range(levels):
        head = struct.pack(">IIBBBBB", levels, 1, depth, 0, 0, 0, 0)
        parts = chunk(b"IHDR", head) + chunk(b"tRNS", struct.pack(">H", key))
        data = b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")

        found = decoding.decode(data)[0, :, 0].tolist()

        assert found == [255 if value == key else value * 255 // (levels - 1) for value in range(levels)]


def test_the_case_that_came_out_black() -> None:
    """16-bit grey whose transparent value is black: white, as viewers lay it."""
    found = decoding.decode((ROOT / "tests/cases/g16-trns.png").read_bytes())

    assert (found == 255).any()
