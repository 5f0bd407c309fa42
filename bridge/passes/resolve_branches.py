"""An If whose condition is known is its branch."""

from __future__ import annotations

import onnx_ir as ir

from bridge.graph.rewriting import all_nodes, constant, input_of, is_onnx
from bridge.graph.shapes import symbolic_contents
from bridge.graph.splicing import take


def resolve_branches(model: ir.Model) -> None:
    axes = {str(dim) for value in model.graph.inputs for dim in value.shape or () if not isinstance(dim, int)}
    while found := [
        node for node in all_nodes(model) if is_onnx(node, "If") and _holds(node, axes) is not None
    ]:
        for node in found:
            take(node, bool(_holds(node, axes)))


def _holds(node: ir.Node, axes: set[str]) -> bool | None:
    """The condition of the If `node`, or None if it is not known. The size of an axis of an input is never 0: as a
    condition it is true."""
    known, asked = constant(node.inputs[0]), input_of(node, 0).producer()
    if known is not None:
        return bool(known.numpy().reshape(-1)[0])
    sizes = symbolic_contents(input_of(asked, 0)) if is_onnx(asked, "Cast") else None
    return True if sizes and {str(size) for size in sizes} <= axes else None
