"""Graphs in int8: near the original, with float where it was asked for."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from small_graphs import graph, pictures

from breadcrumbs.models.head import parse_onnx
from breadcrumbs.training.export import run_onnx
from breadcrumbs.training.int8.layers import by_error
from breadcrumbs.training.int8.quantizer import QuantizeError, Quantizer


@pytest.mark.parametrize("opset", [11, 13, 17, 20])
@pytest.mark.parametrize("dim", [16, 2048])
def test_it_is_near_the_original(opset: int, dim: int, tmp_path: Path) -> None:
    """Of any opset, with inputs and outputs as they were, and smaller."""
    full, images = graph(dim=dim, opset=opset), pictures()
    quantizer = Quantizer(full, [images[:5], images[5:]], tmp_path)
    made = quantizer.without(())

    before, after = (run_onnx(model, [torch.from_numpy(images)]) for model in (full, made))
    assert after.dtype == np.float32
    assert after.shape == before.shape
    cosine = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert cosine.min() > 0.99
    assert len(made) < len(full) or dim == 16


def test_pixels_and_pool_stay_in_float(tmp_path: Path) -> None:
    """Quantised are the layers and what lies between: the first reads what was normalised in float."""
    quantizer = Quantizer(graph(), [pictures()], tmp_path)
    model = parse_onnx(quantizer.without(()))

    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    reads = {node.op_type: [makers.get(name) for name in node.input] for node in model.graph.node}
    assert reads["Mul"][0] == "Cast"
    assert reads["Conv"][0] == "DequantizeLinear"
    assert reads["Flatten"] == ["GlobalAveragePool"]


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_layer_may_be_left_in_float(left: int, tmp_path: Path) -> None:
    """It then reads its own weights; the others are in int8."""
    quantizer = Quantizer(graph(), [pictures()], tmp_path)
    whole, made = quantizer.without(()), quantizer.without(quantizer.layers[:left])
    alone = quantizer.only(quantizer.layers[left])

    def in_float(model: bytes) -> int:
        return sum(
            tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 4
            for tensor in parse_onnx(model).graph.initializer
        )

    assert (in_float(whole), in_float(made), in_float(alone)) == (0, left, 2)
    onnx.checker.check_model(parse_onnx(made))


@pytest.mark.parametrize("loud", [0, 1, 2])
def test_the_layer_with_the_largest_error_comes_first(loud: int, tmp_path: Path) -> None:
    """Found by measuring: the one whose activations a single channel spoils."""
    full, images = graph(loud=loud), [torch.from_numpy(pictures())]
    quantizer = Quantizer(full, (batch.numpy() for batch in images), tmp_path)
    order = by_error(quantizer, run_onnx(full, images), images, float("inf"))
    unmeasured = by_error(quantizer, run_onnx(full, images), images, 0.0)

    assert sorted(order) == sorted(quantizer.layers)
    assert unmeasured == quantizer.layers


def test_a_graph_without_layers_is_refused(tmp_path: Path) -> None:
    """There is nothing that int8 would make faster."""
    with pytest.raises(QuantizeError, match="no layer for int8; expected one of Conv"):
        Quantizer(graph(layers=0, dim=3), [pictures()], tmp_path)


def test_a_graph_that_cannot_run_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """ONNX Runtime's own words are cut."""
    model = parse_onnx(graph())
    model.graph.node[3].op_type = "NoSuchOperator"

    with pytest.raises(QuantizeError, match=r"^ONNX Runtime cannot bring the graph to int8: .{1,300}$"):
        Quantizer(model.SerializeToString(), [pictures()], tmp_path).without(())
