"""Reads an ONNX file that is not trusted, with its weights where they lie in files beside it.

It knows nothing of what the graph computes.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from onnx import GraphProto, ModelProto, TensorProto
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.files import open_regular
from breadcrumbs.models.head import parse_onnx, tensors
from breadcrumbs.models.printable import escaped
from breadcrumbs.training.adopt.opened import AdoptError

LARGEST = 2**31 - 1
"""Largest number of bytes of a graph with its weights: what one ONNX file can hold."""


def read(path: Path) -> ModelProto:
    """Read an ONNX file, and the weights that lie beside it.

    Raises:
        AdoptError: it cannot be read, is no ONNX model or too large, or a file of its weights is missing or elsewhere.
    """
    name = escaped(path.name)
    try:
        with open_regular(path) as file:
            _check_size(name, os.fstat(file.fileno()).st_size)
            data = file.read()
    except OSError as error:
        raise AdoptError(f"cannot read {name} ({error.strerror}); name a file that is there") from error
    try:
        model = parse_onnx(data, external=True)
    except FormatError as error:
        raise AdoptError(f"{name} is {escaped(str(error))[:200]}; export the backbone to ONNX again") from error
    if not model.graph.node:
        raise AdoptError(f"{name} has no operator; expected an ONNX model: export the backbone to ONNX again")
    if not all(isinstance(text, str) for text in _texts(model.graph)):  # protobuf gives what is no UTF-8 as bytes
        raise AdoptError(f"{name} is damaged: it has names that are no text; export the backbone to ONNX again")
    _check_size(name, len(data) + _load(model, path))
    return model


def _texts(graph: GraphProto) -> Iterator[str]:
    """The types and names in a graph and its subgraphs."""
    for value in (*graph.input, *graph.output):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in graph.initializer)
    for node in graph.node:
        yield from (node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from _texts(subgraph)


def _check_size(name: str, size: int) -> None:
    if size > LARGEST:
        raise AdoptError(
            f"{name} has over {LARGEST / 2**30:.0f} GiB with its weights, more than one ONNX file can hold; "
            "export it in half precision, or adopt a smaller backbone"
        )


def _load(model: ModelProto, path: Path) -> int:
    """Load the weights that lie in other files of the same folder; return their bytes."""
    elsewhere = [tensor for tensor in tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
    files = {_place(tensor, path) for tensor in elsewhere}
    size = sum(file.stat().st_size for file in files)
    _check_size(escaped(path.name), size)
    for tensor in elsewhere:
        try:
            load_external_data_for_tensor(tensor, str(path.parent))
        except Exception as error:  # onnx raises its checker's errors, and those of files and numbers
            raise AdoptError(
                f"the weights of {escaped(path.name)} cannot be read ({escaped(str(error))[:200]}); "
                "export the backbone again, with all files in one folder"
            ) from error
    return size


def _place(tensor: TensorProto, path: Path) -> Path:
    """The file that a tensor's numbers are in: a regular one, and in the folder of the graph."""
    try:
        location = ExternalDataInfo(tensor).location
    except ValueError:  # a damaged offset or length
        location = ""
    folder = path.parent.resolve()
    file = folder / location
    shown = f"{escaped(path.name)} keeps weights in {escaped(location)[:80]!r}"
    if "\0" in location or not location or not file.resolve().is_relative_to(folder):
        raise AdoptError(f"{shown}, outside its folder; expected a file beside it: copy all files into one folder")
    if not file.is_file():
        raise AdoptError(f"{shown}, which is not there; put that file beside it")
    return file
