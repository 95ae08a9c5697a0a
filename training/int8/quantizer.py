"""A graph in int8 by ONNX Runtime's own quantizer: static, calibrated by least and largest values, weights by channel.

Activations are uint8 and weights int8, which x86 with VNNI and Arm both run fast. What brings pixels to the first layer
and the last layer's maps to the feature stays in float. It knows nothing of recall or of speed.

Letters: N images, H and W in pixels, D feature dimensions.
"""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.head import IR_VERSION, parse_onnx
from breadcrumbs.training.origin import forget_origin

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators with weights, for which int8 pays."""
CARRIED = ("Relu", "Clip")
"""Operators behind a layer that cost nothing in int8."""
BETWEEN = (*LAYERS, *CARRIED, "Add", "Mul", "Sigmoid", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat")
"""Operators that are in int8 where they lie between layers."""
PER_CHANNEL = 13
"""The first opset whose DequantizeLinear takes a scale for each channel."""
OPSET = 17


class QuantizeError(BreadcrumbsError):
    """A graph that cannot be brought to int8."""


class Quantizer:
    """A graph that is prepared and calibrated once, then made in int8 with any of its layers left in float.

    Args:
        backbone: the graph: `image` uint8 (N, H, W, 3) -> `feature` f32 (N, D).
        batches: images to calibrate on, uint8 (N, H, W, 3) each.
        folder: for its files, which are several times as large as the graph.

    Raises:
        QuantizeError: it has no layer that can be in int8, or ONNX Runtime cannot prepare it.
    """

    def __init__(self, backbone: bytes, batches: Iterable[Pixels], folder: Path) -> None:
        self._batches, self._folder = batches, folder
        self._ranges = folder / "ranges.json"
        self._path = folder / "prepared.onnx"
        prepared = self._prepare(backbone)
        self._inside = inside(prepared)
        self.layers = [
            node.name for node in prepared.graph.node if node.op_type in LAYERS and node.name in self._inside
        ]
        """Names of the layers, in the graph's order."""
        if not self.layers:
            raise QuantizeError(f"the graph has no layer for int8; expected one of {', '.join(LAYERS)} with weights")

    def without(self, floats: Iterable[str]) -> bytes:
        """Return the graph in int8 but for some layers; raises as `_quantized`."""
        left = set(floats)
        return self._quantized([name for name in self._inside if name not in left])

    def only(self, layer: str) -> bytes:
        """Return the graph with one layer in int8; raises as `_quantized`."""
        return self._quantized([layer])

    def _prepare(self, backbone: bytes) -> ModelProto:
        """Write the graph with batch norms folded, shapes inferred and every node named, and return it."""
        given = self._folder / "given.onnx"
        model = parse_onnx(backbone)
        try:
            if any(entry.domain == "" and entry.version < PER_CHANNEL for entry in model.opset_import):
                model = onnx.version_converter.convert_version(model, OPSET)
            onnx.save(model, given)
            with _quiet():
                quant_pre_process(str(given), str(self._path), skip_symbolic_shape=True)
        except Exception as error:  # ONNX Runtime's exceptions have no common root of their own
            raise QuantizeError(f"ONNX Runtime cannot prepare the graph for int8: {str(error)[:300]}") from error
        prepared = onnx.load(self._path)
        for number, node in enumerate(prepared.graph.node):
            node.name = f"{number}-{node.op_type}"
        onnx.save(prepared, self._path)
        return prepared

    def _quantized(self, nodes: list[str]) -> bytes:
        """The graph with some nodes in int8.

        Raises:
            QuantizeError: ONNX Runtime cannot make it.
        """
        path = self._folder / "int8.onnx"
        try:
            with _quiet():
                quantize_static(
                    self._path, path, Batches(self._batches), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_quantize=nodes,
                    op_types_to_quantize=list(BETWEEN), calibrate_method=CalibrationMethod.MinMax,
                    calibration_cache_path=self._ranges,
                )  # fmt: skip
        except Exception as error:  # ONNX Runtime's exceptions have no common root of their own
            raise QuantizeError(f"ONNX Runtime cannot bring the graph to int8: {str(error)[:300]}") from error
        made = parse_onnx(path.read_bytes())
        made.ir_version = max(IR_VERSION, made.ir_version)
        _forget_domains(made)
        forget_origin(made)
        onnx.checker.check_model(made)
        return bytes(made.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantizer, which tells of single channels, and of a failure with its traceback; it still raises."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _forget_domains(model: ModelProto) -> None:
    """Remove the sets of operators that ONNX Runtime names without need: another runtime may not know them."""
    if not model.functions:
        used = {node.domain for node in model.graph.node} | {"", "ai.onnx"}
        kept = [entry for entry in model.opset_import if entry.domain in used]
        del model.opset_import[:]
        model.opset_import.extend(kept)


class Batches(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """Batches of images, as ONNX Runtime's calibration reads them."""

    def __init__(self, batches: Iterable[Pixels]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, Pixels] | None:
        """Return the next batch as the graph's input; None: there are no more."""
        images = next(self._left, None)
        return None if images is None else {"image": images}


def inside(model: ModelProto) -> list[str]:
    """Name the nodes that may be in int8: layers, what lies between them, and what the last ones carry."""
    weights = {tensor.name for tensor in model.graph.initializer}
    layers = {node.name for node in model.graph.node if node.op_type in LAYERS and set(node.input) & weights}
    after = _reached(model.graph.node, layers)
    before = _reached(_turned(model.graph.node), layers)
    return [
        node.name
        for node in model.graph.node
        if node.name in layers
        or (node.op_type in BETWEEN and node.op_type not in LAYERS and node.name in after and node.name in before)
        or (node.op_type in CARRIED and node.name in after)
    ]


def _reached(nodes: Iterable[NodeProto], layers: set[str]) -> set[str]:
    """The nodes that lie behind a layer, of nodes in the order of their computation."""
    values, found = set[str](), set[str]()
    for node in nodes:
        behind = bool(values & set(node.input))
        if behind:
            found.add(node.name)
        if behind or node.name in layers:
            values |= set(node.output)
    return found


def _turned(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes from the last to the first, inputs and outputs exchanged."""
    for node in reversed(list(nodes)):
        yield NodeProto(name=node.name, op_type=node.op_type, input=node.output, output=node.input)
