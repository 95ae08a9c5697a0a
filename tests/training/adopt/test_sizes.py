"""Sizes: of images where the graph leaves them free, of features, and of names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node, make_tensor_value_info
from onnx_backbones import adopted, backbone, images, plain, saved

from breadcrumbs.training.adopt import image_input
from breadcrumbs.training.adopt.config import BackboneConfig
from breadcrumbs.training.adopt.onnx_graph import check, open_onnx
from breadcrumbs.training.adopt.opened import AdoptError


def mean_colour(shape: tuple[Any, ...], dim: int = 3, output: str = "output") -> Any:
    """A backbone whose features are a product of the mean colour; it takes images of any size."""
    weight = np.random.default_rng(0).normal(size=(3, dim)).astype(np.float32)
    nodes = [
        make_node("GlobalAveragePool", ["input"], ["mean"]),
        make_node("Flatten", ["mean"], ["colour"], axis=1),
        make_node("MatMul", ["colour", "weight"], [output]),
    ]
    graph = helper.make_graph(
        nodes, "colours", [make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [make_tensor_value_info(output, TensorProto.FLOAT, (shape[0], dim))],
        [numpy_helper.from_array(weight, "weight")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("shape", "wish", "size"),
    [
        (("b", 3, "h", "w"), BackboneConfig(), (224, 224)),
        (("b", 3, "h", "w"), BackboneConfig(size=1), (1, 1)),
        (("b", 3, "h", "w"), BackboneConfig(size=33), (33, 33)),
        (("batch_size", "num_channels", "height", "width"), BackboneConfig(size=16), (16, 16)),
        ((1, 3, None, None), BackboneConfig(size=16), (16, 16)),
        (("b", 3, 12, 20), BackboneConfig(), (12, 20)),
        (("b", 3, 1, 1), BackboneConfig(), (1, 1)),
        (("b", 3, 12, "w"), BackboneConfig(size=12), (12, 12)),
    ],
)
def test_a_free_size_is_chosen(
    shape: tuple[Any, ...], wish: BackboneConfig, size: tuple[int, int], tmp_path: Path
) -> None:
    """The flag's, else the usual one; a fixed size stays, square or not, and 1 pixel is enough."""
    path = saved(mean_colour(shape), tmp_path)
    found = open_onnx(path, wish)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)

    assert (found.preprocess.height, found.preprocess.width) == size
    assert check(found, path, wish, pixels) < 1e-5
    assert any("size 224 is assumed" in note for note in found.notes) == (size == (224, 224))


@pytest.mark.parametrize("dim", [1, 2, 2048])
def test_few_and_many_features(dim: int, tmp_path: Path) -> None:
    """The width of the features is the graph's."""
    found = open_onnx(saved(mean_colour(("b", 3, 4, 4), dim), tmp_path), BackboneConfig())

    assert found.feature_dim == dim
    assert adopted(found.model, images(3, 4)).shape == (3, dim)


@pytest.mark.parametrize("name", ["логиты" * 10, "x" * 60, "a\nb\x1b[2J", "✓" * 200])
def test_names_of_any_kind_are_told_in_one_line(name: str, tmp_path: Path) -> None:
    """Names of outputs and files come from strangers: notes and errors stay one printable line."""
    path = saved(mean_colour(("b", 3, 4, 4), output=name), tmp_path, f"{name[:20]}.onnx".replace("\n", "\x1b"))
    found = open_onnx(path, BackboneConfig())
    with pytest.raises(AdoptError) as error:
        open_onnx(path, BackboneConfig(output="no\nsuch"))

    for text in (*found.notes, found.name, str(error.value)):
        assert text.isprintable()
        assert len(text) < 800


def test_a_size_that_the_graph_cannot_take_is_refused(tmp_path: Path) -> None:
    """A graph that says its size is free, but has a constant for one size, cannot be run at another."""
    model = backbone("tokens", side="side")
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array((0, 5, 16)), "shape"))
    path = saved(model, tmp_path)

    assert open_onnx(path, BackboneConfig(size=8)).feature_dim == 5
    with pytest.raises(AdoptError, match=r"1 × 3 × 20 × 20.*--size") as error:
        open_onnx(path, BackboneConfig(size=20))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        (("b", 3, 8, 8), True),
        (("b", 8, 8, 3), False),
        (("b", 3, 8, 3), True),
        (("b", 3, "h", "w"), True),
        (("b", "h", "w", 3), False),
        (("b", "c", "h", "w"), True),
        (("b", "h", "w", "channels"), False),
        (("b", "c", 8, 8), True),
    ],
)
def test_how_an_input_lies(shape: tuple[Any, ...], first: bool) -> None:
    """Three channels tell; where none is said, the names do; else channels come first."""
    assert image_input.find(mean_colour(shape)).channels_first == first


@pytest.mark.parametrize("shape", [("b", 3, 8), ("b", 4, 8, 8), ("b", 8, 8, 1), (2, 3, 8, 8), (), ("b", 9, "h", "w")])
def test_inputs_that_are_no_colour_images(shape: tuple[Any, ...]) -> None:
    """Other ranks, channels and fixed batches are refused, with the input's shape and a remedy."""
    with pytest.raises(AdoptError, match=r"'input' float32 .*(export|adopt)"):
        image_input.find(mean_colour(shape or ("b",)))


def test_the_plain_way_agrees_for_large_images(tmp_path: Path) -> None:
    """At 224 pixels as at 8: what the tests compare with is the definition of the normalisation."""
    model = backbone("planes", side="side")
    pixels = images(2, 32)
    found = open_onnx(saved(model, tmp_path), BackboneConfig(size=32, mean=(0.5,) * 3, std=(0.25,) * 3))

    assert np.allclose(adopted(found.model, pixels), plain(model, pixels, 0.5, 0.25).mean((2, 3)), rtol=1e-4, atol=1e-5)
