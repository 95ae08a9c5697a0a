"""Which output of an ONNX graph has the features, and what makes one row per image of it.

It goes by what the outputs are on real runs, since graphs often do not say their shapes. It knows nothing of inputs.

Letters: N images, D feature dimensions, T tokens, (h, w) positions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.printable import escaped, listed
from breadcrumbs.training.adopt.config import BackboneConfig, Pool
from breadcrumbs.training.adopt.opened import AdoptError

Pooling = Literal["rows", "first token", "tokens", "planes", "positions"]
"""(N, D) as it is; (N, T, D): the first token, or the mean of all; the mean of maps (N, D, h, w) or (N, h, w, D)."""

PREFERRED = (
    "pooler_output", "image_embeds", "image_features", "image_embeddings", "features", "feature", "embeddings",
    "embedding",
)  # fmt: skip
"""Names that exporters give to the features of images, the best first."""
CLASSIFIERS = {1000, 1001, 11221, 11821, 21841, 21843}
"""Numbers of classes of ImageNet and its larger parts."""

Outputs = Mapping[str, NDArray[Any]]
"""What each output gave for N images, by name."""


@dataclass(frozen=True)
class FeatureOutput:
    """The output that has the features.

    Attributes:
        name: in the graph.
        shape: of what one image gives, such as (T, D).
        pooling: what makes one row of it.
        notes: how it was chosen and what is done, for people.
    """

    name: str
    shape: tuple[int, ...]
    pooling: Pooling
    notes: tuple[str, ...]

    @property
    def feature_dim(self) -> int:
        """D."""
        return self.shape[0] if self.pooling in ("rows", "planes") else self.shape[-1]

    def pooled(self, output: NDArray[Any]) -> NDArray[np.float32]:
        """Return the features (N, D) of an output, by numpy."""
        wide = output.astype(np.float32)
        match self.pooling:
            case "rows":
                return wide
            case "first token":
                return wide[:, 0]
            case "tokens":
                return np.asarray(wide.mean(1))
            case "planes":
                return np.asarray(wide.mean((2, 3)))
            case "positions":
                return np.asarray(wide.mean((1, 2)))


def choose(outputs: Outputs, images: int, config: BackboneConfig, *, channels_first: bool) -> FeatureOutput:
    """Choose the output, and how it is pooled.

    Args:
        outputs: what a run gave.
        images: N of that run.
        config: may name the output and the pooling.
        channels_first: how the input lies; maps that could be either way lie as it does.

    Raises:
        AdoptError: none fits, several do, or the one that was named does not.
    """
    name, chosen = _named(outputs, images, config)
    shape = outputs[name].shape[1:]
    pooling = _pooling(shape, config.pool, _told(name, outputs[name]), channels_first=channels_first)
    done = f"output {_told(name, outputs[name])}, {_done(shape, pooling)}"
    return FeatureOutput(name, shape, pooling, (done, *chosen, *_doubts(name, shape, pooling)))


def _named(outputs: Outputs, images: int, config: BackboneConfig) -> tuple[str, list[str]]:
    """The name of the output, and a note if it was chosen among several."""
    usable = [name for name, output in outputs.items() if _is_usable(output, images)]
    all_of_them = listed([_told(name, output) for name, output in outputs.items()])
    if config.output is not None:
        if config.output not in usable:
            raise AdoptError(
                f"--output is '{escaped(config.output)[:80]}'; expected an output of floats with a row for each image: "
                f"the graph has {all_of_them}"
            )
        return config.output, []
    if not usable:
        raise AdoptError(
            f"no output has floats with a row for each of {images} images: the graph has {all_of_them}; "
            "export the backbone so that it gives its features"
        )
    if len(usable) == 1 == len(outputs):
        return usable[0], []
    rows = [name for name in usable if outputs[name].ndim == 2]
    preferred = [name for name in PREFERRED if name in usable]
    candidates = preferred[:1] or (rows if len(rows) == 1 else usable)
    if len(candidates) > 1:
        raise AdoptError(f"the graph has several outputs: {all_of_them}; say by --output which has the features")
    return candidates[0], [f"chosen from {all_of_them}; --output picks another"]


def _is_usable(output: NDArray[Any], images: int) -> bool:
    return output.dtype.kind == "f" and 2 <= output.ndim <= 4 and len(output) == images and output.size > 0


def _pooling(shape: tuple[int, ...], pool: Pool | None, told: str, *, channels_first: bool) -> Pooling:
    if len(shape) == 2:
        has_class_token = math.isqrt(shape[0] - 1) ** 2 == shape[0] - 1  # beside a square of patches
        return "first token" if (pool or ("cls" if has_class_token else "mean")) == "cls" else "tokens"
    if pool is not None and (len(shape) == 1 or pool == "cls"):
        raise AdoptError(f"--pool {pool} needs tokens (N, T, D), but output {told} has none; leave --pool out")
    if len(shape) == 1:
        return "rows"
    front, middle, back = shape
    if (front == middle) != (middle == back):  # maps are square more often than not
        return "planes" if middle == back else "positions"
    return "planes" if channels_first else "positions"


def _done(shape: tuple[int, ...], pooling: Pooling) -> str:
    match pooling:
        case "rows":
            return "used as it is"
        case "first token":
            return "its first token (the class token); --pool mean takes the mean of all"
        case "tokens":
            return "the mean of its tokens; --pool cls takes the first"
        case "planes" | "positions":
            channels = "first" if pooling == "planes" else "last"
            return "flattened" if sorted(shape)[1] == 1 else f"the mean over its positions (channels {channels})"


def _doubts(name: str, shape: tuple[int, ...], pooling: Pooling) -> list[str]:
    looks = "logit" in name.lower() or "prob" in name.lower() or shape[0] in CLASSIFIERS
    if pooling == "rows" and looks:
        return ["WARNING: these may be a classifier's logits instead of features; --output picks another output"]
    return []


def _told(name: str, output: NDArray[Any]) -> str:
    shape = ", ".join(["N", *(str(size) for size in output.shape[1:])]) if output.ndim else ""
    return escaped(f"'{name[:80]}' {output.dtype} ({shape})")
