"""Composes the graph that a bundle has: pixels in, the original graph, one row of features per image out.

It knows nothing of files and runs nothing. Every name of the original gets a prefix, so that none can clash with ours.
The operators around it mean the same in every opset from 7 on.

Letters: N images, H and W in pixels, D feature dimensions.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.helper import make_node, make_tensor_value_info

from breadcrumbs.models.head import IR_VERSION
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.training.adopt.feature_output import FeatureOutput
from breadcrumbs.training.adopt.image_input import ELEMENTS, ImageInput
from breadcrumbs.training.origin import forget_origin

PREFIX = "backbone/"
"""Before every name of the original graph."""
CODES = {element: code for code, element in ELEMENTS.items()}

Parts = tuple[list[NodeProto], list[TensorProto]]
"""Nodes, and the constants that they need."""


def compose(
    model: ModelProto, image: ImageInput, feature: FeatureOutput, transform: Preprocess, *, one_by_one: bool
) -> ModelProto:
    """Return the graph `image` uint8 (N, H, W, 3) -> `feature` f32 (N, D), with the original inside.

    Args:
        model: the original; it is not changed.
        image, feature: its input and output.
        transform: mean and deviation, and the size.
        one_by_one: run the original for one image at a time, in a loop; else its number of images is taken as free.
    """
    original = _prefixed(_needed(model.graph, image.name, feature.name))
    before, after = _before(image, transform), _after(feature)
    inside = _loop(original, image, feature, transform) if one_by_one else _joined(original, image, feature)
    rows, columns = transform.height, transform.width
    graph = helper.make_graph(
        [*before[0], *inside[0], *after[0]],
        "adopted",
        [make_tensor_value_info("image", TensorProto.UINT8, ["N", rows, columns, 3])],
        [make_tensor_value_info("feature", TensorProto.FLOAT, ["N", feature.feature_dim])],
        [*before[1], *inside[1], *after[1]],
    )
    if not one_by_one:
        graph.sparse_initializer.extend(original.sparse_initializer)
    composed = helper.make_model(graph, producer_name="breadcrumbs", functions=model.functions)
    del composed.opset_import[:]
    composed.opset_import.extend(model.opset_import)
    composed.ir_version = max(IR_VERSION, model.ir_version)
    forget_origin(composed)
    return composed


def _before(image: ImageInput, transform: Preprocess) -> Parts:
    """`image` -> `pixels`, in the type and layout of the original's input."""
    if image.element == "uint8":
        return [_transpose("image", "pixels", (0, 3, 1, 2)) if image.channels_first else _same("image", "pixels")], []
    # (x / 255 - mean) / std as one product and sum on planes, as `training.network.Features` says why
    mean, std = (np.array(values, np.float64)[:, None, None] for values in (transform.mean, transform.std))
    constants = [_constant("scale", 1 / (255 * std)), _constant("shift", -mean / std)]
    nodes = [
        _transpose("image", "planes", (0, 3, 1, 2)),
        make_node("Cast", ["planes"], ["wide"], to=TensorProto.FLOAT),
        make_node("Mul", ["wide", "scale"], ["scaled"]),
        make_node("Add", ["scaled", "shift"], ["normalised"]),
        make_node("Cast", ["normalised"], ["narrow"], to=CODES[image.element]),
        _same("narrow", "pixels") if image.channels_first else _transpose("narrow", "pixels", (0, 2, 3, 1)),
    ]
    return nodes, constants


def _after(feature: FeatureOutput) -> Parts:
    """`given`, the original's output -> `feature`."""
    cast = make_node("Cast", ["given"], ["output"], to=TensorProto.FLOAT)
    match feature.pooling:
        case "rows":
            return [make_node("Cast", ["given"], ["feature"], to=TensorProto.FLOAT)], []
        case "first token":
            first = _constant("first", np.array(0))
            return [cast, make_node("Gather", ["output", "first"], ["feature"], axis=1)], [first]
        case "planes":
            moved = _same("output", "maps")
        case "tokens":
            moved = _transpose("output", "maps", (0, 2, 1))
        case "positions":
            moved = _transpose("output", "maps", (0, 3, 1, 2))
    mean = make_node("GlobalAveragePool", ["maps"], ["means"])
    return [cast, moved, mean, make_node("Flatten", ["means"], ["feature"], axis=1)], []


def _joined(original: GraphProto, image: ImageInput, feature: FeatureOutput) -> Parts:
    """`pixels` -> `given`: the original on all images at once."""
    into, out = _same("pixels", PREFIX + image.name), _same(PREFIX + feature.name, "given")
    return [into, *original.node, out], list(original.initializer)


def _loop(original: GraphProto, image: ImageInput, feature: FeatureOutput, transform: Preprocess) -> Parts:
    """`pixels` -> `given`: the original on one image after another."""
    size = (transform.height, transform.width)
    one = (3, *size) if image.channels_first else (*size, 3)
    code = next(value.type.tensor_type.elem_type for value in original.output)
    body = GraphProto()
    body.CopyFrom(original)
    del body.node[:], body.input[:], body.output[:]
    body.node.append(make_node("Reshape", ["one", "batch_shape"], [PREFIX + image.name]))
    body.node.extend(original.node)
    body.node.append(make_node("Reshape", [PREFIX + feature.name, "row_shape"], ["row"]))
    body.initializer.append(_constant("batch_shape", np.array((1, *one))))
    body.initializer.append(_constant("row_shape", np.array(feature.shape)))
    body.input.append(make_tensor_value_info("one", CODES[image.element], one))
    body.output.append(make_tensor_value_info("row", code, feature.shape))
    return [make_node("Scan", ["pixels"], ["given"], num_scan_inputs=1, body=body)], []


def _needed(graph: GraphProto, image: str, feature: str) -> GraphProto:
    """A copy of a graph with one input and one output, and what computes the one from the other."""
    makers = {name: node for node in graph.node for name in node.output}
    wanted, waiting = set[str](), [feature]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting.extend(_reads(makers[name]) if name in makers else ())
    copy = GraphProto(name="original")
    copy.node.extend(node for node in graph.node if wanted & set(node.output))
    copy.initializer.extend(tensor for tensor in graph.initializer if tensor.name in wanted)
    copy.sparse_initializer.extend(tensor for tensor in graph.sparse_initializer if tensor.values.name in wanted)
    copy.input.extend(value for value in graph.input if value.name == image)
    copy.output.extend(value for value in graph.output if value.name == feature)
    return copy


def _reads(node: NodeProto) -> Iterator[str]:
    """The names that a node and its subgraphs read."""
    yield from node.input
    for graph in _subgraphs(node):
        yield from (value.name for value in graph.output)
        for inner in graph.node:
            yield from _reads(inner)


def _prefixed(graph: GraphProto) -> GraphProto:
    """Put the prefix before every name of a graph and its subgraphs; they share one space of names."""
    for node in graph.node:
        node.name = ""
        node.input[:] = _with_prefix(node.input)
        node.output[:] = _with_prefix(node.output)
        for subgraph in _subgraphs(node):
            _prefixed(subgraph)
    sparse = [tensor.values for tensor in graph.sparse_initializer]
    for value in (*graph.initializer, *sparse, *graph.input, *graph.output, *graph.value_info):
        value.name = PREFIX + value.name
    return graph


def _with_prefix(names: Iterable[str]) -> list[str]:
    """An empty name stands for an absent value, and stays."""
    return [PREFIX + name if name else "" for name in names]


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _constant(name: str, values: NDArray[np.generic]) -> TensorProto:
    """Numbers as a constant: floats as float32, others as int64."""
    return numpy_helper.from_array(values.astype(np.float32 if values.dtype.kind == "f" else np.int64), name)


def _same(before: str, after: str) -> NodeProto:
    return make_node("Identity", [before], [after])


def _transpose(before: str, after: str, order: tuple[int, ...]) -> NodeProto:
    return make_node("Transpose", [before], [after], perm=order)
