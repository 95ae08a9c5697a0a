"""What a backbone may be, and how it is opened: each becomes one ONNX graph, as the server runs it.

    resnet50.a1_in1k              a network of timm, with its pretrained weights
    hf-hub:org/name               … from the hub
    local-dir:folder              … from a folder with config.json and weights; or a model of two towers
    weights.pth, .safetensors     weights of the timm network that `--architecture` names
    backbone.onnx                 a graph of any library

It knows nothing of labels or heads.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from breadcrumbs.models import backbones
from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.files import write_whole
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.networks import Backbone
from breadcrumbs.training import export
from breadcrumbs.training.adopt import onnx_graph
from breadcrumbs.training.adopt.config import BackboneConfig
from breadcrumbs.training.adopt.opened import AdoptError, Opened
from breadcrumbs.training.adopt.two_towers import TextTower, kind_of, open_towers
from breadcrumbs.training.data.loader import evaluation_of
from breadcrumbs.training.network import Features

WEIGHTS = (".pth", ".pt", ".bin", ".safetensors", ".tar")
OF_ONNX = ("output", "pool", "preprocessing")

Check = Callable[[Pixels], float]
"""Takes real images uint8 (n, H, W, 3); returns how far the graph's features are from the original's, relative to the
largest. Raises AdoptError or ExportError if that is too far."""


@dataclass(frozen=True, eq=False)
class Source:
    """An opened backbone, how it is compared with what it was opened from, and its tower for texts, if it has one."""

    opened: Opened
    check: Check
    texts: TextTower | None = None


def open_source(
    backbone: str, config: BackboneConfig, *, in_memory: bool = False, exports: Path | None = None, texts: bool = False
) -> Source:
    """Open a backbone by its name or file; no image is read.

    Args:
        backbone: as above.
        config: how.
        in_memory: the images are small and in memory: a network of timm gets them without a crop.
        exports: folder of graphs that networks became earlier; None means that none is kept.
        texts: whether a tower for texts is needed.

    Raises:
        AdoptError: a setting is for another kind of backbone, or the file cannot be deployed.
        BackboneError: there is no such network, or its weights cannot be had or do not fit.
    """
    if texts or kind_of(backbone) is not None:
        return _towers(backbone, config, in_memory, exports)
    path = Path(backbone)
    if path.suffix.lower() == ".onnx":
        if config.architecture is not None:
            raise AdoptError(f"--architecture is for a file of weights; {backbone} is a whole graph: leave it out")
        return _graph(path, config)
    given = [f"--{name}" for name in OF_ONNX if getattr(config, name) is not None]
    if given:
        raise AdoptError(f"{', '.join(given)}: for an ONNX file only; the backbone is {backbone}")
    if path.suffix.lower() in WEIGHTS and not backbone.startswith(("hf-hub:", "local-dir:")):
        if config.architecture is None:
            raise AdoptError(
                f"{backbone} has weights and not their network; name it with --architecture, for example resnet50"
            )
        return _network(config.architecture, path, config, in_memory, exports)
    if config.architecture is not None:
        raise AdoptError(f"--architecture is for a file of weights, {', '.join(WEIGHTS)}; the backbone is {backbone}")
    return _network(backbone, None, config, in_memory, exports)


def _graph(path: Path, config: BackboneConfig) -> Source:
    opened = onnx_graph.open_onnx(path, config)
    return Source(opened, lambda images: onnx_graph.check(opened, path, config, images))


def _towers(name: str, config: BackboneConfig, in_memory: bool, exports: Path | None) -> Source:
    given = [f"--{name}" for name in ("architecture", *OF_ONNX) if getattr(config, name) is not None]
    if given:
        raise AdoptError(f"{', '.join(given)}: not for a model of two towers; the backbone is {name}")
    backbone, texts = open_towers(name)
    if config.size not in (None, backbone.side):
        raise AdoptError(f"{name} takes images of {backbone.side} pixels, not of {config.size}: leave --size out")
    return replace(_deployed(name, backbone, None, config, in_memory, exports), texts=texts)


def _network(name: str, weights: Path | None, config: BackboneConfig, in_memory: bool, exports: Path | None) -> Source:
    backbone = backbones.create(name, pretrained=weights is None, size=config.size, weights=weights)
    return _deployed(name, backbone, weights, config, in_memory, exports)


def _deployed(
    name: str, backbone: Backbone, weights: Path | None, config: BackboneConfig, in_memory: bool, exports: Path | None
) -> Source:
    side = config.size or backbone.side
    preprocess = evaluation_of(backbone.pixels, config, side, weights, in_memory=in_memory)
    network = Features(backbone, preprocess).eval()
    model = _exported(network, preprocess, name, exports)

    def check(images: Pixels) -> float:
        batch = torch.from_numpy(np.ascontiguousarray(images))
        return export.gate(*export.run_both(network, model, [batch]), ())

    count = f"{backbones.count_parameters(network) / 1e6:.1f} million parameters"
    notes = (f"{name}: {side} × {side} pixels, {backbone.feature_dim} features, {count}",)
    return Source(Opened(name, model, preprocess, backbone.feature_dim, notes), check)


def _exported(network: Features, preprocess: Preprocess, name: str, exports: Path | None) -> bytes:
    """The network as a graph; one that was exported before, with these weights and by this torch, is read again.

    A file is named by its content, so that a damaged one is not used.
    """
    if exports is None:
        return export.to_onnx(network, preprocess)
    what = f"{name} {backbones.weights_digest(network)} {preprocess.model_dump_json(exclude={'source'})}"
    key = sha256(f"{what} {torch.__version__}".encode()).hexdigest()[:32]
    for path in exports.glob(f"{key}-*.onnx"):
        model = path.read_bytes()
        if path.stem == f"{key}-{sha256(model).hexdigest()}":
            return model
    model = export.to_onnx(network, preprocess)
    write_whole(exports / f"{key}-{sha256(model).hexdigest()}.onnx", model)
    return model
