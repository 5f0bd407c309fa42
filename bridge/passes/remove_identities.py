"""Identity gives the value itself, and so does StopGradient of what does not train: what reads it reads its input."""

from __future__ import annotations

import onnx_ir as ir

from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import constant, home, input_of, is_onnx, replace
from bridge.weights.weight import Weight


def remove_identities(model: ir.Model) -> None:
    """Drop every Identity, but those that give a graph or a branch an output that it does not compute itself: an input,
    an initializer, a value of the graph around it, a second name for another output."""
    for graph in model.graphs():
        for node in list(graph):
            copies = is_onnx(node, "Identity") or _stops_nothing(node)
            if copies and node.inputs[0] is not None and not _names_output(node):
                _drop(node)


def _stops_nothing(node: ir.Node) -> bool:
    """Whether `node` is a StopGradient of a constant, or of a parameter that does not train anyway."""
    held = constant(node.inputs[0]) if (node.domain, node.op_type) == (DOMAIN, "StopGradient") else None
    return held is not None and not (isinstance(held, Weight) and held.trainable)


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
    home(node).remove(node, safe=True)
