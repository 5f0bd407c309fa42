"""Which weights of a graph a gradient of its outputs reaches."""

from __future__ import annotations

import onnx_ir as ir

from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import read_inside

# Operators whose outputs are no numbers of floating point, whatever is said of their types
DISCRETE = {
    "And", "ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "NonZero",
    "Not", "Or", "Shape", "Size", "Xor",
}  # fmt: skip


def reached_by_gradient(graph: ir.Graph) -> set[str]:
    """The names of the initializers of `graph` on which an output depends through numbers of floating point, not
    through StopGradient alone."""
    waiting, seen, names = list(graph.outputs), set[ir.Value](), set[str]()
    while waiting:
        value = waiting.pop()
        if value in seen or value.dtype is not None and not value.dtype.is_floating_point():
            continue
        seen.add(value)
        node = value.producer()
        if value.is_initializer():
            names.add(str(value.name))
        if node is not None and not _stops(node):
            waiting += [v for v in (*node.inputs, *read_inside(node)) if v is not None]
    return names


def _stops(node: ir.Node) -> bool:
    return node.op_type in DISCRETE or (node.domain, node.op_type) == (DOMAIN, "StopGradient")
