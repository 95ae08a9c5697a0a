"""Opens an ONNX file as a backbone: the graph composed for a bundle, proved, and compared with the original.

It knows nothing of classes, heads or a user's images beyond the pixels that it is given.

Letters: N images, H and W in pixels, D feature dimensions.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.head import parse_onnx
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.printable import escaped
from breadcrumbs.training.adopt import feature_output, image_input, normalised, onnx_file, transform, trial
from breadcrumbs.training.adopt.composed import compose
from breadcrumbs.training.adopt.config import BackboneConfig
from breadcrumbs.training.adopt.feature_output import FeatureOutput
from breadcrumbs.training.adopt.image_input import ImageInput
from breadcrumbs.training.adopt.opened import AdoptError, Opened
from breadcrumbs.training.adopt.trial import TOLERANCE, Features

OLDEST = 7
"""The oldest opset that ONNX Runtime runs."""
LOOPS_FROM = 9
"""The first opset whose `Scan` is today's."""
AT_ONCE = 8
"""Images in one run of the original."""


@dataclass(frozen=True, eq=False)
class _Original:
    """The graph of the file, and what is to be made of it."""

    model: ModelProto
    session: Any
    image: ImageInput
    transform: Preprocess
    feature: FeatureOutput
    notes: tuple[str, ...]

    def features(self, images: Pixels) -> Features:
        """Return its features (N, D): pixels normalised and outputs pooled by numpy."""
        step = 1 if self.image.single else AT_ONCE
        rows = []
        for start in range(0, len(images), step):
            pixels = _pixels(self.image, self.transform, images[start : start + step])
            given = trial.run(self.session, self.image.name, pixels)[self.feature.name]
            with np.errstate(all="ignore"):  # what is not finite is told by `trial.check_finite`
                rows.append(self.feature.pooled(given))
        return np.concatenate(rows)


def open_onnx(path: Path, config: BackboneConfig) -> Opened:
    """Open an ONNX file as a backbone that can be deployed.

    Args:
        path: the file; its weights and a configuration may lie beside it.
        config: what the user says about it.

    Raises:
        AdoptError: it cannot be one.
    """
    original = _original(path, config)
    model, how = _composed(original)
    data = _bytes(model)
    notes = (f"input {original.image.told}", *original.notes, *how)
    return Opened(f"onnx:{escaped(path.name)}", data, original.transform, original.feature.feature_dim, notes)


def operators(model: bytes) -> Counter[str]:
    """Count the nodes of an ONNX model by their type.

    Raises:
        FormatError: it is no ONNX model.
    """
    return trial.operators(parse_onnx(model))


def check(opened: Opened, path: Path, config: BackboneConfig, images: Pixels) -> float:
    """Compare the composed graph with the original file, on real images.

    Args:
        opened: what `open_onnx` made of `path` and `config`.
        images: uint8 (N, H, W, 3), at least one.

    Returns:
        The largest difference of a feature, relative to the largest feature.

    Raises:
        AdoptError: it is above the tolerance, features are not finite, or the images have another size.
    """
    size = (opened.preprocess.height, opened.preprocess.width, 3)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != size or not len(images):
        raise AdoptError(f"images are {images.dtype} {images.shape}; expected uint8 (N, {size[0]}, {size[1]}, 3)")
    expected = _original(path, config).features(images)
    ours = trial.session(parse_onnx(opened.model))
    parts = (images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE))
    given = np.concatenate([trial.run(ours, "image", part)["feature"] for part in parts])
    trial.check_finite(expected)
    apart = trial.difference(given, expected) if given.shape == expected.shape else float("inf")
    if not apart <= TOLERANCE:
        raise AdoptError(
            f"the composed graph and {escaped(path.name)} differ by {apart:.2g} of the largest feature; limit "
            f"{TOLERANCE}: export the backbone in float32"
        )
    return apart


def _original(path: Path, config: BackboneConfig) -> _Original:
    """Read the file, and settle what is to be made of it."""
    model = onnx_file.read(path)
    _check_opset(model)
    image = image_input.find(model)
    session = trial.session(model)  # first, since it refuses graphs that are damaged
    white = normalised.white(model.graph, image.name) if image.element != "uint8" else None
    pixels, settled = transform.settle(path, config, image, white)
    image, outputs, found = _tried(session, image, pixels)
    count = 1 if image.single else trial.IMAGES
    feature = feature_output.choose(outputs, count, config, channels_first=image.channels_first)
    return _Original(model, session, image, pixels, feature, (*found, *feature.notes, *settled))


def _check_opset(model: ModelProto) -> None:
    opset = _opset(model)
    if opset < OLDEST:
        raise AdoptError(
            f"the graph is of opset {opset}; expected {OLDEST} or later: convert it by onnx.version_converter, or "
            "export it again"
        )


def _opset(model: ModelProto) -> int:
    """The version of ONNX's own operators; 0 if none is said."""
    return max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=0)


def _tried(session: Any, image: ImageInput, pixels: Preprocess) -> tuple[ImageInput, feature_output.Outputs, list[str]]:
    """Run the original on random images: several at once, or one where it takes no more."""
    images = trial.random_images(pixels)
    if not image.single:
        try:
            outputs = trial.run(session, image.name, _pixels(image, pixels, images))
            if any(output.ndim > 1 and len(output) == len(images) for output in outputs.values()):
                return image, outputs, []
        except AdoptError:
            pass  # exporters say that the batch is free while a constant inside fixes it to 1
    outputs = trial.run(session, image.name, _pixels(image, pixels, images[:1]))
    note = [] if image.single else ["the graph takes one image at a time, although it says that the batch is free"]
    return replace(image, single=True), outputs, note


def _composed(original: _Original) -> tuple[ModelProto, list[str]]:
    """Compose the graph and prove it; one that takes one image has its batch freed, or becomes a loop."""
    images = trial.random_images(original.transform)
    expected = np.concatenate([original.features(images[n : n + 1]) for n in range(len(images))])
    trial.check_finite(expected)
    problem: AdoptError | None = None
    for one_by_one, how in _ways(original):
        model = compose(original.model, original.image, original.feature, original.transform, one_by_one=one_by_one)
        try:
            trial.prove(model, images, expected)
        except AdoptError as error:
            problem = error
        else:
            return model, how
    raise problem or AdoptError("the backbone has no way to run; this is a bug")


def _ways(original: _Original) -> Iterator[tuple[bool, list[str]]]:
    """How the original can be run on N images: whether one by one, and a note."""
    if not original.image.single:
        yield False, []
        return
    yield False, [f"the batch of 1 is made free, which gives the same features for 1 to {trial.IMAGES} images"]
    if _opset(original.model) >= LOOPS_FROM:
        yield True, ["each image runs on its own, in a loop, since the graph takes one: a free batch would be faster"]


def _pixels(image: ImageInput, pixels: Preprocess, images: Pixels) -> Any:
    """Images uint8 (N, H, W, 3) as the original's input takes them, by numpy."""
    values: Any = images
    if image.element != "uint8":
        # as one product and sum in float32, like the composed graph: where a network quantises its pixels, the last
        # bit of (x / 255 - mean) / std may decide how one is rounded, which changes features by a few percent
        mean, std = np.array(pixels.mean), np.array(pixels.std)
        values = images * (1 / (255 * std)).astype(np.float32) + (-mean / std).astype(np.float32)
    placed = values.transpose(0, 3, 1, 2) if image.channels_first else values
    with np.errstate(over="ignore"):  # in float16; features then are not finite
        return np.ascontiguousarray(placed.astype(image.element))


def _bytes(model: ModelProto) -> bytes:
    """The bytes of a model that keeps all of its numbers inside."""
    try:
        data = model.SerializeToString()
        parse_onnx(data)
    except (ValueError, FormatError) as error:  # protobuf's limit of 2 GiB
        raise AdoptError(
            f"the backbone cannot be one ONNX file ({escaped(str(error))[:200]}); export it in half precision"
        ) from error
    return bytes(data)
