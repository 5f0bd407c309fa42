"""The nodes of a body in the graph around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from bridge.graph.rewriting import owner_graph, replace, unused


def splice(body: ir.Graph, before: ir.Node, given: Sequence[ir.Value | None] = ()) -> list[ir.Value]:
    """Move the nodes and constants of `body`, whose inputs are `given`, in front of the node `before`, under names that
    nothing else has; `body` is empty then. What it gave."""
    graph = owner_graph(before)
    names = {value.name for value in _values(graph)}
    inputs = dict(zip(body.inputs, given, strict=True))
    outputs = [inputs.get(value) or value for value in body.outputs]
    body.outputs.clear()
    for value, new in inputs.items():
        if new is not None:
            value.replace_all_uses_with(new)
    initializers, nodes = list(body.initializers.values()), list(body)
    body.initializers.clear()
    body.remove(nodes)
    for value in [*initializers, *(value for inner in nodes for value in inner.outputs)]:
        value.name = unused(value.name or "value", names)
        names.add(value.name)
    for value in initializers:
        graph.register_initializer(value)
    graph.insert_before(before, nodes)
    return outputs


def take(node: ir.Node, holds: bool) -> None:
    """What the branch of the If `node` holds that runs where its condition `holds`, in its place."""
    then, other = (node.attributes.pop(name).as_graph() for name in ("then_branch", "else_branch"))
    branch = then if holds else other
    for old, new in zip(node.outputs, splice(branch, node), strict=True):
        replace(old, new)
    owner_graph(node).remove(node, safe=True)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Those of `graph` and of the graphs inside it."""
    yield from graph.inputs
    for inner in (graph, *graph.subgraphs()):
        yield from inner.initializers.values()
    for node in ir.traversal.RecursiveGraphIterator(graph):
        yield from node.outputs
