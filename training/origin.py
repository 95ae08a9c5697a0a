"""Removes what an exporter wrote about the origin of an ONNX model: stack traces with the paths of its machine.

It knows nothing of what the model computes.
"""

from collections.abc import Iterable

from onnx import GraphProto, ModelProto, NodeProto


def forget_origin(model: ModelProto) -> None:
    """Remove all descriptions and metadata, in subgraphs and functions too."""
    model.doc_string = ""
    del model.metadata_props[:]
    _forget_graph(model.graph)
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        _forget_nodes(function.node)


def _forget_graph(graph: GraphProto) -> None:
    for part in (graph, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    _forget_nodes(graph.node)


def _forget_nodes(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.doc_string = ""
            for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                _forget_graph(graph)
