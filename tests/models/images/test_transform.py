"""The evaluation transform: from an image of any size to the network's."""

from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from tiny import picture, png

from breadcrumbs.models.images.preprocess import Preprocess, fit, load

COLOUR = np.random.default_rng(3).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def transform(height: int, width: int, **more: Any) -> Preprocess:
    return Preprocess(height=height, width=width, mean=(0, 0, 0), std=(1, 1, 1), **more)


def test_an_image_of_the_right_size_is_left_alone() -> None:
    """No resampling where none is needed."""
    assert np.array_equal(load(png(picture()), transform(8, 8)), picture())


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resize_straight_to_size(interpolation: str) -> None:
    """Without `resize` the image is stretched to the size, as Pillow does it."""
    found = fit(COLOUR, transform(16, 12, interpolation=interpolation))
    method = Image.Resampling[interpolation.upper()]

    assert np.array_equal(found, np.asarray(Image.fromarray(COLOUR).resize((12, 16), method)))


@pytest.mark.parametrize(("rows", "columns"), [(24, 40), (40, 24), (30, 30), (1, 90), (90, 1), (7, 200)])
@pytest.mark.parametrize(("height", "width", "resize"), [(8, 8, 10), (8, 16, 10), (16, 8, 4), (12, 12, 12)])
def test_resize_and_centre_crop_reach_the_size(rows: int, columns: int, height: int, width: int, resize: int) -> None:
    """Whatever the shapes, the crop lies inside of the resized image: the size is reached and no edge is black."""
    found = fit(np.full((rows, columns, 3), 200, np.uint8), transform(height, width, resize=resize))

    assert found.shape == (height, width, 3)
    assert (found == 200).all()


def test_the_crop_is_from_the_centre() -> None:
    """The shorter side becomes `resize`, and the middle of the result is kept."""
    image = np.zeros((20, 40, 3), np.uint8)
    image[8:12, 18:22] = 255

    found = fit(image, transform(4, 4, resize=20))

    assert (found == 255).all()


def test_mean_and_deviation_change_no_pixel() -> None:
    """Normalisation is the backbone's: the pixels are the same whatever it will be."""
    other = Preprocess(height=12, width=12, mean=(0.5, 0.5, 0.5), std=(0.1, 0.2, 0.3))

    assert np.array_equal(fit(COLOUR, other), fit(COLOUR, transform(12, 12)))


@pytest.mark.parametrize(
    "change", [{"height": 0}, {"width": 5_000}, {"resize": 0}, {"interpolation": "random"}, {"mean": (0, 0)}]
)
def test_a_transform_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    """Sizes and names are checked when a transform is made."""
    with pytest.raises(ValidationError):
        Preprocess(**{"height": 8, "width": 8, "mean": (0, 0, 0), "std": (1, 1, 1)} | change)
