"""A backbone that images can be passed through: its graph, and the pixels that it takes.

It comes from a bundle, or from wherever else a graph and its transform are known. It knows nothing of heads, of classes
or of what the features are used for.

Letters: N images, D feature dimensions.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from breadcrumbs.models.arrays import Floats, Pixels
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.training.export import open_session
from breadcrumbs.training.refit.rows import RefitError


@dataclass(frozen=True, eq=False)
class Backbone:
    """An opened backbone.

    Attributes:
        model: bytes of an ONNX graph, `image` uint8 (N, H, W, 3) -> `feature` f32 (N, D).
        preprocess: the transform that makes its pixels.
        feature_dim: D.
        architecture: what it is called.
        half: the same graph in half precision; None if there is none.
    """

    model: bytes
    preprocess: Preprocess
    feature_dim: int
    architecture: str
    half: bytes | None = None

    @cached_property
    def digest(self) -> str:
        """The sha256 of the graph: the name of its feature space."""
        return hashlib.sha256(self.model).hexdigest()

    def opened(self) -> Callable[[Sequence[Pixels]], Floats]:
        """Return what makes features f32 (N, D) of transformed images, uint8 (H, W, 3) each.

        Its calls raise RefitError where the graph gives features of another shape than (N, D).
        """
        runs = open_session(self.model)

        def features(images: Sequence[Pixels]) -> Floats:
            made = np.asarray(runs.run(None, {"image": np.stack(images)})[0], np.float32)
            if made.shape != (len(images), self.feature_dim):
                raise RefitError(
                    f"the backbone {self.architecture} made features of shape {made.shape}, expected "
                    f"{(len(images), self.feature_dim)}: its graph and its feature_dim disagree"
                )
            return made

        return features


def backbone_of(bundle: Bundle) -> Backbone:
    """Return the backbone of a bundle; raises as `Bundle.backbone`."""
    manifest = bundle.manifest
    half = bundle.backbone("half") if "backbone-half.onnx" in manifest.files else None
    return Backbone(bundle.backbone(), bundle.preprocess, manifest.feature_dim, manifest.architecture, half)
