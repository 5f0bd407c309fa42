"""The Keras model of a plan: its inputs, what `assemble` makes of them, and the weights put in. Only this file assigns
weights."""

from __future__ import annotations

import contextlib
import operator
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import onnx_ir as ir

from bridge.build.assembly import Assembly, Built, Frame, PendingLayer
from bridge.build.site import assemble, stored_dims
from bridge.graph import structure
from bridge.graph.ranges import FREE, Ranges
from bridge.keras_compat import channels_last
from bridge.keras_memory import handed_over, weights_to_come
from bridge.layers import Past
from bridge.ops.contract import Plan, Tensor
from bridge.ops.dims import require_size
from bridge.weights.entry import Entry
from bridge.weights.weight import State
from bridge.weights.weight_map import WeightMap, in_order

OPERATIONS = 20  # of Keras, at most, in a row for one node


@contextlib.contextmanager
def raised_recursion_limit(plan: Plan) -> Iterator[None]:
    """Room for Keras to walk through the model, which it does by a call within a call for each operation in a row."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + OPERATIONS * _count(plan))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def _count(plan: Plan) -> int:
    """The steps of a plan and of the graphs inside its nodes."""
    return len(plan.steps) + sum(_count(body) for step in plan.steps for body in step.bodies)


def build(
    plan: Plan, *, dtype: str | None = None, name: str = "model", outputs: Sequence[structure.Path] = ()
) -> Built:
    """Build the Keras model that `plan` describes, whatever the session's defaults are. `dtype` overrides every
    floating dtype; `outputs` say where each output is found, which otherwise are a list, or one tensor."""
    plan.require()
    with channels_last(), weights_to_come():
        return _build(plan, Assembly(dtype), name, outputs)


def _build(plan: Plan, assembly: Assembly, name: str, places: Sequence[structure.Path]) -> Built:
    frame = Frame(plan, assembly)
    pairs = [_input(frame, value) for value in plan.graph.inputs]
    outputs = assemble(frame, [limited for _, limited in pairs])
    for tensor in outputs:
        assembly.name_operations(tensor, "output")
    inputs = [given for given, _ in pairs]
    places = places or structure.listed(len(outputs))
    model = keras.Model(_one_or_all(inputs), structure.nested(places, outputs), name=assembly.name(name))
    entries = _fill(assembly.layers.values(), assembly.dtype)
    state = plan.model.meta.get("state") or State()
    return Built(
        model,
        WeightMap(in_order(entries, model.variables), state),
        assembly.made,
        frame.tensors,
        assembly.transposes,
        tuple(assembly.twins),
    )


def _one_or_all(tensors: list[Tensor]) -> Tensor | list[Tensor]:
    return tensors[0] if len(tensors) == 1 else tensors


def _input(frame: Frame, value: ir.Value) -> tuple[Tensor, Tensor]:
    """An input of the model, and the same within the limits of its sizes."""
    stored = stored_dims(value, frame.plan.signature_perms.get(value))
    tensor = frame.input(value, stored)
    return tensor, _limited(frame.plan, frame.assembly, stored, tensor)


def _limited(plan: Plan, assembly: Assembly, dims: Sequence[Any], tensor: Tensor) -> Tensor:
    """The input, an error where the graph is not good for its sizes: outside of their ranges, or between the steps of
    an axis such as 4*w."""
    enforced = Ranges.of(plan.model).enforced
    for axis, dim in enumerate(dims):
        names = [] if isinstance(dim, int) else list(dim.free_symbols())
        if len(names) != 1:
            continue
        sizes = enforced.get(names[0], FREE)
        first, second = (int(dim.evaluate({names[0]: size})) for size in (sizes.low, sizes.low + sizes.step))
        last = None if sizes.high is None else int(dim.evaluate({names[0]: sizes.high}))
        if (sizes.low, last, second - first) != (1, None, 1):
            tensor = require_size(tensor, axis, first, last, second - first)
            assembly.name_operations(tensor, f"limits_of_{names[0]}")
    return tensor


def _fill(layers: Iterable[PendingLayer], dtype: str | None) -> list[Entry]:
    """Assign the weights; every variable of the layers must get one."""
    layers = list(layers)
    entries = [entry for pending in layers for entry in _filled(pending, dtype)]
    filled = {id(entry.variable) for entry in entries}
    filling = (
        pending.layer for pending in layers if not isinstance(pending.layer, Past)
    )  # which has frames alone
    variables = (variable for layer in filling for variable in layer.variables)
    left = [v.path for v in variables if id(v) not in filled and "seed_generator" not in v.path]
    if left:
        raise ValueError(f"variables that no weight fills: {', '.join(left)}")
    return entries


def _filled(pending: PendingLayer, dtype: str | None) -> list[Entry]:
    entries = []
    for path, weight in pending.weights.items():
        variable = operator.attrgetter(path)(pending.layer)
        if tuple(variable.shape) != weight.dims:
            shape = tuple(variable.shape)
            raise ValueError(f"{variable.path} has shape {shape}, its weight {weight.dims}: {weight.recipe}")
        variable.assign(handed_over(weight.copy()) if dtype is None else weight.numpy(dtype))
        if not weight.trainable:
            variable.trainable = False
        entries.append(Entry(variable, weight, pending.layer.name, path))
    if entries and all(e.weight.is_parameter and not e.weight.trainable for e in entries):
        pending.layer.trainable = False  # not a BatchNormalization, which would stop looking at the batch
    return entries
