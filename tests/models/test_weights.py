"""Weights from a file: all of them are used, none that does not fit, and nothing but tensors is read."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from breadcrumbs.models.backbones import create
from breadcrumbs.models.networks import BackboneError

NAMES = ("test_resnet", "test_vit", "test_efficientnet", "mobilenetv3_small_050")


def weights_of(name: str, **more: Any) -> dict[str, Tensor]:
    """A state dict of random weights, with the classifier."""
    torch.manual_seed(7)
    state: dict[str, Tensor] = timm.create_model(name, **more).state_dict()
    return state


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["plain", "nested", "parallel", "bare", "safetensors"])
def test_weights_come_from_a_file(name: str, form: str, tmp_path: Path) -> None:
    """With or without classifier, nested or as safetensors: the network has the weights of the file."""
    state, path = weights_of(name), tmp_path / "weights.pth"
    if form == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        forms: dict[str, Any] = {
            "plain": state,
            "nested": {"state_dict": state, "epoch": 3},
            "parallel": {f"module.{key}": value for key, value in state.items()},
            "bare": weights_of(name, num_classes=0),
        }
        torch.save(forms[form], path)

    own = create(name, size=None, weights=path).network.state_dict()

    theirs = weights_of(name, num_classes=0) if form == "bare" else state
    assert all(torch.equal(own[key], theirs[key]) for key in own)


@pytest.mark.parametrize("size", [96, 160, 224])
def test_a_vits_positions_fit_another_size(size: int, tmp_path: Path) -> None:
    """Position embeddings of weights made for one size are resampled to another; everything else is the file's."""
    state, path = weights_of("test_vit"), tmp_path / "weights.pth"
    torch.save(state, path)

    backbone = create("test_vit", size=size, weights=path)

    own = backbone.network.state_dict()
    assert all(torch.equal(own[key], state[key]) for key in own if key != "pos_embed")
    assert backbone.network.eval()(torch.zeros(1, 3, size, size)).shape == (1, backbone.feature_dim)


@pytest.mark.parametrize("lost", [1, 5, 1_000])
def test_a_file_without_all_weights_is_refused(lost: int, tmp_path: Path) -> None:
    """A network is never left with random weights in some layers, or in all."""
    state, path = weights_of("test_resnet"), tmp_path / "weights.pth"
    torch.save(dict(list(state.items())[lost:]) or {"other": torch.zeros(1)}, path)

    told = r"weights\.pth does not fit 'test_resnet': .*Missing key.*--architecture"
    with pytest.raises(BackboneError, match=told):
        create("test_resnet", weights=path)


@pytest.mark.parametrize("other", ["test_vit", "resnet18"])
def test_another_networks_weights_are_refused(other: str, tmp_path: Path) -> None:
    """Weights of another network are one sentence with the file and both."""
    path = tmp_path / "weights.pth"
    torch.save(weights_of(other), path)

    with pytest.raises(BackboneError, match="does not fit 'test_resnet'") as caught:
        create("test_resnet", weights=path)

    assert "\n" not in str(caught.value)


class _Code:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('run')",)


@pytest.mark.parametrize("what", ["code", "text", "empty", "list", "nothing", "folder"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_none_is_refused(what: str, suffix: str, tmp_path: Path) -> None:
    """Code is not run, and whatever else is no file of weights is one sentence that names the file."""
    path = tmp_path / f"weights{suffix}"
    if what == "code":
        torch.save({"weight": _Code()}, path, pickle_module=pickle)
    elif what == "list":
        torch.save([torch.zeros(3)], path)
    elif what == "folder":
        path.mkdir()
    elif what != "nothing":
        path.write_bytes(b"" if what == "empty" else b"<html>not found</html>")

    with pytest.raises(BackboneError) as caught:
        create("test_resnet", weights=path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_our_own_networks_take_no_file(tmp_path: Path) -> None:
    """Files of weights are timm's: our own names say so."""
    with pytest.raises(BackboneError, match="is for timm's networks; --architecture is resnet8"):
        create("resnet8", weights=tmp_path / "weights.pth")


@pytest.mark.parametrize("name", NAMES)
def test_the_pixels_are_the_weights_own(name: str, tmp_path: Path) -> None:
    """Mean, deviation, interpolation and crop are those of timm's configuration, with a file as without weights."""
    path = tmp_path / "weights.pth"
    torch.save(weights_of(name), path)
    cfg = timm.get_pretrained_cfg(name)

    for found in (create(name).pixels, create(name, weights=path).pixels):
        assert (found.mean, found.std) == (cfg.mean, cfg.std)
        assert (found.interpolation, found.crop) == (cfg.interpolation, cfg.crop_pct)
        assert name in found.source
