"""The steps of one graph while they are laid out: the order of every value so far, and what convolutions read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

import onnx_ir as ir

from bridge.graph.axes import FactorOrder, Perm
from bridge.ops.contract import Step
from bridge.plan.reorder import Changes, makers_reordered, readers_reordered


class Steps(dict[ir.Node, Step]):
    """The steps by their nodes, in order, with what the plan knows of values (`bridge.ops.contract.Orders`)."""

    def __init__(self, steps: Iterable[Step], perms: Mapping[ir.Value, Perm]):
        super().__init__((step.node, step) for step in steps)
        self.perms: dict[ir.Value, Perm] = dict(perms)
        self.factor_orders: dict[ir.Value, FactorOrder] = {}

    def perm(self, value: ir.Value | None) -> Perm:
        return None if value is None else self.perms.get(value)

    @cached_property
    def images(self) -> set[ir.Value]:
        """The values that a convolution or its kin reads, perhaps behind operators that work in any order."""
        found: set[ir.Value] = set()
        for node, step in reversed(self.items()):
            read = step.operator.layout.images(step, node.outputs[0] in found)
            found.update(value for value in read if value is not None)
        return found

    def is_image(self, value: ir.Value) -> bool:
        return value in self.images

    def reorder_readers(self, value: ir.Value, order: FactorOrder) -> bool:
        return self._apply(readers_reordered(value, order, self))

    def reorder_makers(self, value: ir.Value, order: FactorOrder) -> bool:
        return self._apply(makers_reordered(value, order, self))

    def _apply(self, changes: Changes | None) -> bool:
        if changes is None:
            return False
        self.update(changes.steps)
        self.factor_orders.update(changes.orders)
        return True
