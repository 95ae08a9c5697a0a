"""What a backbone must be to be deployed, whatever it was: one ONNX graph, and the pixels that it takes.

It knows nothing of the kinds of files that a backbone comes in.
"""

from dataclasses import dataclass

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.images.preprocess import Preprocess


class AdoptError(BreadcrumbsError):
    """A backbone that cannot be adopted: what it is, what was expected, and what to do."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A backbone that can be deployed.

    Attributes:
        name: for the manifest's `architecture`, such as `onnx:resnet50.onnx`.
        model: one ONNX graph, `image` uint8 (N, H, W, 3) -> `feature` f32 (N, D); N is free, normalisation is inside.
        preprocess: from an image to its pixels; `source` says where the values come from.
        feature_dim: D.
        notes: what was found and done, for people.
    """

    name: str
    model: bytes
    preprocess: Preprocess
    feature_dim: int
    notes: tuple[str, ...]
