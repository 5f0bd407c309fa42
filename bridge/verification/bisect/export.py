"""Which call of torch its exported graph has otherwise.

The exporter writes some nodes for each call and says which. What they give together is looked for among all that torch
itself computes (`seen_by_torch.py`), whatever it calls that: the first call whose values are not there, nor those of
anything that hangs on it, is another function in the graph.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bridge.errors import NotRun, SourceError
from bridge.frontend.source import as_ir
from bridge.graph.provenance import SCOPES, source_line, torch_path
from bridge.graph.rewriting import constant
from bridge.verification.bisect.origin import EXPORT, Located, Origin, handed
from bridge.verification.bisect.single import of_node
from bridge.verification.bisect.why import rounding_of
from bridge.verification.doubt.steps import given_to
from bridge.verification.inputs.odd import nudged
from bridge.verification.metrics import Arrays, relative_error
from bridge.verification.nodes import portions
from bridge.verification.precision import ROUNDING_FACTOR
from bridge.verification.reference.as_given import values_of
from bridge.verification.runners import with_outputs
from bridge.verification.trials import varies

if TYPE_CHECKING:
    from bridge.frontend.source import Source
    from bridge.verification.trials import Trial

SAMPLES = 16  # numbers of an array that are looked at before all of them


@dataclass
class Sought:
    """What the graph gives somewhere, and how near to it torch has come."""

    node: ir.Node
    value: ir.Value
    array: np.ndarray
    floor: float
    error: float = math.inf
    nearest: np.ndarray | None = None

    def look_at(self, array: np.ndarray) -> None:
        """Whether torch's `array`, of the same shape, is it."""
        if self.error <= self.floor:
            return
        places = np.linspace(0, array.size - 1, min(array.size, SAMPLES)).astype(int)
        few = relative_error(self.array.flat[places], array.flat[places])
        if few > max(self.floor, 1.0) and self.nearest is not None:
            return
        error = relative_error(self.array, array)
        if error < self.error or self.nearest is None:
            self.error, self.nearest = error, array.copy()


def first_in_export(opened: Source, trial: Trial, limit: float) -> Located | None:
    """The call with its nodes, whose output departs; None where all are found, or the graph is not run node by node."""
    graph = as_ir(opened.given)
    try:
        sought = [
            found
            for portion in portions(_handed_on(graph), trial.sizes)
            for found in _looked_for(opened, graph, portion, trial, limit)
        ]
    except (SourceError, NotRun):
        return None
    first = _first_lost(graph, sought)
    return None if first is None else _located(graph, first, sought, trial)


def _handed_on(graph: ir.Model) -> list[tuple[ir.Node, ir.Value]]:
    """The values that calls hand on, with their nodes."""
    call_of = {node: _call(node) for node in graph.graph}
    return [
        (node, value)
        for node in graph.graph
        for value in node.outputs
        if not isinstance(value.type, ir.SequenceType | ir.OptionalType)
        if value.is_graph_output() or any(call_of.get(user) != call_of[node] for user in value.consumers())
    ]


def _call(node: ir.Node) -> str:
    """The name of the call of torch that a node was written for; of another node its own."""
    scopes = node.metadata_props.get(SCOPES)
    return ast.literal_eval(scopes)[-1] if scopes else str(node.outputs[0].name)


def _fixed(node: ir.Node) -> bool:
    """Whether it only makes a constant another one, as torch does of numbers that it has as no tensor."""
    return all(constant(value) is not None for value in node.inputs if value is not None)


def _looked_for(
    opened: Source, graph: ir.Model, portion: Sequence[tuple[ir.Node, ir.Value]], trial: Trial, limit: float
) -> list[Sought]:
    """Those of a portion that are numbers and vary, each with what of torch comes nearest."""
    from bridge.verification.bisect.seen_by_torch import watch

    names = [str(value.name) for _, value in portion]
    held, moved = (
        values_of(graph, names, inputs, trial.dtype) for inputs in (trial.inputs, nudged(trial.inputs))
    )
    sought = [
        Sought(
            node,
            value,
            x,
            max(limit, ROUNDING_FACTOR * error) if math.isfinite(error := relative_error(y, x)) else limit,
        )
        for (node, value), x, y in zip(portion, held, moved, strict=True)
        if isinstance(x, np.ndarray)
        and x.dtype.kind == "f"
        and varies(x)
        and not (x.size == 1 and _fixed(node))
    ]
    by_shape: dict[tuple[int, ...], list[Sought]] = {}
    for one in sought:
        by_shape.setdefault(one.array.shape, []).append(one)

    def see(array: np.ndarray) -> None:
        for one in by_shape.get(array.shape, ()):
            one.look_at(array)

    assert opened.torch is not None
    watch(opened.torch, trial.inputs, see)
    for one in sought:
        one.array = np.empty(0)  # which has been looked for
    return sought


def _first_lost(graph: ir.Model, sought: Sequence[Sought]) -> Sought | None:
    """The first that torch has not, and that nothing is computed of that it has. What the graph only turns is it where
    nothing else is: torch may lay it out otherwise."""
    fine = {one.value for one in sought if one.error <= one.floor}
    for node in reversed(list(graph.graph)):
        if any(value in fine for value in node.outputs):
            fine.update(value for value in node.inputs if value is not None)
    lost = [one for one in sought if one.value not in fine]
    return next((one for one in lost if one.node.op_type != "Transpose"), lost[0] if lost else None)


def _located(graph: ir.Model, first: Sought, sought: Sequence[Sought], trial: Trial) -> Located:
    node, call = first.node, _call(first.node)
    of_call = [other for other in graph.graph if _call(other) == call]
    errors = {one.value: one.error for one in sought} | dict.fromkeys(graph.graph.inputs, 0.0)
    read = dict.fromkeys(v for other in of_call for v in given_to(other) if v.producer() not in of_call)
    shown = with_outputs(graph, [first.value.name])
    origin = Origin(
        EXPORT, node.op_type, str(first.value.name), torch_path(node), source_line(node), (), trial.check("", 0.0).at,
        first.error, first.floor, handed(read, errors.get),
        tuple(str(other.outputs[0].name) for other in of_call), rounding=rounding_of(shown, trial.inputs),
    )  # fmt: skip
    wanted: Arrays = [] if first.nearest is None else [first.nearest]
    return Located(origin, of_node(graph, node, trial, wanted))
