"""Runs an ONNX graph in ONNX Runtime, and proves of an adopted one what a bundle needs, before any image is read.

It knows nothing of how the graph came to be. Letters: N images, H and W in pixels, D feature dimensions.
"""

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto
from PIL import Image

from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.printable import escaped, listed
from breadcrumbs.training.adopt.opened import AdoptError

TOLERANCE = 1e-3  # of features, relative to the largest
IMAGES = 3
FATAL_ONLY = 4  # ONNX Runtime's log would repeat what the error says
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"}
"""Whose operators ONNX Runtime has."""

Features = NDArray[np.float32]


def session(model: ModelProto) -> Any:
    """Open a graph in ONNX Runtime on the CPU.

    Raises:
        AdoptError: it cannot be opened, naming the operators that are unknown.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime has a class for each of its codes, in a private module
        unknown = _unknown(model)
        if unknown:
            raise AdoptError(
                f"ONNX Runtime does not know the operators {listed(unknown)}; expected those of ONNX: export the "
                "backbone without them"
            ) from error
        raise AdoptError(
            f"ONNX Runtime cannot open the graph: {_first_line(error)}; export the backbone again"
        ) from error


def run(opened: Any, name: str, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return what every output gives for one input.

    Raises:
        AdoptError: the graph cannot be run on it.
    """
    shape = " × ".join(str(size) for size in values.shape)
    try:
        found = opened.run(None, {name: values})
    except Exception as error:  # as above
        raise AdoptError(
            f"ONNX Runtime cannot run the graph on an input of {shape}: {_first_line(error)}; "
            "say another --size, or export the backbone again"
        ) from error
    arrays = {output.name: value for output, value in zip(opened.get_outputs(), found, strict=True)}
    return {name: value for name, value in arrays.items() if isinstance(value, np.ndarray)}


def random_images(transform: Preprocess) -> Pixels:
    """Return images uint8 (N, H, W, 3) of coloured clouds with noise, the same each time."""
    chance = np.random.default_rng(0)
    size = transform.width, transform.height
    clouds = chance.integers(0, 256, (IMAGES, 4, 4, 3), np.uint8)
    smooth = np.stack([np.asarray(Image.fromarray(cloud).resize(size)) for cloud in clouds])
    return (smooth * 0.75 + chance.integers(0, 64, smooth.shape)).astype(np.uint8)


def prove(model: ModelProto, images: Pixels, expected: Features) -> None:
    """Prove that a graph gives the expected features for any number of images, each image's on their own.

    Args:
        model: `image` uint8 (N, H, W, 3) -> `feature` f32 (N, D).
        images: at least two.
        expected: (N, D), of the original graph for one image after another.

    Raises:
        AdoptError: it does not, or the features say nothing.
    """
    opened = session(model)
    for count in range(1, len(images) + 1):
        given = run(opened, "image", images[:count])["feature"]
        if given.shape != expected[:count].shape:
            raise AdoptError(
                f"{count} images give features {given.shape}, expected {expected[:count].shape}; "
                "export the backbone with a free batch, or for one image"
            )
        check_finite(given)
        if not difference(given, expected[:count]) <= TOLERANCE:
            how = "change from run to run" if count == 1 else "depend on the images beside it"
            raise AdoptError(
                f"an image's features {how}; expected the same each time: export the backbone for evaluation "
                "(model.eval() in PyTorch)"
            )
    if difference(given, np.broadcast_to(given[:1], given.shape)) < 1e-6:
        raise AdoptError(
            "all images give the same features; expected different ones: check --output, --mean and --std, and the "
            "weights of the backbone"
        )


def check_finite(features: Features) -> None:
    """Refuse features that are not finite.

    Raises:
        AdoptError: saying how many images have such features.
    """
    bad = int((~np.isfinite(features).all(1)).sum())
    if bad:
        raise AdoptError(
            f"{bad} of {len(features)} images give features that are not finite numbers; check --mean and --std, "
            "or export the backbone in float32"
        )


def difference(one: Features, other: Features) -> float:
    """The largest difference of features (N, D), relative to the largest feature."""
    apart, largest = float(np.abs(one - other).max()), float(np.abs(other).max())
    if apart == 0:
        return 0.0
    return apart / largest if largest else float("inf")


def operators(model: ModelProto) -> Counter[str]:
    """Count the nodes of a graph by their type, those of subgraphs and functions included."""
    return Counter(op_type for _, op_type in _types(model))


def _unknown(model: ModelProto) -> list[str]:
    functions = {(function.domain, function.name) for function in model.functions}
    unknown = {
        f"{domain}.{op_type}" if domain else op_type
        for domain, op_type in _types(model)
        if (domain, op_type) not in functions
        and (domain not in DOMAINS or (domain in {"", "ai.onnx"} and not onnx.defs.has(op_type)))
    }
    return sorted(escaped(name)[:80] for name in unknown)


def _types(model: ModelProto) -> list[tuple[str, str]]:
    """Domain and type of every node."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    found = []
    while waiting:
        node = waiting.pop()
        found.append((node.domain, node.op_type))
        graphs = [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)]
        waiting.extend(inner for graph in graphs for inner in graph.node)
    return found


def _first_line(error: Exception) -> str:
    """What ONNX Runtime says, in one short line."""
    return escaped(" ".join(str(error).split()))[:200]
