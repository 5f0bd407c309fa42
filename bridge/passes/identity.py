"""Identity gives the value itself: what reads its output reads its input."""

from __future__ import annotations

import onnx_ir as ir

from bridge.passes.emit import is_onnx, replace


def identity(model: ir.Model) -> None:
    """Drop every Identity, but those that give a graph or a branch an output that it does not compute itself: an input,
    an initializer, a value of the graph around it, a second name for another output."""
    for graph in model.graphs():
        for node in list(graph):
            if is_onnx(node, "Identity") and node.inputs[0] is not None and not _names_output(node):
                _drop(node)


def _names_output(node: ir.Node) -> bool:
    given, made = node.inputs[0], node.outputs[0]
    producer = given.producer()
    own = producer is not None and producer.graph is node.graph
    return made.is_graph_output() and (not own or given.is_graph_output())


def _drop(node: ir.Node) -> None:
    given, made = node.inputs[0], node.outputs[0]
    named = made.is_graph_output()
    replace(made, given)
    if named:
        given.name = made.name
    node.graph.remove(node, safe=True)
