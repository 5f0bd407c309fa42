"""An If whose condition is known is its branch."""

from __future__ import annotations

import onnx_ir as ir

from bridge.graph.rewriting import all_nodes, constant, input_of, is_onnx, owner_graph, replace
from bridge.graph.shapes import symbolic_contents
from bridge.graph.splicing import splice


def resolve_branches(model: ir.Model) -> None:
    axes = {str(dim) for value in model.graph.inputs for dim in value.shape or () if not isinstance(dim, int)}
    while found := [
        node for node in all_nodes(model) if is_onnx(node, "If") and _holds(node, axes) is not None
    ]:
        for node in found:
            holds = _holds(node, axes)
            _put(node, node.attributes["then_branch" if holds else "else_branch"].as_graph())


def _holds(node: ir.Node, axes: set[str]) -> bool | None:
    """The condition of the If `node`, or None if it is not known. The size of an axis of an input is never 0: as a
    condition it is true."""
    known, asked = constant(node.inputs[0]), input_of(node, 0).producer()
    if known is not None:
        return bool(known.numpy().reshape(-1)[0])
    sizes = symbolic_contents(input_of(asked, 0)) if is_onnx(asked, "Cast") else None
    return True if sizes and {str(size) for size in sizes} <= axes else None


def _put(node: ir.Node, branch: ir.Graph) -> None:
    """What `branch` holds in the place of `node`."""
    for old, new in zip(node.outputs, splice(branch, node), strict=True):
        replace(old, new)
    owner_graph(node).remove(node, safe=True)
