"""Which node Keras has otherwise than the simplified graph: in the order in which they run, the first that is wrong
about what it is given; where none is, the first that departs, which is rounding's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import onnx_ir as ir

from bridge.errors import BridgeError, NotRun
from bridge.frontend.source import as_ir, as_proto
from bridge.graph.provenance import source_line
from bridge.verification.bisect.origin import BUILD, FORMULA, Located, Origin, handed
from bridge.verification.bisect.reproducer import Reproducer
from bridge.verification.bisect.why import rounding_of
from bridge.verification.doubt.alone import Again
from bridge.verification.doubt.steps import given_to
from bridge.verification.metrics import worst_error
from bridge.verification.nodes import first_unrun, node_errors

if TYPE_CHECKING:
    from bridge.build.assembly import Built
    from bridge.ops.contract import Plan, Step
    from bridge.verification.trials import Trial

LOOKED_AT = 8  # nodes that depart, each run by itself


def first_in_keras(
    plan: Plan, built: Built, trial: Trial, limit: float, before: Step | None = None
) -> Located | None:
    """The node with its reproducer; None where none departs by more than `limit`, of those `before` one if that does
    not run. Raises `SourceError` where nothing runs the graph."""
    errors = node_errors(plan, built, trial, before)
    departed = [step for step in plan.steps if not errors.get(step.node, 0.0) <= limit]
    first: Located | None = None
    for step in departed[:LOOKED_AT]:
        found = _examined(plan, built, step, trial, limit, errors)
        if found.origin.why == FORMULA:
            return found
        first = first or found
    return first


def unrun_in_keras(plan: Plan, built: Built, trial: Trial, limit: float) -> Located | None:
    """The first node that Keras does not run, or which departs before that."""
    step = first_unrun(plan, built, trial)
    if step is None:
        return None
    departs = first_in_keras(plan, built, trial, limit, step)
    return departs or Located(_origin(built, step, trial, math.inf, 0.0))


def layers_of(built: Built, node: ir.Node) -> tuple[str, ...]:
    """The names of the Keras layers that a node became."""
    return tuple(dict.fromkeys(made.name for made in built.made if made.node is node and made.name))


def _origin(built: Built, step: Step, trial: Trial, error: float, floor: float, **more: Any) -> Origin:
    node, at = step.node, trial.check("", 0.0).at
    output, path = str(node.outputs[0].name), step.path or node.name or ""
    where = path, source_line(node), layers_of(built, node), at
    return Origin(BUILD, node.op_type, output, *where, error, floor, **more)


def _examined(
    plan: Plan, built: Built, step: Step, trial: Trial, limit: float, errors: Mapping[ir.Node, float]
) -> Located:
    """A node that departs, as far as it can be run by itself."""
    inputs = handed(given_to(step.node), lambda read: _error(read, errors))
    try:
        again = Again.of(plan, built, step.node, trial)
    except (BridgeError, NotRun):
        return Located(_origin(built, step, trial, errors[step.node], limit, inputs=inputs))
    alone = worst_error(again.ours, again.theirs)
    own = rounding_of(as_ir(again.model), again.arrays)
    origin = _origin(built, step, trial, errors[step.node], limit, inputs=inputs, alone=alone, rounding=own)
    arrays = {str(value.name): x for value, x in zip(again.given, again.arrays, strict=True)}
    layers = [layer for layer in built.model.layers if layer.name in origin.layers]
    configs = tuple(keras.saving.serialize_keras_object(layer) for layer in layers)
    node = as_proto(again.model).SerializeToString()
    return Located(origin, Reproducer(node, arrays, again.theirs, again.ours, configs))


def _error(value: ir.Value, errors: Mapping[ir.Node, float]) -> float | None:
    """That of the node that makes a value; an input has none."""
    producer = value.producer()
    return 0.0 if producer is None else errors.get(producer)
