"""The definition of a backbone: a network, its width, and the pixels that it takes. It creates none."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.images.preprocess import Interpolation

if TYPE_CHECKING:  # torch is loaded where a network is made
    from torch import nn

SMALL = {f"resnet{6 * n + 2}": n for n in range(1, 6)}
"""Our own networks for small images, and their blocks a stage."""


class BackboneError(BreadcrumbsError):
    """No backbone of that name, none for images of that size, or no weights for it."""


@dataclass(frozen=True)
class Pixels:
    """The images that a network's weights were trained on.

    Attributes:
        mean, std: of each channel, on the scale 0 … 1.
        interpolation: of the resizing.
        crop: side of the centre crop as a share of the resized shorter side; None: resized to a square, not cropped.
        source: whose values these are, in words.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation
    crop: float | None
    source: str


IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear", 7 / 8, "ImageNet's usual values")


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network (N, 3, H, W) -> (N, D), its D, the pixels that it takes, and the side that it was made for."""

    network: "nn.Module"
    feature_dim: int
    pixels: Pixels = IMAGENET
    side: int = 224
