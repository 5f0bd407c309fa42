"""An If whose condition is known is its branch."""

from __future__ import annotations

import onnx_ir as ir

from bridge.graph.rewriting import all_nodes, constant, home, is_onnx, replace
from bridge.graph.splicing import splice


def resolve_branches(model: ir.Model) -> None:
    while found := [
        node for node in all_nodes(model) if is_onnx(node, "If") and constant(node.inputs[0]) is not None
    ]:
        for node in found:
            condition = constant(node.inputs[0])
            assert condition is not None
            holds = bool(condition.numpy().reshape(-1)[0])
            _put(node, node.attributes["then_branch" if holds else "else_branch"].as_graph())


def _put(node: ir.Node, branch: ir.Graph) -> None:
    """What `branch` holds in the place of `node`."""
    for old, new in zip(node.outputs, splice(branch, node), strict=True):
        replace(old, new)
    home(node).remove(node, safe=True)
