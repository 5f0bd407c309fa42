"""An If whose condition is known is its branch."""

from __future__ import annotations

import onnx_ir as ir

from bridge.graph.rewriting import constant, is_onnx, unused


def resolve_branches(model: ir.Model) -> None:
    while found := [
        node for node in model.graph if is_onnx(node, "If") and constant(node.inputs[0]) is not None
    ]:
        for node in found:
            holds = bool(constant(node.inputs[0]).numpy().reshape(-1)[0])
            _put(model.graph, node, node.attributes["then_branch" if holds else "else_branch"].as_graph())


def _put(graph: ir.Graph, node: ir.Node, branch: ir.Graph) -> None:
    """What `branch` holds in the place of `node`, under names that nothing else has."""
    names = {value.name for value in _made(graph)}
    outputs = list(branch.outputs)
    branch.outputs.clear()
    initializers = list(branch.initializers.values())
    branch.initializers.clear()
    nodes = list(branch)
    branch.remove(nodes)
    for value in [*initializers, *(value for inner in nodes for value in inner.outputs)]:
        value.name = unused(value.name or "value", names)
        names.add(value.name)
    for value in initializers:
        graph.register_initializer(value)
    graph.insert_before(node, nodes)
    for old, new in zip(node.outputs, outputs, strict=True):
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _made(graph: ir.Graph) -> list[ir.Value]:
    """The values of `graph` and of the graphs inside it."""
    nodes = list(ir.traversal.RecursiveGraphIterator(graph))
    return [
        *graph.inputs,
        *graph.initializers.values(),
        *(value for inner in nodes for value in inner.outputs),
    ]
