"""Another order of the elements along an axis, carried from step to step up to the weights that take it: between a
convolution and a Dense the weights move, and the tensor does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from bridge.graph.axes import FactorOrder
from bridge.graph.rewriting import input_of
from bridge.ops.contract import Step


@dataclass
class Changes:
    """Steps that take another order, and the values that are then stored in it."""

    steps: dict[ir.Node, Step] = field(default_factory=dict)
    orders: dict[ir.Value, FactorOrder] = field(default_factory=dict)


def readers_reordered(value: ir.Value, order: FactorOrder, steps: Mapping[ir.Node, Step]) -> Changes | None:
    """What has to change in the readers of `value`, and in theirs, if it is stored in that order; None if one of them
    cannot. Every reader stands behind what it reads, and one that reads two such values cannot, so no node comes
    twice."""
    changes = Changes()
    left = [(value, order)]
    while left:
        value, order = left.pop()
        if value.is_graph_output():
            return None
        changes.orders[value] = order
        for node, index in value.uses():
            step = steps.get(node)
            if step is None:
                if node.graph is not _home(value):
                    return None
                continue  # shape arithmetic, which is only read
            found = step.operator.layout.read_reordered(step, index, order)
            if found is None:
                return None
            changes.steps[node] = found.step
            left += [] if found.order is None else [(node.outputs[0], found.order)]
    return changes


def makers_reordered(value: ir.Value, order: FactorOrder, steps: Mapping[ir.Node, Step]) -> Changes | None:
    """What has to change in the makers of `value`, which have one reader each, for it to be stored in that order, up to
    the one whose units they are; None if one of them cannot. Every maker stands before what it makes."""
    changes = Changes()
    while True:
        node = value.producer()
        step = None if node is None else steps.get(node)
        if step is None or len(value.uses()) > 1 or value.is_graph_output():
            return None
        found = step.operator.layout.give_reordered(step, order)
        if found is None:
            return None
        changes.orders[value], changes.steps[step.node] = order, found.step
        if found.order is None:
            return changes
        value = input_of(step.node, 0)


def _home(value: ir.Value) -> ir.Graph | None:
    """The graph in which `value` stands."""
    node = value.producer()
    return value.graph if node is None else node.graph
