"""All that a ModelProto holds, wherever it stands: graphs within graphs and functions, their nodes and tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import onnx

from bridge.errors import SourceError

MAX_DEPTH = 16  # of graphs within graphs
Graph: TypeAlias = onnx.GraphProto | onnx.FunctionProto


def graphs(proto: onnx.ModelProto) -> Iterator[Graph]:
    """The graph, the functions, and every graph inside them."""
    waiting: list[tuple[Graph, int]] = [(proto.graph, 0), *((function, 0) for function in proto.functions)]
    while waiting:
        graph, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise SourceError(
                f"more than {MAX_DEPTH} graphs inside one another: not a model that anything runs"
            )
        yield graph
        waiting.extend((inner, depth + 1) for node in graph.node for inner in _inside(node))


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that the model holds, in attributes, inner graphs and functions too."""
    for graph in graphs(proto):
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
        else:
            yield from _attached(graph.attribute_proto)
        for node in graph.node:
            yield from _attached(node.attribute)


def _attached(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        yield from attribute.tensors
        if attribute.HasField("t"):
            yield attribute.t


def nodes_in(graph: Graph) -> Iterator[onnx.NodeProto]:
    """The nodes of `graph` and of the graphs inside it."""
    waiting: list[Graph] = [graph]
    while waiting:
        for node in waiting.pop().node:
            yield node
            waiting.extend(_inside(node))


def _inside(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds itself."""
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g
