"""torch = ONNX Runtime on the same images, and a gate that refuses otherwise."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_run import small_config

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.backbones import create
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.images.preprocess import load as load_image
from breadcrumbs.training import export
from breadcrumbs.training.data.dataset import load
from breadcrumbs.training.data.loader import preprocess_for
from breadcrumbs.training.export import ExportError, gate
from breadcrumbs.training.network import Features
from breadcrumbs.training.run.package import images_of
from breadcrumbs.training.run.state import prepare


def head_of(dim: int, classes: int = 3) -> LinearHead:
    """A random head."""
    weight = np.random.default_rng(0).normal(size=(classes, dim)).astype(np.float32)
    return LinearHead(weight, np.zeros(classes, np.float32), tuple("abcdefgh"[:classes]))


@pytest.mark.slow
def test_the_bundle_answers_as_the_checkpoint(run: Path, images: Path) -> None:
    """Torch on the trainer's images and ONNX Runtime on the server's image door give the same features."""
    config = small_config(images)
    data = load(config)
    trained = prepare(config, data)
    trained.network.load_state_dict(torch.load(run / "checkpoint.pt", weights_only=True)["network"])
    trained.network.eval()
    bundle = bundles.read(run / "bundle")
    files = [path.read_bytes() for path in data.test.paths]

    with torch.no_grad():
        ours = torch.cat(
            [trained.network.features(i) for i in images_of(data.test, bundle.manifest.preprocess, config)]
        )
    pixels = np.stack([load_image(file, bundle.manifest.preprocess) for file in files])
    theirs = export.run_onnx(bundle.backbone(), [torch.from_numpy(pixels)])

    assert gate(ours.numpy(), theirs, [bundle.head(), bundle.joint_head()]) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet10", "timm/resnet10t"])
def test_other_families_export_with_a_free_batch(name: str, images: Path) -> None:
    """resnet10 and a timm network answer like torch for 1, 3 and 5 images."""
    torch.manual_seed(0)
    config = small_config(images).model_copy(update={"size": 32})
    backbone = create(name)
    features = Features(backbone, preprocess_for(load(config).test, config))
    pixels = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)

    model = export.to_onnx(features, preprocess_for(load(config).test, config))
    with torch.no_grad():
        expected = features(pixels).numpy()

    for count in (1, 3, 5):
        assert gate(expected[:count], export.run_onnx(model, [pixels[:count]]), []) < 1e-3
    assert expected.shape == (5, backbone.feature_dim)


def test_pixels_are_normalised_a_plane_at_a_time(images: Path) -> None:
    """The exported network puts the channels first before it reckons: last, each step would be three values long."""
    config = small_config(images).model_copy(update={"size": 32})
    transform = preprocess_for(load(config).test, config)

    graph = onnx.load_from_string(export.to_onnx(Features(create("resnet8"), transform), transform)).graph

    reckoning = [node.op_type for node in graph.node if node.op_type in ("Transpose", "Cast", "Mul", "Add", "Conv")]
    assert reckoning[:5] == ["Transpose", "Cast", "Mul", "Add", "Conv"]


def test_the_gate_refuses_other_features() -> None:
    """A difference above 1e-3 of the largest feature is refused with its size."""
    features = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)

    with pytest.raises(ExportError, match="differ by"):
        gate(features, features * 1.01, [])


def test_the_gate_refuses_another_top_class() -> None:
    """Even a tiny difference is refused where it changes an answer."""
    features = np.array([[1.0, 1.0], [3.0, 0.0]], np.float32)
    head = LinearHead(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), ("a", "b"))
    nudged = features + np.array([[0, 1e-4], [0, 0]], np.float32)

    with pytest.raises(ExportError, match="top class of 1 of 2"):
        gate(features, nudged, [head])


def test_the_gate_refuses_what_is_not_a_number() -> None:
    """NaN features do not pass as equal."""
    features = np.ones((2, 4), np.float32)

    with pytest.raises(ExportError):
        gate(features, np.full((2, 4), np.nan, np.float32), [head_of(4)])


@pytest.mark.slow
def test_the_exported_model_tells_nothing_of_its_maker(run: Path) -> None:
    """No path of the machine that exported it is in the model, neither in a fresh one nor in the embedded one."""
    root = Path(export.__file__).parent.parent
    models = [folder / "backbone.onnx" for folder in (run / "bundle", root / "models" / "demo")]

    for model in models:
        data = model.read_bytes()
        assert str(root).encode() not in data
        assert b".py" not in data
