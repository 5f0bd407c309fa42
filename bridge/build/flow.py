"""Which rows of the record read which: the graph of what was built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from bridge.build.assembly import LayerRecord
    from bridge.ops.contract import Plan, Step


@dataclass(frozen=True)
class Flow:
    """Of every row the places of those that it reads, inputs of the model as -1, -2, …; of every output of the model
    the place of the row that gives it, if one does."""

    reads: list[tuple[int, ...]]
    outputs: list[int | None]


def flow(plan: Plan, made: Sequence[LayerRecord]) -> Flow:
    """Of rows of the same node each reads the one before."""
    places: dict[ir.Node, list[int]] = {}
    for place, record in enumerate(made):
        places.setdefault(record.node, []).append(place)
    came: dict[ir.Value, tuple[int, ...]] = {
        value: (-1 - index,) for index, value in enumerate(plan.graph.inputs)
    }
    reads: list[tuple[int, ...]] = [()] * len(made)
    for step in _steps(plan):
        tensors = [operand.value for operand in step.operands if operand.is_tensor]
        sources = tuple(dict.fromkeys(place for value in tensors if value for place in came.get(value, ())))
        for place in places.get(step.node, ()):
            reads[place], sources = sources, (place,)
        came |= dict.fromkeys(step.node.outputs, sources)
    givers = (max(came.get(value, ()), default=-1) for value in plan.graph.outputs)
    return Flow(reads, [place if place >= 0 else None for place in givers])


def _steps(plan: Plan) -> Iterator[Step]:
    for step in plan.steps:
        for body in step.bodies:
            yield from _steps(body)
        yield step
