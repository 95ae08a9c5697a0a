"""How a network wants its pixels, as the configuration beside its file says: that of timm or that of transformers.

It knows nothing of graphs. Letters: k is what a pixel of 255 becomes before mean and deviation are applied.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from breadcrumbs.models.files import open_regular
from breadcrumbs.models.images.preprocess import Interpolation
from breadcrumbs.models.networks import IMAGENET, Pixels
from breadcrumbs.models.printable import escaped
from breadcrumbs.training.adopt.config import LARGEST
from breadcrumbs.training.adopt.opened import AdoptError

NAMES = ("config.json", "preprocessor_config.json")
MOST_BYTES = 1_000_000
CONVNEXT_SQUASHES_FROM = 384
"""From this size on, transformers' ConvNeXt resizes without a crop."""
PILLOW: tuple[Interpolation, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Interpolations by Pillow's numbers."""

Colour = tuple[float, float, float]
FINEST, WIDEST = 1e-6, 1e6
"""Bounds of a deviation and, the wider one, of a mean, whatever scale it is on."""

Side = Annotated[int, Field(gt=0, le=LARGEST)]
Factor = Annotated[float, Field(ge=FINEST, le=WIDEST)]
Middle = Annotated[float, Field(ge=-WIDEST, le=WIDEST)]
Deviations = tuple[Factor, Factor, Factor]
Means = tuple[Middle, Middle, Middle]


@dataclass(frozen=True)
class Described:
    """What a configuration says: the pixels, and (height, width) if it says a size."""

    pixels: Pixels
    size: tuple[int, int] | None


class _Config(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class _Timm(_Config):
    """`pretrained_cfg` of timm; the defaults are timm's."""

    input_size: tuple[int, Side, Side] | None = None
    mean: Means = IMAGENET.mean
    std: Deviations = IMAGENET.std
    interpolation: Interpolation = "bicubic"
    crop_pct: Annotated[float, Field(gt=0, le=1)] = 0.875
    crop_mode: str = "center"

    def described(self, source: str) -> Described:
        channels, *size = self.input_size or (3,)
        if channels != 3:
            raise AdoptError(f"{source} is for {channels} channels; expected 3: name another file by --preprocessing")
        crop = None if self.crop_mode == "squash" else self.crop_pct
        pixels = Pixels(self.mean, self.std, self.interpolation, crop, source)
        return Described(pixels, (size[0], size[1]) if size else None)


class _Transformers(_Config):
    """`preprocessor_config.json` of transformers."""

    do_resize: bool = True
    size: Side | dict[str, Side | None] | None = None
    resample: Annotated[int, Field(ge=0, le=5)] = 2
    do_center_crop: bool | None = None
    crop_size: Side | dict[str, Side | None] | None = None
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = None
    do_rescale: bool = True
    rescale_factor: Factor = 1 / 255
    rescale_offset: bool = False
    do_normalize: bool = True
    image_mean: Means | None = None
    image_std: Deviations | None = None

    def described(self, source: str) -> Described:
        size, crop = self._geometry(source)
        pixels = Pixels(*self._colours(source), PILLOW[self.resample], crop, source)
        return Described(pixels, size)

    def _colours(self, source: str) -> tuple[Colour, Colour]:
        """Mean and deviation on the scale 0 … 1: (k·x − o − mean) / std = (x − (o + mean)/k) / (std/k), o is 0 or 1."""
        if self.do_normalize and (self.image_mean is None or self.image_std is None):
            raise AdoptError(f"{source} has no image_mean or no image_std; expected both: say --mean and --std")
        mean = self.image_mean if self.do_normalize and self.image_mean else (0.0, 0.0, 0.0)
        std = self.image_std if self.do_normalize and self.image_std else (1.0, 1.0, 1.0)
        k = round(255 * self.rescale_factor, 6) if self.do_rescale else 255.0
        o = 1.0 if self.do_rescale and self.rescale_offset else 0.0
        return ((o + mean[0]) / k, (o + mean[1]) / k, (o + mean[2]) / k), (std[0] / k, std[1] / k, std[2] / k)

    def _geometry(self, source: str) -> tuple[tuple[int, int] | None, float | None]:
        """The size (height, width) of the network's input, and the share of the centre crop."""
        crop = _square(self.crop_size) if self.do_center_crop is not False else None
        if not self.do_resize or self.size is None:
            return crop, None
        exact, shorter = _square(self.size), _shorter(self.size)
        if shorter is not None and (crop is not None or not isinstance(self.size, int)):
            return self._cropped(shorter, crop)
        if exact is None:
            raise AdoptError(
                f"{source} has size {self.size}; expected height and width or shortest_edge: say --size and --crop"
            )
        if crop not in (None, exact):
            raise AdoptError(
                f"{source} resizes to {exact} and crops to {crop}; expected the same of both: say --size and --crop"
            )
        return exact, None

    def _cropped(self, shorter: int, crop: tuple[int, int] | None) -> tuple[tuple[int, int], float | None]:
        """The size and the share of the crop, where the shorter side is resized."""
        if crop is not None:
            return crop, min(1.0, min(crop) / shorter)
        if self.crop_pct is None:
            return (shorter, shorter), 1.0
        return (shorter, shorter), None if shorter >= CONVNEXT_SQUASHES_FROM else self.crop_pct


def _square(size: int | dict[str, int | None] | None) -> tuple[int, int] | None:
    """Height and width, if a size says them."""
    if isinstance(size, int):
        return size, size
    height, width = (size or {}).get("height"), (size or {}).get("width")
    return (height, width) if height and width else None


def _shorter(size: int | dict[str, int | None]) -> int | None:
    """The length of the shorter side, if a size says it."""
    return size if isinstance(size, int) else size.get("shortest_edge")


def find(graph: Path, config: Path | None) -> Described | None:
    """Read the configuration that is named, or that lies beside the graph.

    Also of the folder above, if the graph lies in one named `onnx`, as on model hubs.

    Args:
        graph: the ONNX file.
        config: the file that was named, if any.

    Raises:
        AdoptError: it cannot be read or does not describe pixels.
    """
    if config is not None:
        found = _read(config)
        if found is None:
            raise AdoptError(
                f"{escaped(config.name)} does not describe pixels; expected timm's config.json or transformers' "
                "preprocessor_config.json: name one by --preprocessing"
            )
        return found
    folders = [graph.parent, graph.parent.parent] if graph.absolute().parent.name == "onnx" else [graph.parent]
    files = [folder / name for folder in folders for name in NAMES]
    found_files = (_read(file) for file in files if file.exists())
    return next((found for found in found_files if found is not None), None)


def _read(path: Path) -> Described | None:
    """Read a configuration; None: it is of neither kind."""
    name = escaped(path.name)
    try:
        with open_regular(path) as file:
            data = json.loads(file.read(MOST_BYTES))
    except OSError as error:
        raise AdoptError(f"cannot read {name} ({error.strerror}); name another by --preprocessing") from error
    except (ValueError, RecursionError) as error:
        raise AdoptError(f"{name} is no JSON; repair it, or name another by --preprocessing") from error
    return _parsed(data, name)


def _parsed(data: Any, name: str) -> Described | None:
    values = data.get("pretrained_cfg", data) if isinstance(data, dict) else None
    if not isinstance(values, dict):
        return None
    try:
        if "input_size" in values or "mean" in values:
            return _Timm.model_validate(values).described(f"{name} (timm)")
        if "image_mean" in values or "do_normalize" in values:
            return _Transformers.model_validate(values).described(f"{name} (transformers)")
    except ValidationError as error:
        first = error.errors()[0]
        place = escaped(".".join(str(part) for part in first["loc"]))[:80]
        raise AdoptError(f"{name}: {place}: {first['msg']}; repair it, or name another by --preprocessing") from error
    return None
