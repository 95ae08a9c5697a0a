"""The trained network as one module: uint8 pixels in, features out; and the two heads that read them.

`Features` is what is trained, evaluated and exported, so normalisation cannot differ between the three. It knows
nothing of data or optimizers.
"""

import torch
from torch import Tensor, nn

from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.networks import Backbone


class Features(nn.Module):
    """uint8 (N, H, W, 3) -> f32 (N, D): normalisation, then the backbone."""

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: Backbone, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = backbone.network
        # (x / 255 - mean) / std as one product and sum, a plane at a time: with the channels last, ONNX Runtime's CPU
        # takes 20 times as long, since it works on three values at a time
        mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the features of a batch of images."""
        pixels = image.permute(0, 3, 1, 2).float() * self.scale + self.shift
        features: Tensor = self.network(pixels)
        return features


class Trunk(nn.Module):
    """The part that learns from the training images: the features and the joint head."""

    def __init__(self, features: Features, feature_dim: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.joint = nn.Linear(feature_dim, classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the joint head's logits (N, C) and the features (N, D)."""
        features: Tensor = self.features(image)
        logits: Tensor = self.joint(features)
        return logits, features


class TwoHeads(nn.Module):
    """The trunk, whose joint head trains the backbone, and the balanced head, which only reads its features."""

    def __init__(self, features: Features, feature_dim: int, classes: int) -> None:
        super().__init__()
        self.trunk = Trunk(features, feature_dim, classes)
        self.balanced = nn.Linear(feature_dim, classes)

    @property
    def features(self) -> Features:
        """Images to features."""
        return self.trunk.features

    @property
    def joint(self) -> nn.Linear:
        """The head that is trained with the backbone."""
        return self.trunk.joint
