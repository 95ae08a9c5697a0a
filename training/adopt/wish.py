"""What a user says about a backbone beyond its file. It knows nothing of the file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from breadcrumbs.models.images.preprocess import Interpolation
from breadcrumbs.training.adopt.opened import AdoptError

Colour = tuple[float, float, float]
Pool = Literal["cls", "mean"]
LARGEST = 4096
"""Largest size of a network's input, in pixels."""
FINEST, WIDEST = 1e-6, 1e6
"""Bounds of a deviation and, the wider one, of a mean, whatever scale it is on."""


@dataclass(frozen=True)
class Wish:
    """What a user says about a backbone; None leaves it to the file and to the configuration beside it.

    Attributes:
        output: the name of the output that has the features.
        pool: what becomes of tokens (N, T, D): the first one, or their mean.
        size: height and width of the network's input, in pixels.
        mean, std: of each channel, on the scale 0 … 1.
        interpolation: of the resizing.
        crop: side of the centre crop as a share of the resized shorter side; squash: resized to a square, not cropped.
        preprocessing: a `config.json` of timm or a `preprocessor_config.json` of transformers.

    Raises:
        AdoptError: a value is out of its bounds.
    """

    output: str | None = None
    pool: Pool | None = None
    size: int | None = None
    mean: Colour | None = None
    std: Colour | None = None
    interpolation: Interpolation | None = None
    crop: float | Literal["squash"] | None = None
    preprocessing: Path | None = None

    def __post_init__(self) -> None:
        if self.size is not None and not 0 < self.size <= LARGEST:
            raise AdoptError(f"--size is {self.size}; expected 1 to {LARGEST} pixels")
        if self.mean is not None and not all(abs(value) <= WIDEST for value in self.mean):
            raise AdoptError(f"--mean is {self.mean}; expected three numbers on the scale 0 to 1")
        if self.std is not None and not all(FINEST <= value <= WIDEST for value in self.std):
            raise AdoptError(f"--std is {self.std}; expected three positive numbers on the scale 0 to 1")
        if isinstance(self.crop, float | int) and not 0 < self.crop <= 1:
            raise AdoptError(f"--crop is {self.crop}; expected a share above 0 and up to 1, or 'squash'")
