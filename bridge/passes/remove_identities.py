"""Identity gives the value itself, and so does StopGradient where nothing behind it trains: what reads it reads its
input."""

from __future__ import annotations

import onnx_ir as ir

from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import constant, input_of, is_onnx, owner_graph, read_inside, replace
from bridge.weights.weight import Weight


def remove_identities(model: ir.Model) -> None:
    """Drop every Identity, but those that give a graph or a branch an output that it does not compute itself: an input,
    an initializer, a value of the graph around it, a second name for another output."""
    for graph in model.graphs():
        trained = _trained(graph)
        for node in list(graph):
            stops = (node.domain, node.op_type) == (DOMAIN, "StopGradient")
            copies = is_onnx(node, "Identity") or stops and node.inputs[0] not in trained
            if copies and node.inputs[0] is not None and not _names_output(node):
                _drop(node)


def _trained(graph: ir.Graph) -> set[ir.Value]:
    """The trained parameters that nodes of `graph` read, and what is computed of such."""
    found: set[ir.Value] = set()
    for node in graph:
        read = [value for value in (*node.inputs, *read_inside(node)) if value is not None]
        weights = {value for value in read if isinstance(held := constant(value), Weight) and held.trainable}
        found |= weights
        if weights or any(value in found for value in read):
            found.update(node.outputs)
    return found


def _names_output(node: ir.Node) -> bool:
    given, made = input_of(node, 0), node.outputs[0]
    producer = given.producer()
    own = producer is not None and producer.graph is node.graph
    return made.is_graph_output() and (not own or given.is_graph_output())


def _drop(node: ir.Node) -> None:
    given, made = input_of(node, 0), node.outputs[0]
    named = made.is_graph_output()
    replace(made, given)
    if named:
        given.name = made.name
    owner_graph(node).remove(node, safe=True)
