"""Families of timm's networks: each is made on random weights, run, trained a step, exported, and answers alike."""

import numpy as np
import pytest
import torch
from tiny_weights import EXPORTED, FAMILIES
from torch import nn

from breadcrumbs.models.backbones import create
from breadcrumbs.models.networks import BackboneError
from breadcrumbs.training import export
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.dataset import Split
from breadcrumbs.training.data.loader import preprocess_for
from breadcrumbs.training.network import Features

SIDE = 64


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_gives_the_width_that_it_says(name: str) -> None:
    """At a size that it was not made for, a network gives (N, D) in training and evaluation."""
    backbone = create(name, size=SIDE)

    for training in (True, False):
        features = backbone.network.train(training)(torch.randn(2, 3, SIDE, SIDE))

        assert features.shape == (2, backbone.feature_dim)
        assert features.isfinite().all()


def shorten(network: nn.Module) -> None:
    """Leave two of each row of equal blocks: an export takes time for each, and finds no new operation in the third."""
    for module in list(network.modules()):
        for name, row in module.named_children():
            if isinstance(row, nn.Sequential | nn.ModuleList) and len(row) > 2:
                shapes = {tuple(one.shape for one in block.parameters()) for block in row}
                if len(shapes) == 1 and shapes != {()}:
                    setattr(module, name, row[:2])


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_a_family_is_exported(name: str) -> None:
    """ONNX Runtime answers as torch does, for one image and for several."""
    torch.manual_seed(0)
    backbone = create(name, size=SIDE)
    shorten(backbone.network)
    pixels = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    split = Split(np.zeros(5, np.int64), np.arange(5), paths=())
    transform = preprocess_for(split, TrainConfig(size=SIDE), backbone.pixels)
    features = Features(backbone, transform)

    model = export.to_onnx(features, transform)

    batches = [torch.from_numpy(pixels[:1]), torch.from_numpy(pixels[1:])]
    trained, exported = export.run_both(features, model, batches)
    assert exported.shape == (5, backbone.feature_dim)
    assert export.gate(trained, exported, []) <= export.TOLERANCE


@pytest.mark.parametrize(
    ("name", "size", "native"),
    [
        ("halonet26t", 64, 256),
        ("efficientformer_l1", 96, 224),
        ("inception_v3", 32, 299),
        ("vit_tiny_patch16_224", 8, 224),
    ],
)
def test_a_size_that_cannot_be_is_refused(name: str, size: int, native: int) -> None:
    """One sentence has the network, the size, and the size that it was made for."""
    with pytest.raises(BackboneError) as caught:
        create(name, size=size)

    message = str(caught.value)
    assert message.startswith(f"'{name}' cannot be used with images of {size} × {size} pixels (")
    assert message.endswith(f"; it was made for {native}: --size {native}")
    assert "\n" not in message


def test_how_many_were_tried_changes_no_weight() -> None:
    """The same seed gives the same weights, whether the size is named, is the network's own, or is left open."""
    networks = []
    for size in (None, 160):
        torch.manual_seed(3)
        networks.append(create("test_resnet", size=size).network.state_dict())

    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])
