"""ONNX files as torch writes them: adopted, they give torch's features."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_backbones import adopted, images
from torch import Tensor, nn

from breadcrumbs.training.adopt.config import BackboneConfig
from breadcrumbs.training.adopt.onnx_graph import check, open_onnx, operators

SIDE = 16
WISH = BackboneConfig(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


class Tokens(nn.Module):
    """A small vision transformer: a class token beside 16 patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.first = nn.Parameter(torch.randn(1, 1, 8))
        self.places = nn.Parameter(torch.randn(1, 17, 8))
        self.norm = nn.LayerNorm(8)
        self.asks = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 16, 16) -> (N, 17, 8)."""
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(x.shape[0], -1, -1), patches], 1) + self.places
        query, key, value = self.asks(self.norm(tokens)).chunk(3, -1)
        return tokens + (query @ key.transpose(1, 2) / 3).softmax(-1) @ value


def convolutions() -> nn.Module:
    """A small convolutional network whose maps are 4 × 4."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1))


def exported(network: nn.Module, path: Path, *, free: bool) -> Path:
    """Export a network, its batch free or of one image."""
    shapes = ({0: torch.export.Dim("batch")},) if free else None
    example = torch.zeros(2 if free else 1, 3, SIDE, SIDE)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (example,), str(path), dynamo=True, dynamic_shapes=shapes, external_data=True, verbose=False
        )
    return path


@pytest.mark.slow
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("kind", ["tokens", "maps"])
def test_the_features_are_those_of_torch(kind: str, free: bool, tmp_path: Path) -> None:
    """A transformer's class token and a convolutional network's mean, exported for any batch or for one image."""
    torch.manual_seed(0)
    network = (Tokens() if kind == "tokens" else convolutions()).eval()
    path = exported(network, tmp_path / "backbone.onnx", free=free)
    pixels = images(5, SIDE)
    with torch.no_grad():
        given = network(
            torch.from_numpy(
                ((pixels / 255 - np.array(WISH.mean)) / np.array(WISH.std)).astype(np.float32).transpose(0, 3, 1, 2)
            )
        ).numpy()

    found = open_onnx(path, WISH)
    expected = given[:, 0] if kind == "tokens" else given.mean((2, 3))

    assert np.abs(adopted(found.model, pixels) - expected).max() <= 1e-4 * np.abs(expected).max()
    assert check(found, path, WISH, pixels) <= 1e-4
    assert operators(found.model).total() > 4
