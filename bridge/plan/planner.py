"""What becomes what, before anything is built: the nodes needed, what their inputs are, the order of every value's
axes, and the list of refusals. Pure: nothing here knows Keras.

Axis order. A value's `perm` says how its axes are stored: stored axis i is the value's axis perm[i]; `None` is as
stated. The planner walks from step to step; each operator's layout (`bridge/ops/layouts.py`) chooses the orders of its
operands and outputs. Where a consumer needs another order than a value has, the build inserts one transpose, shared by
all such consumers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from bridge.errors import Refusal
from bridge.graph.axes import Perm, channels_behind
from bridge.graph.few_bits import CARRIERS
from bridge.graph.shapes import rank, shape_of
from bridge.ops.contract import TYPES, Plan, Step
from bridge.plan.operands import needed_steps
from bridge.plan.steps import Steps


@dataclass(frozen=True)
class Scope:
    """What a graph stands in: the model, and the orders of the values outside of it that its nodes may read."""

    model: ir.Model
    perms: Mapping[ir.Value, Perm] = field(default_factory=dict)


def plan(model: ir.Model, *, channels_last: bool = False) -> Plan:
    """Plan the build of `model`, which `passes.simplify` has seen.

    With `channels_last`, inputs that a convolution reads and outputs that one gives have their channels last; which
    ones is in `Plan.signature_perms`. Otherwise all are as the graph states them.
    """
    return plan_graph(model.graph, Scope(model), channels_last=channels_last)


def plan_graph(graph: ir.Graph, scope: Scope, *, channels_last: bool = False) -> Plan:
    """Plan the build of `graph`: that of the model, or the body of a node in it."""
    refusals = [
        Refusal("input", str(value.name), reason) for value in graph.inputs if (reason := _no_input(value))
    ]
    if refusals:
        return Plan(scope.model, graph, refusals=refusals)
    needed = needed_steps(graph, refusals)
    refusals += [
        Refusal("output", str(value.name), f"Keras has no type {value.dtype}; cast it before it is given")
        for value in graph.outputs
        if value.dtype in CARRIERS
    ]
    if not all(map(_is_known, needed)):
        return Plan(scope.model, graph, needed, refusals=refusals or [_unknown(needed)])
    misplaced = [
        step.refusal(reason) for step in needed if (reason := _no_axes(step) or _free_features(step))
    ]
    if misplaced:
        return Plan(scope.model, graph, needed, refusals=refusals + misplaced)
    steps = Steps(needed, scope.perms)
    wanted = _channels_last(graph.inputs, steps) if channels_last else {}
    steps.perms |= wanted
    for step in needed:
        refusals += _lay_out(step.node, steps, scope.model)
    if channels_last:
        given = {value: steps.perm(value) for value in graph.outputs}
        wanted |= {
            value: perm for value, perm in given.items() if perm and perm == channels_behind(len(perm))
        }
    return Plan(scope.model, graph, list(steps.values()), steps.perms, refusals, wanted, steps.factor_orders)


def _lay_out(node: ir.Node, steps: Steps, model: ir.Model) -> list[Refusal]:
    """Choose the order of every operand and output of a step, and plan the graphs inside it; what stands in the way."""
    step = _with_bodies(steps[node], Scope(model, steps.perms))
    steps[node] = step = step.operator.layout.arrange(step, steps)
    steps.perms.update(zip(node.outputs, step.perms, strict=True))
    reason = step.operator.check(step) if step.operator.check else None
    inside = [refusal for body in step.bodies for refusal in body.refusals]
    return inside + ([step.refusal(reason)] if reason else [])


def _with_bodies(step: Step, scope: Scope) -> Step:
    """The step, each graph among its attributes planned."""
    bodies = {
        name: plan_graph(graph, scope)
        for name, graph in step.attributes.items()
        if isinstance(graph, ir.Graph)
    }
    return replace(step, attributes={**step.attributes, **bodies}) if bodies else step


def _channels_last(values: Iterable[ir.Value], steps: Steps) -> dict[ir.Value, Perm]:
    return {value: channels_behind(rank(value)) for value in values if steps.is_image(value)}


# --- what stands in the way of any plan --------------------------------------------------------------------------


def _is_known(step: Step) -> bool:
    """Whether the number of axes is known of all that the step reads and gives."""
    given = [value for index, value in enumerate(step.node.outputs) if step.used(index)]
    return all(value is None or value.shape is not None for value in [*step.node.inputs, *given])


def _unknown(steps: list[Step]) -> Refusal:
    step = next(step for step in steps if not _is_known(step))
    return step.refusal(step.operator.unknown)


def _no_axes(step: Step) -> str | None:
    """Why the axes that `step` names are none, or None."""
    axes, inputs = step.axes, step.node.inputs
    if axes is None or not inputs or inputs[0] is None:
        return None
    wide = max(rank(value) for value in (inputs[0], *step.node.outputs[:1]))
    if not all(-max(wide, 1) <= axis < max(wide, 1) for axis in axes):
        return f"its axes {axes} are not all among the {wide} that there are"
    if len({axis % max(wide, 1) for axis in axes}) < len(axes):
        return f"its axes {axes} name one twice"
    return None


def _free_features(step: Step) -> str | None:
    """Why a product with a parameter has not the size that the parameter has, or None. A size that is known by its name
    alone is what the parameter says; one that is worked out from free axes would be so at some of their sizes only."""
    features = step.shape()[step.feature_axis] if step.operator.units else None
    if features is None or isinstance(features, int) or _is_name(features):
        return None
    for parameter, operand in zip(step.operator.inputs, step.operands, strict=False):
        axis = step.operator.features.get(parameter.name)
        if axis is None or operand.value is None or operand.is_tensor:
            continue
        return (
            f"its weights are for {shape_of(operand.value)[axis]} numbers, and how many it is given is free: "
            f"{features}; fix the axes that this is about (leave them out of dynamic_shapes), or make them one "
            f"size before, as by a pool"
        )
    return None


def _is_name(dim: ir.SymbolicDim) -> bool:
    return dim.value is None or dim.value.isidentifier()


def _no_input(value: ir.Value) -> str | None:
    """Why no Keras input can stand for `value`, or None."""
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        return f"is no tensor but a {type(value.type).__name__.removesuffix('Type').lower()}"
    if value.shape is None:
        return "its number of axes is not known"
    return (
        None
        if value.dtype is None or value.dtype.numpy().name in TYPES
        else f"Keras has no type {value.dtype}"
    )
