"""Passes that rewrite until nothing is left to rewrite."""

from __future__ import annotations

from collections.abc import Callable, Collection

import onnx_ir as ir

from bridge.errors import InternalError
from bridge.graph.rewriting import all_nodes

NAMED = 5  # nodes in an error


def until_unchanged(name: str, model: ir.Model, sweep: Callable[[ir.Model], Collection[ir.Node]]) -> None:
    """Call `sweep`, which goes through the graph once and gives the nodes that it rewrote, until it gives none.

    What is rewritten has to come nearer to its last form each time, and travels past one node at least in each sweep:
    more sweeps than nodes are a circle. Raises `InternalError` with the pass and the nodes that it keeps rewriting.
    """
    count = len(all_nodes(model))
    for _ in range(count + 2):
        rewritten = sweep(model)
        if not rewritten:
            return
    nodes = ", ".join(f"{node.op_type} {node.name}" for node in list(rewritten)[:NAMED])
    raise InternalError(
        f"a fault of bridge itself in pass {name}, which does not come to an end: it rewrites {nodes} again and again; "
        f"`bridge reduce SOURCE -o smallest.onnx` writes the smallest graph that shows it, for a report"
    )
