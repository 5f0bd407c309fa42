"""Which call of torch its exported graph has otherwise.

The exporter writes some nodes for each call and says which. What they give together is looked for among all that torch
itself computes (`seen_by_torch.py`), whatever it calls that: the first call whose values are not there, nor those of
anything that hangs on it, is another function in the graph.
"""

from __future__ import annotations

import ast
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bridge.errors import NotRun, SourceError
from bridge.frontend.source import as_ir
from bridge.graph.provenance import SCOPES, source_line, torch_path
from bridge.verification.bisect.origin import EXPORT, Located, Origin, handed, with_makers
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
    from bridge.frontend.torch.module import Torch
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
    return None if first is None else _located(opened, graph, first, sought, trial)


def _handed_on(graph: ir.Model) -> list[tuple[ir.Node, ir.Value]]:
    """The values that calls hand on, with their nodes."""
    call_of, fed = {node: _call(node) for node in graph.graph}, _fed(graph)
    return [
        (node, value)
        for node in graph.graph
        for value in node.outputs
        if value in fed and not isinstance(value.type, ir.SequenceType | ir.OptionalType)
        if value.is_graph_output() or any(call_of.get(user) != call_of[node] for user in value.consumers())
    ]


def _call(node: ir.Node) -> str:
    """The name of the call of torch that a node was written for; of another node its own."""
    scopes = node.metadata_props.get(SCOPES)
    return ast.literal_eval(scopes)[-1] if scopes else str(node.outputs[0].name)


def _fed(graph: ir.Model) -> set[ir.Value]:
    """The values that hang on an input. Of constants alone the graph may make what torch has nowhere, such as the parts
    of a packed weight: what reads them is what can be compared."""
    fed = set(graph.graph.inputs)
    for node in graph.graph:
        if any(value in fed for value in given_to(node)):
            fed.update(node.outputs)
    return fed


def _looked_for(
    opened: Source, graph: ir.Model, portion: Sequence[tuple[ir.Node, ir.Value]], trial: Trial, limit: float
) -> list[Sought]:
    """Those of a portion that are numbers and vary, each with what of torch comes nearest, and with the floor that the
    rounding of that sets: what the last bits of the inputs move it by."""
    assert opened.torch is not None
    arrays = values_of(graph, [str(value.name) for _, value in portion], trial.inputs, trial.dtype)
    sought = [
        Sought(node, value, x, limit)
        for (node, value), x in zip(portion, arrays, strict=True)
        if isinstance(x, np.ndarray) and x.dtype.kind == "f" and varies(x)
    ]
    _look(opened.torch, trial.inputs, sought)
    away = [one for one in sought if one.error > limit and one.nearest is not None]
    moved = [Sought(one.node, one.value, one.nearest, 0.0) for one in away if one.nearest is not None]
    if moved:
        _look(opened.torch, nudged(trial.inputs), moved)
    for one, other in zip(away, moved, strict=True):
        if math.isfinite(other.error):
            one.floor = max(limit, ROUNDING_FACTOR * other.error)
    for one in sought:
        one.array, one.nearest = np.empty(0), None  # of what has been looked for
    return sought


def _look(reference: Torch, inputs: Arrays, sought: Sequence[Sought]) -> None:
    """Look for `sought` among all that torch computes of `inputs`."""
    from bridge.verification.bisect.seen_by_torch import watch

    by_shape = defaultdict[tuple[int, ...], list[Sought]](list)
    for one in sought:
        by_shape[one.array.shape].append(one)

    def see(array: np.ndarray) -> None:
        for one in by_shape.get(array.shape, ()):
            one.look_at(array)

    watch(reference, inputs, see)


def _first_lost(graph: ir.Model, sought: Sequence[Sought]) -> Sought | None:
    """The first that torch has not, and that nothing is computed of that it has. What the graph only turns is it where
    nothing else is: torch may lay it out otherwise."""
    fine = {one.value for one in sought if one.error <= one.floor}
    for node in reversed(list(graph.graph)):
        if any(value in fine for value in node.outputs):
            fine.update(value for value in node.inputs if value is not None)
    lost = [one for one in sought if one.value not in fine]
    return next((one for one in lost if one.node.op_type != "Transpose"), lost[0] if lost else None)


def _nodes_of(graph: ir.Model, call: str) -> list[ir.Node]:
    """The nodes of a call, and those that make what it is given of constants alone."""
    fed = _fed(graph)
    return with_makers((node for node in graph.graph if _call(node) == call), lambda value: value not in fed)


def _located(
    opened: Source, graph: ir.Model, first: Sought, sought: Sequence[Sought], trial: Trial
) -> Located:
    node = first.node
    of_call = _nodes_of(graph, _call(node))
    errors = {one.value: one.error for one in sought} | dict.fromkeys(graph.graph.inputs, 0.0)
    read = dict.fromkeys(v for other in of_call for v in given_to(other) if v.producer() not in of_call)
    shown = with_outputs(graph, [first.value.name])
    origin = Origin(
        EXPORT, node.op_type, str(first.value.name), torch_path(node), source_line(node), (), trial.check("", 0.0).at,
        first.error, first.floor, handed(read, errors.get),
        tuple(str(other.outputs[0].name) for other in of_call), rounding=rounding_of(shown, trial.inputs),
    )  # fmt: skip
    assert opened.torch is not None
    first.array, first.error = values_of(graph, [first.value.name], trial.inputs, trial.dtype)[0], math.inf
    _look(opened.torch, trial.inputs, [first])
    wanted: Arrays = [] if first.nearest is None else [first.nearest]
    return Located(origin, of_node(graph, node, trial, wanted))
