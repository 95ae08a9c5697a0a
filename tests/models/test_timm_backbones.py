"""The backbones by name: shapes, sizes, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from breadcrumbs.models import backbones
from breadcrumbs.models.backbones import count_parameters, create, weights_digest
from breadcrumbs.models.networks import BackboneError

ROOT = Path(__file__).parents[2]
SMALL = ["resnet8", "resnet14", "resnet20", "resnet26", "resnet32"]


@pytest.mark.parametrize(("name", "side"), [*zip(SMALL, [28] * 5, strict=True), ("resnet8", 32), ("resnet8", 9)])
def test_small_networks_give_64_features(name: str, side: int) -> None:
    """Each of the small residual networks gives (N, 64), for images of any size."""
    backbone = create(name)

    features = backbone.network(torch.randn(2, 3, side, side))

    assert backbone.feature_dim == 64
    assert features.shape == (2, 64)
    assert features.isfinite().all()
    assert (features >= 0).all()  # means of rectified maps


@pytest.mark.parametrize(("name", "million"), [("resnet20", 0.27), ("resnet32", 0.46)])
def test_small_networks_are_as_large_as_published(name: str, million: float) -> None:
    """He et al. 2016, table 6, count 0.27 and 0.46 million parameters, with the last layer for ten classes."""
    assert round((count_parameters(create(name).network) + 650) / 1e6, 2) == million


def test_depth_counts_layers_with_weights() -> None:
    """ResnetN has N − 1 convolutions, and the head is the last layer."""
    for name in SMALL:
        network = create(name).network
        layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]

        assert len(layers) == int(name.removeprefix("resnet")) - 1


@pytest.mark.parametrize("name", SMALL)
def test_wide_networks_have_more_channels(name: str) -> None:
    """Twice or four times as many in every layer, and as many features more; the layers are the same."""
    for times in (2, 4):
        wide, plain = create(f"{name}x{times}"), create(name)
        shapes = [
            [m.weight.shape for m in b.network.modules() if isinstance(m, torch.nn.Conv2d)] for b in (wide, plain)
        ]

        assert wide.feature_dim == 64 * times
        assert wide.network(torch.randn(2, 3, 28, 28)).shape == (2, 64 * times)
        assert [a[0] for a in shapes[0]] == [times * b[0] for b in shapes[1]]


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_halve_the_image_twice(name: str) -> None:
    """The last maps of a 32-pixel image are 8 x 8, as in He et al. 2016, section 4.2."""
    network = create(name).network
    seen: list[tuple[int, ...]] = []
    network.blocks.register_forward_hook(lambda *call: seen.append(tuple(call[2].shape)))  # type: ignore[union-attr, operator]

    network(torch.randn(1, 3, 32, 32))

    assert seen == [(1, 64, 8, 8)]


def test_resnet10_gives_512_features() -> None:
    """One basic block a stage: 9 convolutions and three projections, 4.9 million parameters without a head."""
    backbone = create("resnet10")

    features = backbone.network(torch.randn(2, 3, 64, 64))

    assert features.shape == (2, backbone.feature_dim) == (2, 512)
    assert len([m for m in backbone.network.modules() if isinstance(m, torch.nn.Conv2d)]) == 12
    assert round(count_parameters(backbone.network) / 1e6, 1) == 4.9


@pytest.mark.parametrize("name", ["test_resnet", "timm/test_resnet", "test_vit"])
def test_a_timm_network_gives_its_features(name: str) -> None:
    """A name of timm's, with or without its prefix, gives (N, D) with the D that it says."""
    backbone = create(name)
    backbone.network.eval()

    features = backbone.network(torch.randn(2, 3, 160, 160))

    assert features.shape == (2, backbone.feature_dim)


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet5O", "resnet50"), ("convnext_tinny", "convnext_tiny"), ("timm/efficientnet_x", "efficientnet")],
)
def test_an_unknown_name_suggests(name: str, near: str) -> None:
    """The message has the name, all of our own, and timm's that are near."""
    with pytest.raises(BackboneError) as caught:
        create(name)

    message = str(caught.value)
    assert f"no backbone '{name.removeprefix('timm/')}'" in message
    assert "resnet8, resnet14, resnet20, resnet26, resnet32, resnet10" in message
    assert near in message.split("timm has near it: ")[1]


@pytest.mark.parametrize("name", ["", "*", "../x", "s3:someone/something", "a/b/c"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    """Nothing that is not a name of a network gets further than the list of names: no hub, no path."""
    with pytest.raises(BackboneError, match="no backbone"):
        create(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hf-hub:someone/something", "could not be loaded"),
        ("hf-hub:", "could not be loaded"),
        ("local-dir:", "expected a folder"),
        ("local-dir:/nowhere", "expected a folder"),
    ],
)
def test_a_place_without_a_network_is_refused(name: str, words: str) -> None:
    """In one sentence, with a network or without."""
    with pytest.raises(BackboneError, match=words) as caught:
        create(name, pretrained=True)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"architecture": "resnet1000"}', '{"architecture": 3}'])
def test_a_folder_with_a_damaged_configuration_is_refused(tmp_path: Path, content: str) -> None:
    """Whatever it holds."""
    (tmp_path / "config.json").write_text(content)

    with pytest.raises(BackboneError, match="could not be loaded") as caught:
        create(f"local-dir:{tmp_path}", pretrained=True)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["resnet8", "resnet10"])
def test_our_own_have_no_pretrained_weights(name: str) -> None:
    """Pretrained weights of our own networks do not exist: the message says what has some."""
    with pytest.raises(BackboneError, match=f"no pretrained weights of {name}; take a timm name"):
        create(name, pretrained=True)


def test_pretrained_weights_that_cannot_be_had_are_told_at_once(tmp_path: Path) -> None:
    """Without network and cache the error names the network and both remedies, and nothing is tried over and over."""
    program = "from breadcrumbs.models.backbones import create; create('test_resnet', pretrained=True)"
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "NO_PROXY": "*"}
    ran = subprocess.run(  # in a process of its own, since the hub's client reads its address once
        [sys.executable, "-c", program], env=os.environ | nobody, cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 1
    assert "BackboneError: the pretrained weights of 'test_resnet' could not be downloaded (" in ran.stderr
    assert all(remedy in ran.stderr for remedy in ("--weights", "HF_HOME", "--no-pretrained"))
    assert "Retrying" not in ran.stderr


def test_weights_have_a_digest() -> None:
    """Equal weights have one digest; a changed weight or buffer has another; mode and memory format change nothing."""
    torch.manual_seed(0)
    one = create("resnet8").network
    other = create("resnet8").network
    assert weights_digest(one) != weights_digest(other)

    other.load_state_dict(one.state_dict())
    other.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    before = weights_digest(one)

    assert weights_digest(other) == before
    other(torch.randn(2, 3, 8, 8))
    assert weights_digest(other) == before  # in evaluation mode nothing is counted
    one(torch.randn(2, 3, 8, 8))
    assert weights_digest(one) != before  # in training the running means move


def test_parameters_that_do_not_train_are_not_counted() -> None:
    """Only what an optimizer may change is counted."""
    network = create("resnet8").network
    whole = count_parameters(network)

    for parameter in network.conv.parameters():  # type: ignore[union-attr]
        parameter.requires_grad_(requires_grad=False)

    assert count_parameters(network) == whole - 3 * 16 * 9


def test_the_names_are_the_documented_ones() -> None:
    """The small networks are resnet8 to resnet32 in steps of six."""
    assert list(backbones.SMALL) == SMALL
