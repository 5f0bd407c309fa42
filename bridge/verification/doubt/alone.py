"""Single nodes that depart, each run again on exactly what onnxruntime's was given: it is wrong if it then gives
something else; if none is, rounding decided (a tie that only rounding breaks, a peaked softmax of large numbers)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import onnx
import onnx_ir as ir

from bridge.build.assembly import Built
from bridge.errors import NotRun, SourceError
from bridge.frontend.source import as_ir, as_proto
from bridge.graph.rewriting import numpy_type
from bridge.ops.contract import Plan
from bridge.verification.doubt.steps import given_to, model_of_one_node, read_by, self_contained
from bridge.verification.doubt.sure import HUGE, still_decided
from bridge.verification.doubt.undefined import choices
from bridge.verification.inputs.odd import NUDGED, nudged
from bridge.verification.metrics import Arrays, elements_at, worst_error
from bridge.verification.nodes import keras_values, node_errors, onnx_values
from bridge.verification.precision import ROUNDING_FACTOR
from bridge.verification.reference.as_given import Evaluator, Runner, as_given, in_float64
from bridge.verification.trials import Trial


def excused(plan: Plan, built: Built, trial: Trial, limit: float) -> bool:
    """Whether nodes depart, and each of them is right about what it was given."""
    errors = node_errors(plan, built, trial)
    departed = [step.node for step in plan.steps if not errors.get(step.node, 0.0) <= limit]
    return bool(departed) and not any(_at_fault(plan, built, node, trial, limit) for node in departed)


@dataclass(frozen=True)
class Again:
    """A node by itself, on what it is given in Keras: its model, what Keras makes of it, and onnxruntime."""

    model: ir.Model | onnx.ModelProto
    given: Sequence[ir.Value]
    arrays: Arrays  # that they hold
    ours: Arrays
    theirs: Arrays
    run: Runner

    @classmethod
    def of(cls, plan: Plan, built: Built, node: ir.Node, trial: Trial) -> Again:
        """Raises `SourceError` and `NotRun` where nothing runs the node alone."""
        given = given_to(node)
        made = [v for v in node.outputs if isinstance(built.tensors.get(v), keras.KerasTensor)]
        arrays = _held(plan, built, given, trial)
        ours = _as_stated(plan, made, keras_values(plan, built, made, trial))
        types = {v: v.dtype for v in given if v.dtype is not None}
        model = self_contained(model_of_one_node(plan.model, node, types, made))
        run = as_given(model, arrays)[0] if trial.dtype != "float64" else in_float64(as_ir(model))
        return cls(model, given, arrays, ours, run(arrays), run)


def _at_fault(plan: Plan, built: Built, node: ir.Node, trial: Trial, limit: float) -> bool:
    """Whether onnxruntime gives something else than Keras for the inputs that `node` has in Keras."""
    again = Again.of(plan, built, node, trial)
    arrays, ours, theirs = again.arrays, again.ours, again.theirs
    if trial.odd in NUDGED:
        limit = max(limit, ROUNDING_FACTOR * worst_error(again.run(nudged(arrays)), theirs))
    decided = _decided(node, again)
    if worst_error(elements_at(ours, decided), elements_at(theirs, decided)) <= limit:
        return False
    numbers = [np.abs(x).max(initial=0) for x in arrays if x.dtype.kind == "f"]  # NaN where there is one
    if all(float(number) < HUGE for number in numbers):
        return True
    if all(np.isfinite(numbers)):
        return False
    places = decided if trial.torch is not None else _defined(again, decided)
    return worst_error(elements_at(ours, places), elements_at(theirs, places)) > limit


def _decided(node: ir.Node, again: Again) -> Arrays:
    """Where what `node` makes hangs on nothing that is left open."""
    held = dict(zip(again.given, again.arrays, strict=True))
    read = read_by(node)
    places = {place: held[value] for place, value in enumerate(read) if value in held}
    first = [read.index(value) for value in again.given]
    made = again.theirs
    others = choices(node, places, made, lambda inputs: again.run([inputs[place] for place in first]))
    decided = [np.ones(x.shape, bool) for x in made]
    for other in others:
        decided = still_decided(decided, made, other)
    return decided


def _defined(again: Again, decided: Arrays) -> Arrays:
    """Where of what is `decided` ONNX's reference evaluator gives what onnxruntime does: what NaN and infinities make
    is there no choice of a library."""
    try:
        made = Evaluator(as_proto(again.model))(again.arrays)
        return still_decided(decided, again.theirs, made, jump=True)
    except (SourceError, NotRun):  # the evaluator lacks the operator, or fails at such numbers
        return [np.zeros_like(places) for places in decided]


def _held(plan: Plan, built: Built, values: list[ir.Value], trial: Trial) -> Arrays:
    """What `values` hold in Keras, as the graph states them; in onnxruntime where Keras has no tensor for them."""
    inputs = dict(zip(plan.model.graph.inputs, trial.inputs, strict=True))
    ours = [v for v in values if v not in inputs and isinstance(built.tensors.get(v), keras.KerasTensor)]
    theirs = [v for v in values if v not in inputs and v not in ours]
    held = inputs | dict(
        zip(ours, _as_stated(plan, ours, keras_values(plan, built, ours, trial)), strict=True)
    )
    held |= dict(zip(theirs, onnx_values(plan, theirs, trial) if theirs else [], strict=True))
    return [held[value].astype(numpy_type(value)) for value in values]


def _as_stated(plan: Plan, values: list[ir.Value], arrays: Arrays) -> Arrays:
    """What Keras stores, in the order in which the graph states it."""
    return [_stated(plan, value, array) for value, array in zip(values, arrays, strict=True)]


def _stated(plan: Plan, value: ir.Value, array: np.ndarray) -> np.ndarray:
    perm = plan.perms.get(value)
    shape = array.shape if perm is None else tuple(array.shape[i] for i in np.argsort(perm))
    places = plan.stored(value, np.arange(array.size).reshape(shape))
    stated = np.empty(array.size, array.dtype)
    stated[places.reshape(-1)] = array.reshape(-1)
    return stated.reshape(shape)
