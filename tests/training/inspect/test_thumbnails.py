"""Small pictures inside a page, whatever the images are."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from breadcrumbs.training.data.split import Split
from breadcrumbs.training.inspect.thumbnails import BYTES, MOST, SIDE, Thumbnails


def split(*shapes: tuple[int, int]) -> list[Split]:
    """A split of one image of noise for each shape, the worst that a codec can get."""
    rng = np.random.default_rng(0)
    one = np.zeros(1, np.int64)
    return [Split(one, one, pixels=rng.integers(0, 256, (1, *shape, 3)).astype(np.uint8)) for shape in shapes]


def opened(source: str | None) -> Image.Image:
    """The picture of a data URI."""
    assert source is not None
    kind, _, text = source.partition(",")
    assert kind == "data:image/webp;base64"
    data = base64.b64decode(text)
    assert len(data) <= BYTES
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (28, 28), (96, 97), (300, 200), (900, 1400)])
def test_every_shape_has_a_picture(shape: tuple[int, int]) -> None:
    """No side above the limit, none enlarged, the proportions kept."""
    picture = opened(Thumbnails().of(split(shape)[0], 0))

    width, height = picture.size
    assert max(width, height) == min(SIDE, max(shape))
    assert width / height == pytest.approx(shape[1] / shape[0], rel=0.02) or min(width, height) == 1


def test_a_page_has_so_many_pictures_and_bytes() -> None:
    """Sixty pictures of noise are below 400 kB; the next one is not shown."""
    pictures = Thumbnails()
    noise = split((200, 200))[0]

    sources = [pictures.of(noise, 0) for _ in range(MOST)]

    assert sum(len(source or "") for source in sources) < 400_000
    assert None not in sources
    assert pictures.of(noise, 0) is None


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(100), None])
def test_a_file_that_cannot_be_read_is_no_picture(data: bytes | None, tmp_path: Path) -> None:
    """A damaged or missing file takes no other picture's place."""
    path = tmp_path / "image.png"
    if data is not None:
        path.write_bytes(data)
    one = np.zeros(1, np.int64)
    pictures = Thumbnails(1)

    assert pictures.of(Split(one, one, paths=(path,)), 0) is None
    assert pictures.left == 1
