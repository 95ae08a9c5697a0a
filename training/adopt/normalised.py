"""Whether a graph normalises its pixels itself: the product and sum at its beginning.

It knows nothing of what users or configurations say. Letters: a value x of the input becomes scale·x + shift.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

Largest = Literal[1, 255]
"""The value of a white pixel."""

THROUGH = {"Cast", "Transpose", "Identity"}
RECKONING = {"Add", "Sub", "Mul", "Div"}


@dataclass(frozen=True)
class _Line:
    """scale·x + shift, both (1,) or (3,)."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    def then(self, operator: str, value: NDArray[np.float64]) -> "_Line":
        if operator == "Add":
            return _Line(self.scale, self.shift + value)
        if operator == "Sub":
            return _Line(self.scale, self.shift - value)
        factor = value if operator == "Mul" else 1 / value
        return _Line(self.scale * factor, self.shift * factor)


def white(graph: GraphProto, image: str) -> Largest | None:
    """Return what a white pixel must be for a graph that normalises inside; None: it does not.

    Networks that do not normalise begin with a convolution. Those that do subtract a mean or divide by a deviation
    first, which tells the scale of their input. What only corrects pixels that are normalised already is none.

    Args:
        graph: the original.
        image: the name of its input.
    """
    line = _first_line(graph, image)
    if line is None or not np.isfinite(line.scale).all() or not line.scale.all():
        return None
    scale = float(np.abs(line.scale).max())
    mean = float(np.abs(line.shift / line.scale).max())  # the pixel that becomes 0
    if scale < 0.1 or mean > 2:
        return 255
    return 1 if scale >= 1 and mean <= 1 else None


def _first_line(graph: GraphProto, image: str) -> _Line | None:
    """The product and sum that an input passes before anything else; None: there is none."""
    constants = _constants(graph)
    line, name, reckoned = _Line(np.ones(1), np.zeros(1)), image, False
    while node := _only_reader(graph, name):
        if node.op_type in RECKONING:
            other = node.input[1] if node.input[0] == name else node.input[0]
            swapped = node.input[0] != name and node.op_type in {"Sub", "Div"}
            if swapped or other not in constants:
                break
            with np.errstate(all="ignore"):
                line, reckoned = line.then(node.op_type, constants[other]), True
        elif node.op_type not in THROUGH:
            break
        name = node.output[0]
    return line if reckoned else None


def _only_reader(graph: GraphProto, name: str) -> NodeProto | None:
    readers = [node for node in graph.node if name in node.input]
    return readers[0] if len(readers) == 1 and readers[0].domain in {"", "ai.onnx"} else None


def _constants(graph: GraphProto) -> dict[str, NDArray[np.float64]]:
    """The constants of one value, or of one for each channel."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    small = {name: tensor for name, tensor in tensors.items() if sorted(tensor.dims)[-1:] in ([], [1], [3])}
    arrays = {name: _array(tensor) for name, tensor in small.items()}
    return {name: array for name, array in arrays.items() if array.size in (1, 3)}


def _array(tensor: TensorProto) -> NDArray[np.float64]:
    try:
        return numpy_helper.to_array(tensor).astype(np.float64).ravel()
    except Exception:  # noqa: BLE001  a damaged constant is none; onnxruntime says what is wrong with it
        return np.empty(0)
