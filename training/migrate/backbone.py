"""The backbone of a bundle, and what makes features of images by an opened one.

It knows nothing of heads, of classes or of what the features are used for.

Letters: N images, D feature dimensions.
"""

from collections.abc import Callable, Sequence

import numpy as np

from breadcrumbs.models.arrays import Floats, Pixels
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.training.adopt.opened import Opened
from breadcrumbs.training.export import open_session
from breadcrumbs.training.refit.rows import RefitError


def backbone_of(bundle: Bundle) -> Opened:
    """Return the backbone of a bundle; raises as `Bundle.backbone`."""
    manifest = bundle.manifest
    half = bundle.backbone("half") if "backbone-half.onnx" in manifest.files else None
    return Opened(manifest.architecture, bundle.backbone(), bundle.preprocess, manifest.feature_dim, half=half)


def maker_of(backbone: Opened) -> Callable[[Sequence[Pixels]], Floats]:
    """Return what makes features f32 (N, D) of transformed images, uint8 (H, W, 3) each.

    Its calls raise RefitError where the graph gives features of another shape than (N, D).
    """
    session = open_session(backbone.model)

    def features(images: Sequence[Pixels]) -> Floats:
        made = np.asarray(session.run(None, {"image": np.stack(images)})[0], np.float32)
        if made.shape != (len(images), backbone.feature_dim):
            raise RefitError(
                f"the backbone {backbone.name} made features of shape {made.shape}, expected "
                f"{(len(images), backbone.feature_dim)}: its graph and its feature_dim disagree"
            )
        return made

    return features
