"""A backbone that can be deployed, whatever it was opened from.

It knows nothing of files, hubs or networks.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.images.preprocess import Preprocess


class AdoptError(BreadcrumbsError):
    """A backbone that cannot be deployed, or not with these settings."""


@dataclass(frozen=True, eq=False)
class Opened:
    """One ONNX graph: `image` uint8 (N, H, W, 3) -> `feature` f32 (N, D), N free, normalisation inside.

    Attributes:
        name: for the manifest's `architecture`.
        model: the graph's bytes.
        preprocess: how an image file becomes the graph's input.
        feature_dim: D.
        notes: what was found and done, a sentence each.
        half: the same graph in half precision; None if there is none.
    """

    name: str
    model: bytes
    preprocess: Preprocess
    feature_dim: int
    notes: tuple[str, ...] = ()
    half: bytes | None = None

    @cached_property
    def digest(self) -> str:
        """The sha256 of the graph: the name of its feature space."""
        return hashlib.sha256(self.model).hexdigest()
