"""The pixels that a backbone takes, settled: what the user says, else the configuration, else the usual values.

It knows nothing of how they are applied.
"""

import math
from pathlib import Path

from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.networks import IMAGENET
from breadcrumbs.training.adopt import pixel_config
from breadcrumbs.training.adopt.config import LARGEST, BackboneConfig
from breadcrumbs.training.adopt.image_input import ImageInput
from breadcrumbs.training.adopt.normalised import Largest
from breadcrumbs.training.adopt.opened import AdoptError
from breadcrumbs.training.adopt.pixel_config import Colour, Described

SAID = ("size", "mean", "std", "interpolation", "crop")
USUAL_SIZE = 224
MOST_RESIZED = 8192
"""Largest shorter side of a resized image, in pixels."""
ZEROS: Colour = (0.0, 0.0, 0.0)
ONES: Colour = (1.0, 1.0, 1.0)


def settle(
    path: Path, config: BackboneConfig, image: ImageInput, white: Largest | None
) -> tuple[Preprocess, list[str]]:
    """Return the transform, and what was assumed, for people.

    Args:
        path: the graph's file; a configuration may lie beside it.
        config: what the user says.
        image: the graph's input.
        white: what a white pixel must be, for a float graph that normalises inside.

    Raises:
        AdoptError: what was said does not fit the graph, or the configuration is damaged.
    """
    described = pixel_config.find(path, config.preprocessing)
    pixels = described.pixels if described else IMAGENET
    height, width, assumed = _size(config, image, described)
    mean, std, colours = _colours(config, image, described, white)
    crop = pixels.crop if config.crop is None else config.crop
    resize = math.floor(round(min(height, width) / crop, 6)) if isinstance(crop, float | int) else None
    if resize is not None and resize > MOST_RESIZED:
        raise AdoptError(
            f"a crop of {crop} needs a shorter side of {resize} pixels; expected up to {MOST_RESIZED}: "
            "say a larger --crop"
        )
    transform = Preprocess(
        height=height,
        width=width,
        resize=resize,
        interpolation=config.interpolation or pixels.interpolation,
        mean=mean,
        std=std,
        source=_source(config, pixels.source),
    )
    return transform, [_told(transform), *assumed, *colours]


def _source(config: BackboneConfig, usual: str) -> str:
    """Where the values come from: the flags, and what says the others, if any are left."""
    given = [f"--{name}" for name in SAID if getattr(config, name) is not None]
    others = [] if {f"--{name}" for name in SAID[1:]} <= set(given) else [usual]
    return ", ".join([*others, *given])[:200]


def _told(transform: Preprocess) -> str:
    crop = f"the shorter side resized to {transform.resize} and cropped" if transform.resize else "resized, not cropped"
    return f"pixels {transform.height} × {transform.width}, {transform.interpolation}, {crop}, by {transform.source}"


def _size(config: BackboneConfig, image: ImageInput, described: Described | None) -> tuple[int, int, list[str]]:
    """Height, width, and a note if they were assumed."""
    asked = (config.size, config.size) if config.size else described.size if described else None
    height, width = asked or (USUAL_SIZE, USUAL_SIZE)
    fixed = image.height or height, image.width or width
    if max(fixed) > LARGEST:
        raise AdoptError(f"input {image.told} has over {LARGEST} pixels; expected at most that: export it for fewer")
    if asked and fixed != asked:
        whose = "--size" if config.size else described.pixels.source if described else ""
        raise AdoptError(
            f"{whose} says {height} × {width} pixels, but input {image.told} takes {fixed[0]} × {fixed[1]}; "
            f"say --size {fixed[0]}, or name the configuration of this backbone by --preprocessing"
        )
    assumed = asked is None and (image.height is None or image.width is None)
    return *fixed, [f"WARNING: size {USUAL_SIZE} is assumed; --size says another"] if assumed else []


def _colours(
    config: BackboneConfig, image: ImageInput, described: Described | None, white: Largest | None
) -> tuple[Colour, Colour, list[str]]:
    """Mean and deviation, and a note on where they come from."""
    said = config.mean is not None or config.std is not None
    if image.element == "uint8":
        if said:
            raise AdoptError(f"input {image.told} takes pixels as they are; leave --mean and --std out")
        return ZEROS, ONES, ["no normalisation is added: the input takes pixels as they are"]
    if white and not said:
        scale = (1 / 255,) * 3 if white == 255 else ONES
        note = (
            f"no normalisation is added: the graph normalises pixels of 0 to {white} itself; --mean and --std add one"
        )
        return ZEROS, scale, [note]
    pixels = described.pixels if described else IMAGENET
    mean, std = config.mean or pixels.mean, config.std or pixels.std
    told = f"mean ({', '.join(f'{v:.4g}' for v in mean)}), deviation ({', '.join(f'{v:.4g}' for v in std)})"
    if described or (config.mean and config.std):
        return mean, std, [told]
    return (
        mean,
        std,
        [f"WARNING: assumed are {IMAGENET.source}, {told}; --mean and --std or --preprocessing say others"],
    )
