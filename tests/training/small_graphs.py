"""Small graphs as a bundle has them, of layers that can be in int8, and random images for them."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node, make_tensor_value_info

from breadcrumbs.models.arrays import Pixels

SIDE = 12


def graph(layers: int = 3, width: int = 8, dim: int = 16, opset: int = 17, loud: int | None = None) -> bytes:
    """`image` -> so many convolutions, a pool and D features; the weights of the layer `loud` are unlike."""
    chance = np.random.default_rng(0)
    axes = numpy_helper.from_array(np.float32([1 / 255]), "scale")
    constants, nodes = (
        [axes],
        [
            make_node("Transpose", ["image"], ["planes"], perm=(0, 3, 1, 2)),
            make_node("Cast", ["planes"], ["wide"], to=TensorProto.FLOAT),
            make_node("Mul", ["wide", "scale"], ["at0"]),
        ],
    )
    for number in range(layers):
        own = dim if number == layers - 1 else width
        weight = chance.normal(size=(own, 3 if number == 0 else width, 3, 3)).astype(np.float32) / 5
        if number == loud:
            weight[0] *= 1e4
        constants.append(numpy_helper.from_array(weight, f"weight{number}"))
        nodes += [
            make_node("Conv", [f"at{number}", f"weight{number}"], [f"conv{number}"], pads=(1, 1, 1, 1)),
            make_node("Relu", [f"conv{number}"], [f"at{number + 1}"]),
        ]
    nodes += [
        make_node("GlobalAveragePool", [f"at{layers}"], ["mean"]),
        make_node("Flatten", ["mean"], ["feature"], axis=1),
    ]
    whole = helper.make_graph(
        nodes, "small", [make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [make_tensor_value_info("feature", TensorProto.FLOAT, ["N", dim])], constants,
    )  # fmt: skip
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def pictures(count: int = 8) -> Pixels:
    """Random images."""
    return np.random.default_rng(1).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
