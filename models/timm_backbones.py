"""Backbones of timm by name: made, given weights, and tried on two images before anything is trained.

What a network gives and which image sizes it takes is found out by running it, since the attributes of timm's classes
do not always say. It knows nothing of heads, losses or data.
"""

import difflib
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models import PretrainedCfg, get_pretrained_cfg, load_state_dict
from torch import Tensor, nn

from breadcrumbs.models.networks import IMAGENET, SMALL, Backbone, BackboneError, Pixels

_PLAIN = {"label_offset": 0, "source": "", "custom_load": False}  # no download, nothing of a classifier
PLACES = ("hf-hub", "local-dir")  # of networks that timm can open besides those it knows by name
HUB_SECONDS = 5  # to wait for an answer of the hub that has the pretrained weights


def create(name: str, *, pretrained: bool = False, size: int | None = None, weights: Path | None = None) -> Backbone:
    """Make a network of timm without its classifier; arguments and errors as for `models.backbones.create`."""
    if name.partition(":")[0] in PLACES:
        return _from_place(name, pretrained=pretrained, size=size, weights=weights)
    if not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 5, 0.5)) or "nothing"
        own = f"{', '.join(SMALL)}, resnet10, and wider ones such as resnet8x2"
        place = f"; a repository of the hub is hf-hub:{name}, a folder local-dir:{name}" if "/" in name else ""
        raise BackboneError(f"no backbone '{name}'; own: {own}; timm has near it: {near}{place}")
    given = None if weights is None else _read(weights)
    network, width, options = _tried(name, size, get_pretrained_cfg(name))
    if weights is not None and given is not None:
        network = _with_weights(name, options, weights, given)
    elif pretrained:
        network = _downloaded(name, options)
    return Backbone(network, width, _pixels(name, network), _side(network))


def _from_place(name: str, *, pretrained: bool, size: int | None, weights: Path | None) -> Backbone:
    """A network whose configuration and weights lie together in a folder, or in a repository of the hub."""
    place = name.partition(":")[2]
    if weights is not None:
        raise BackboneError(f"--weights {weights} is for a network by its name; {name} has weights of its own")
    if name.startswith("local-dir:"):
        if not (Path(place) / "config.json").is_file():
            raise BackboneError(
                f"there is no {Path(place) / 'config.json'}; expected a folder as timm's save_for_hf writes it"
            )
    else:
        _look_for_the_hub()
    try:
        made_for = PretrainedCfg(**_config(timm.create_model(name, num_classes=0)))
        network, width, options = _tried(name, size, made_for)
        if pretrained:
            network = timm.create_model(name, pretrained=True, num_classes=0, **options)
    except BackboneError:
        raise
    except Exception as error:  # timm, json, torch and the hub's client raise whatever they meet
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BackboneError(f"the network of {name} could not be loaded: {reason}") from error
    return Backbone(network, width, _pixels(name, network), _side(network))


def _tried(name: str, size: int | None, made_for: PretrainedCfg | None) -> tuple[nn.Module, int, dict[str, Any]]:
    """Return the network with random weights, its D, and the options that make it take images of `size` pixels."""
    native = made_for.input_size[-1] if made_for is not None else None
    side = size or native or 224
    options: list[dict[str, Any]] = [{}]
    if size is not None:
        options.insert(0 if made_for is not None and made_for.fixed_input_size else 1, {"img_size": size})
    seed, reasons = torch.get_rng_state(), list[str]()
    for option in options:
        torch.set_rng_state(seed)  # the same weights, however many options are tried
        try:
            network = timm.create_model(name, num_classes=0, **option)
            shape = _shape(network, side)
        except Exception as error:  # noqa: BLE001 - the networks raise whatever they meet: shapes, assertions, keys
            if "img_size" in option and isinstance(error, TypeError):
                continue  # the network has no such option
            reasons.append(" ".join(str(error).split())[:160] or type(error).__name__)
            continue
        if len(shape) != 2:
            raise BackboneError(
                f"'{name}' gives {shape} for two images, expected (2, D): take a network that pools its features"
            )
        return network, shape[1], option
    remedy = f"; it was made for {native}: --size {native}" if native not in (None, side) else "; take another network"
    raise BackboneError(f"'{name}' cannot be used with images of {side} × {side} pixels ({reasons[0]}){remedy}")


def _shape(network: nn.Module, side: int) -> tuple[int, ...]:
    network.eval()
    with torch.no_grad():
        features = network(torch.zeros(2, 3, side, side))
    network.train()
    return tuple(features.shape) if isinstance(features, Tensor) else (len(features),)


def _read(weights: Path) -> dict[str, Any]:
    """Read a state dict, without unpickling anything but tensors."""
    if not weights.is_file():
        raise BackboneError(f"{weights}: there is no file of weights")
    try:
        state = load_state_dict(str(weights), weights_only=True)
    except Exception as error:  # pickle, zip, torch and safetensors each have their own
        reason = " ".join(str(error).split())[:160]
        raise BackboneError(
            f"{weights} is no file of weights that can be read safely, expected .safetensors or a state dict by "
            f"torch.save: {reason}"
        ) from error
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise BackboneError(f"{weights}: expected a state dict of tensors by their names")
    return state


def _with_weights(name: str, options: dict[str, Any], weights: Path, state: dict[str, Any]) -> nn.Module:
    """The network with a file's weights, all of them: only a classifier may be left over."""
    cfg = get_pretrained_cfg(name)
    classifier = (cfg.classifier if cfg is not None else None) or ()
    names = (classifier,) if isinstance(classifier, str) else classifier
    kept = {key: v for key, v in state.items() if not any(key.startswith(f"{one}.") for one in names)}
    error: Exception | None = None
    # Told that the file has no classes, timm loads strictly; told otherwise, it lets names that it has no use for pass.
    for classes in (0, -1):
        overlay = {**_PLAIN, "state_dict": dict(kept), "num_classes": classes}
        try:
            return timm.create_model(name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **options)
        except Exception as raised:  # noqa: BLE001 - filters of timm raise whatever they meet in a file of another network
            error = raised
            if "Missing key" in str(raised) or "Unexpected key" not in str(raised):
                break
    reason = " ".join(str(error).split())[:200]
    raise BackboneError(
        f"{weights} does not fit '{name}': {reason}; name the network of the file by --architecture"
    ) from error


def _downloaded(name: str, options: dict[str, Any]) -> nn.Module:
    _look_for_the_hub()
    try:
        return timm.create_model(name, pretrained=True, num_classes=0, **options)
    except Exception as error:  # timm and the hub client raise whatever their transport raises
        raise BackboneError(
            f"the pretrained weights of '{name}' could not be downloaded ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); name a file that has them (`train --weights FILE`, `adopt FILE "
            f"--architecture {name}`), fill the hub's cache (HF_HOME) on a machine with network, or train from random "
            "weights with --no-pretrained"
        ) from error


def _look_for_the_hub() -> None:
    """Where the hub cannot be reached, have its client look into its cache at once, not after a minute of retries."""
    import httpx
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        try:
            httpx.head(constants.ENDPOINT, timeout=HUB_SECONDS)
        except httpx.HTTPError:
            constants.HF_HUB_OFFLINE = True


def _side(network: nn.Module) -> int:
    size = _config(network).get("input_size")
    return int(size[-1]) if size else 224


def _config(network: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = getattr(network, "pretrained_cfg", {})
    return found


def _pixels(name: str, network: nn.Module) -> Pixels:
    """What timm's configuration of the network says of the images that its weights were trained on."""
    cfg = resolve_model_data_config(network)  # type: ignore[no-untyped-call]  # timm leaves it untyped
    if len(cfg["mean"]) != 3:
        return IMAGENET
    given = _config(network)
    known = str(given.get("architecture", name)) if name.partition(":")[0] in PLACES else name
    full = f"{known}.{given['tag']}" if given.get("tag") and "." not in known else known
    return Pixels(
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        interpolation=cfg["interpolation"],
        crop=cfg["crop_pct"] if cfg["crop_mode"] == "center" else None,
        source=f"timm's {full}",
    )
