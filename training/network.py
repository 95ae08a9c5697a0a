"""The trained network as one module: uint8 pixels in, features out; and the two heads that read them.

`Features` is what is trained, evaluated and exported, so normalisation cannot differ between the three. It knows
nothing of data or optimizers.
"""

import torch
from torch import Tensor, nn

from models.backbones import Backbone
from models.preprocess import Preprocess


class Features(nn.Module):
    """uint8 (N, H, W, 3) -> f32 (N, D): normalisation, then the backbone."""

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: Backbone, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = backbone.network
        # (x / 255 - mean) / std as one product and sum
        self.register_buffer("scale", 1 / (255 * torch.tensor(preprocess.std)), persistent=False)
        self.register_buffer("shift", -torch.tensor(preprocess.mean) / torch.tensor(preprocess.std), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the features of a batch of images."""
        pixels = image.float() * self.scale + self.shift
        features: Tensor = self.network(pixels.permute(0, 3, 1, 2))
        return features


class TwoHeads(nn.Module):
    """The features and the two linear heads on them: joint (trains the backbone) and balanced (is exported)."""

    def __init__(self, features: Features, feature_dim: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.joint = nn.Linear(feature_dim, classes)
        self.balanced = nn.Linear(feature_dim, classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the joint head's logits (N, C) and the features (N, D)."""
        features: Tensor = self.features(image)
        logits: Tensor = self.joint(features)
        return logits, features
