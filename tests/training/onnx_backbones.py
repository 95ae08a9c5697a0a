"""Small ONNX backbones of every kind that users have, and what they give, reckoned the plain way."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.helper import make_node, make_tensor_value_info

CODES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
WIDTH = 5
SIDE = 8
SHAPES: dict[str, tuple[int, ...]] = {
    "rows": (WIDTH,),
    "point": (WIDTH, 1, 1),
    "planes": (WIDTH, 4, 4),
    "positions": (4, 4, WIDTH),
    "tokens": (16, WIDTH),
    "class token": (17, WIDTH),
}
"""What one image gives, by the kind of output."""


def backbone(
    kind: str = "rows",
    *,
    channels_first: bool = True,
    element: str = "float32",
    batch: int | str = "batch",
    given: str = "input",
    output: str = "output",
    side: int | str = SIDE,
    channels: int = 3,
    opset: int = 17,
    fixed: bool = False,
    nodes: list[Any] | None = None,
    extra: tuple[str, ...] = (),
) -> ModelProto:
    """Return a convolution whose output is of one kind.

    With `fixed` a constant inside allows only one image; `nodes` come before the last; `extra` are more outputs, each
    a copy of the output.
    """  # fmt: skip
    inside = "float32" if element == "uint8" else element
    chance = np.random.default_rng(1)
    constants = {
        "weight": chance.normal(size=(WIDTH, channels, 3, 3)).astype(inside) / 3,
        "shape": np.array((1 if fixed else 0, WIDTH, 16)),
    }
    steps = [
        make_node("Transpose", [given], ["nchw"], perm=(0, 1, 2, 3) if channels_first else (0, 3, 1, 2)),
        make_node("Cast", ["nchw"], ["cast"], to=CODES[inside]),
        make_node("Conv", ["cast", "weight"], ["conv"], pads=(1, 1, 1, 1), strides=(2, 2)),
        make_node("Relu", ["conv"], ["relu"]),
        *(nodes or []),
        *_output(kind, output),
        *(make_node("Identity", [output], [name]) for name in extra),
    ]
    image = (channels, side, side) if channels_first else (side, side, channels)
    shape = SHAPES[kind] if side == SIDE else tuple(f"d{n}" for n in range(len(SHAPES[kind])))
    graph = helper.make_graph(
        steps, "small", [make_tensor_value_info(given, CODES[element], (batch, *image))],
        [make_tensor_value_info(name, CODES[inside], (batch, *shape)) for name in (output, *extra)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _output(kind: str, output: str) -> list[Any]:
    """From `relu` (N, D, 4, 4) to the output."""
    pool = make_node("GlobalAveragePool", ["relu"], ["mean"])
    columns = make_node("Reshape", ["relu", "shape"], ["columns"])
    match kind:
        case "rows":
            return [pool, make_node("Flatten", ["mean"], [output], axis=1)]
        case "point":
            return [make_node("GlobalAveragePool", ["relu"], [output])]
        case "planes":
            return [make_node("Identity", ["relu"], [output])]
        case "positions":
            return [make_node("Transpose", ["relu"], [output], perm=(0, 2, 3, 1))]
        case "tokens":
            return [columns, make_node("Transpose", ["columns"], [output], perm=(0, 2, 1))]
    first = make_node("MaxPool", ["relu"], ["largest"], kernel_shape=(4, 4))
    joined = [make_node("Reshape", ["largest", "shape one"], ["one"])]
    constant = numpy_helper.from_array(np.array((-1, WIDTH, 1)))
    shape = make_node("Constant", [], ["shape one"], value=constant)
    both = make_node("Concat", ["one", "columns"], ["all"], axis=2)
    return [first, shape, *joined, columns, both, make_node("Transpose", ["all"], [output], perm=(0, 2, 1))]


def saved(model: ModelProto, folder: Path, name: str = "backbone.onnx") -> Path:
    """Write a model."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / name)
    return folder / name


def images(count: int = 4, side: int = SIDE, seed: int = 0) -> Any:
    """Random images uint8 (count, side, side, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def adopted(model: bytes, pixels: Any) -> Any:
    """The features of images by a composed graph."""
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(["feature"], {"image": pixels})[
        0
    ]


def plain(model: ModelProto, pixels: Any, mean: Any, std: Any) -> Any:
    """What the original gives for images, one after another, each normalised by its definition."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    element = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}[given.type]
    rows = []
    for image in pixels:
        values = image if element == "uint8" else ((image / 255.0 - mean) / std).astype(element)
        values = values.transpose(2, 0, 1) if given.shape[1] == 3 else values
        rows.append(session.run(None, {given.name: values[None]})[0][0].astype(np.float32))
    return np.stack(rows)


def pooled(kind: str, output: Any, pool: str | None = None) -> Any:
    """(N, D) of an output of some kind."""
    match kind:
        case "rows":
            return output
        case "point" | "planes":
            return output.mean((2, 3))
        case "positions":
            return output.mean((1, 2))
        case _:
            first = pool == "cls" or (pool is None and kind == "class token")
            return output[:, 0] if first else output.mean(1)
