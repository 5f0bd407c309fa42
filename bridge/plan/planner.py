"""What becomes what, before anything is built: the nodes needed, what their inputs are, the order of every value's
axes, and the list of refusals. Pure: nothing here knows Keras.

Axis order. A value's `perm` says how its axes are stored: stored axis i is the value's axis perm[i]; `None` is as
stated. A convolution wants channels last and gives it; most operators work in whatever order they get, their axis
numbers renumbered here; a Transpose in the graph only changes a perm. Where a consumer needs another order than a
value has, the build inserts one transpose, shared by all such consumers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.errors import Refusal, UnsupportedError
from bridge.graph.axes import FactorOrder, Perm, channels_behind, moves, plain, reshaped
from bridge.graph.decimals import number
from bridge.graph.provenance import refusal
from bridge.graph.shapes import symbolic_contents
from bridge.ops.contract import TYPES, Kind, Layout, Operand, Step
from bridge.ops.registry import find
from bridge.weights.weight import Weight

UNKNOWN = "no builder for this operator (`bridge ops` lists what there is)"
NESTED = (
    "which graph inside it runs, or how often, is known only when it runs, and a Keras model has one graph; fix what "
    "it depends on, such as sizes"
)


class Steps(dict[ir.Node, Step]):
    """The steps by their nodes, in order; and the values that are stored mixed, as far as they are laid out."""

    def __init__(self, steps: Iterable[Step]):
        super().__init__((step.node, step) for step in steps)
        self.factor_orders: dict[ir.Value, FactorOrder] = {}

    @cached_property
    def images(self) -> set[ir.Value]:
        """The values that a convolution or its kin reads, perhaps behind operators that work in any order."""
        found: set[ir.Value] = set()
        for node, step in reversed(self.items()):
            layout = step.operator.layout
            behind = (
                layout in (Layout.ANY, Layout.FIRST) and node.outputs[0] in found and len(node.outputs) == 1
            )
            read = node.inputs if layout is Layout.ANY else node.inputs[:1]
            for value in (value for value in read if value is not None):
                if layout is Layout.CHANNELS_LAST or behind and _rank(value) == _rank(node.outputs[0]):
                    found.add(value)
        return found


@dataclass
class Plan:
    """Steps in the order of building, the axis order of every value, and what stands in the way."""

    model: ir.Model
    steps: list[Step]
    perms: dict[ir.Value, Perm]
    refusals: list[Refusal]
    # inputs and outputs not in the order of the signature
    signature_perms: dict[ir.Value, Perm] = field(default_factory=dict)
    # values whose elements along an axis are reordered
    factor_orders: dict[ir.Value, FactorOrder] = field(default_factory=dict)

    def stored(self, value: ir.Value, array: np.ndarray) -> np.ndarray:
        """`array`, which is `value` as the graph states it, in the order in which the build stores it."""
        mix, perm = self.factor_orders.get(value), self.perms.get(value)
        mixed = array if mix is None else mix.apply(array, mix.axis)
        return mixed if perm is None else mixed.transpose(perm)

    def require(self) -> Plan:
        """Raise `UnsupportedError` with all refusals, if there are any."""
        if self.refusals:
            raise UnsupportedError(self.refusals)
        return self


def plan(model: ir.Model, *, channels_last: bool = False) -> Plan:
    """Plan the build of `model`, which `passes.simplify` has seen.

    With `channels_last`, inputs that a convolution reads and outputs that one gives have their channels last; which
    ones is in `Plan.signature_perms`. Otherwise all are as the graph states them.
    """
    refusals = [
        Refusal("input", value.name, reason) for value in model.graph.inputs if (reason := _no_input(value))
    ]
    if refusals:
        return Plan(model, [], {}, refusals)
    steps = _needed_steps(model.graph, refusals)
    if not all(map(_is_known, steps)):
        return Plan(model, steps, {}, refusals or [_unknown(steps)])
    misplaced = [step.refusal(reason) for step in steps if (reason := _no_axes(step) or _free_features(step))]
    if misplaced:
        return Plan(model, steps, {}, refusals + misplaced)
    by_node = Steps(steps)
    perms: dict[ir.Value, Perm] = {}
    if channels_last:
        perms |= {v: channels_behind(_rank(v)) for v in model.graph.inputs if v in by_node.images}
    signature_perms = dict(perms)
    for step in steps:
        _lay_out(step, perms, by_node)
        reason = step.operator.check(step) if step.operator.check else None
        if reason:
            refusals.append(step.refusal(reason))
    if channels_last:
        given = {value: perms.get(value) for value in model.graph.outputs}
        signature_perms |= {
            value: perm for value, perm in given.items() if perm and perm == channels_behind(len(perm))
        }
    return Plan(model, steps, perms, refusals, signature_perms, by_node.factor_orders)


def _is_known(step: Step) -> bool:
    """Whether the number of axes is known of all that the step reads and gives."""
    given = [value for index, value in enumerate(step.node.outputs) if step.used(index)]
    return all(value is None or value.shape is not None for value in [*step.node.inputs, *given])


def _unknown(steps: list[Step]) -> Refusal:
    step = next(step for step in steps if not _is_known(step))
    return refusal(step.node, "how many axes its inputs and outputs have is not known")


def _no_axes(step: Step) -> str | None:
    """Why the axes that `step` names are none, or None."""
    axes = _axes(step)
    if axes is None or not step.node.inputs or step.node.inputs[0] is None:
        return None
    rank = max(_rank(value) for value in (step.node.inputs[0], *step.node.outputs[:1]))
    if not all(-max(rank, 1) <= axis < max(rank, 1) for axis in axes):
        return f"its axes {axes} are not all among the {rank} that there are"
    if len({axis % max(rank, 1) for axis in axes}) < len(axes):
        return f"its axes {axes} name one twice"
    return None


def _free_features(step: Step) -> str | None:
    """Why a product with a parameter has not the size that the parameter has, or None."""
    if not step.operator.units:
        return None
    features = step.shape()[_feature_axis(step)]
    for parameter, operand in zip(step.operator.inputs, step.operands, strict=False):
        axis = step.operator.features.get(parameter.name)
        if axis is not None and operand.known is not None and not isinstance(features, int):
            return (
                f"its weights are for {operand.known.dims[axis]} numbers, and how many it is given is free: "
                f"{features}; fix the axes that this is about (leave them out of dynamic_shapes), or make them one "
                f"size before, as by a pool"
            )
    return None


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


# --- nodes and their operands ------------------------------------------------------------------------------------


def _needed_steps(graph: ir.Graph, refusals: list[Refusal]) -> list[Step]:
    """Steps for the nodes that outputs depend on as tensors; shape arithmetic that is only read is left out."""
    steps: dict[ir.Node, Step] = {}
    wanted = [value.producer() for value in graph.outputs]
    seen: set[ir.Node | None] = {None}
    while wanted:
        node = wanted.pop()
        if node in seen:
            continue
        seen.add(node)
        step = _step(node, refusals)
        if step is None:
            wanted += [
                value.producer() for value in node.inputs if value is not None and value.const_value is None
            ]
            continue
        steps[node] = step
        wanted += [operand.value.producer() for operand in step.operands if operand.is_tensor]
    return [steps[node] for node in graph if node in steps]


def _nests(node: ir.Node) -> bool:
    return any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values())


def _step(node: ir.Node, refusals: list[Refusal]) -> Step | None:
    operator = find(node.domain, node.op_type)
    if operator is None:
        refusals.append(refusal(node, NESTED if _nests(node) else UNKNOWN))
        return None
    reasons: list[str] = []
    operands = []
    for index, value in enumerate(node.inputs):
        parameter = operator.parameter(index)
        if parameter is None:
            if value is not None:
                reasons.append(f"input {index} is not handled")
            continue
        operand = _operand(value, parameter.kind)
        if operand is None:
            name = node.inputs[index].name
            kind = parameter.kind.value
            reasons.append(f"input {parameter.name} ({name}) has to be {kind} and is computed at run time")
            continue
        operands.append(operand)
    attributes = {}
    for name, attribute in node.attributes.items():
        if name not in operator.attributes:
            reasons.append(f"attribute {name} is not handled")
        elif attribute.value is not None:
            attributes[name] = (
                number(attribute.value) if attribute.type == ir.AttributeType.FLOAT else attribute.value
            )
    if reasons:
        refusals.append(refusal(node, "; ".join(reasons)))
        return None
    return Step(node, operator, operands, attributes)


def _operand(value: ir.Value | None, kind: Kind) -> Operand | None:
    """What the builder gets for `value`; None if it cannot be had in that kind."""
    if value is None:
        return Operand(None, kind)
    tensor = ir.convenience.get_const_tensor(value)
    if kind is Kind.DIMS:
        dims = symbolic_contents(value)
        return None if dims is None else Operand(value, kind, dims)
    if tensor is None:
        return None if kind.known else Operand(value, kind)
    if kind is Kind.INTS:
        return Operand(value, kind, tensor.numpy().tolist())
    if kind is Kind.ARRAY:
        return Operand(value, kind, tensor.numpy())
    if isinstance(tensor, Weight) and (kind is not Kind.TENSOR or tensor.is_parameter):
        return Operand(value, kind, tensor)
    if kind is Kind.WEIGHT:
        return None
    return Operand(value, Kind.ARRAY, tensor.numpy())


# --- the order of axes -------------------------------------------------------------------------------------------


def _rank(value: ir.Value) -> int:
    if value.shape is None:
        raise UnsupportedError([refusal(value.producer(), f"the rank of {value.name} is not known")])
    return value.shape.rank()


def _lay_out(step: Step, perms: dict[ir.Value, Perm], steps: Steps) -> None:
    """Choose the order of every operand and output of `step`, and renumber its axes."""
    layout = step.operator.layout
    outputs = step.node.outputs
    if layout is Layout.RENAMES:
        source = step.operands[0].value
        stored = perms.get(source) or tuple(range(_rank(source)))
        moved = _permutation(step)
        step.operands[0] = _ordered(step.operands[0], plain(stored))
        step.perms = [plain([moved.index(axis) for axis in stored])]
    elif layout is Layout.CHANNELS_LAST:
        step.operands[0] = _ordered(step.operands[0], channels_behind(_rank(step.operands[0].value)))
        step.perms = [channels_behind(_rank(value)) for value in outputs]
    elif layout is Layout.HEADS:
        mask = step.operator.inputs.index(next(p for p in step.operator.inputs if "mask" in p.name))
        step.operands = [
            _ordered(o, _heads(o.value) if i != mask else None) for i, o in enumerate(step.operands)
        ]
        step.perms = [_heads(value) for value in outputs]
    elif layout is Layout.RESHAPES:
        perm, out = _regroup(step, perms, steps)
        step.operands[0] = _ordered(step.operands[0], perm)
        step.perms = [out]
    elif layout in (Layout.ANY, Layout.FIRST):
        _carry(step, perms, steps)
    elif layout is Layout.PRODUCT and _same_batch(step):
        a, b = (perms.get(operand.value) for operand in step.operands)
        step.operands = [_ordered(operand, perm) for operand, perm in zip(step.operands, (a, b), strict=True)]
        step.perms = [
            b if a is None else None
        ]  # attention's: scores as stated, and what they weigh as it came
    elif layout in (Layout.LAST, Layout.PRODUCT):
        perm = perms.get(step.operands[0].value)
        beside = any(operand.is_tensor and _rank(operand.value) > 1 for operand in step.operands[1:])
        perm = None if perm is None or beside or perm[-1] != len(perm) - 1 else perm
        step.operands = [_ordered(o, perm if i == 0 else None) for i, o in enumerate(step.operands)]
        step.perms = [perm if _rank(value) == len(perm or ()) else None for value in outputs]
    else:
        step.perms = [None] * len(outputs)
    perms.update(zip(outputs, step.perms, strict=True))


def _permutation(step: Step) -> list[int]:
    """The permutation of a Transpose; without one it turns the axes around."""
    return list(step.argument("perm") or range(_rank(step.node.inputs[0]))[::-1])


def _same_batch(step: Step) -> bool:
    """Whether two tensors are multiplied, matrix by matrix."""
    a, b = (list(value.shape) for value in step.node.inputs)
    return all(operand.is_tensor for operand in step.operands) and len(a) == len(b) > 1 and a[:-2] == b[:-2]


def _heads(value: ir.Value | None) -> Perm:
    return (0, 2, 1, 3) if value is not None and _rank(value) == 4 else None


def _ordered(operand: Operand, perm: Perm) -> Operand:
    return Operand(operand.value, operand.kind, operand.known, perm)


def _carry(step: Step, perms: dict[ir.Value, Perm], steps: Steps) -> None:
    """An operator that works in any order: all inputs of full rank take the order for which fewest of them move. Where
    two are as good, a convolution behind it decides for its own order, anything else for the order that is stated."""
    carried = step.operands if step.operator.layout is Layout.ANY else step.operands[:1]
    beside = [o for o in carried if o.value is not None and (not o.kind.known or o.kind is Kind.ARRAY)]
    rank = max((_rank(operand.value) for operand in beside), default=0)
    whole = [operand.value for operand in beside if operand.is_tensor and _rank(operand.value) == rank]
    orders = Counter(perms.get(value) for value in whole)
    image = not steps.images.isdisjoint(step.node.outputs)

    def cost(order: Perm) -> tuple[int, int, bool]:
        moved = [value for value in whole if moves(tuple(value.shape), perms.get(value), order)]
        return len(moved), -orders[order], (order is None) == image

    perm = min(orders, key=cost, default=None)
    grown = step.operator.layout is Layout.FIRST and any(_rank(value) > rank for value in step.node.outputs)
    if grown or (step.operator.batch_first and perm is not None and perm[0] != 0):
        perm = None
    step.operands = [
        _ordered(operand, perm) if not operand.kind.known or operand.kind is Kind.ARRAY else operand
        for operand in carried
    ] + step.operands[len(carried) :]
    step.perms = [_carried(step, perm, rank, _rank(value)) for value in step.node.outputs]
    if perm is not None:
        _renumber(step, perm, rank)


def _carried(step: Step, perm: Perm, rank: int, out_rank: int) -> Perm:
    """The order of an output, whose rank may differ by the axes that the operator removes or puts in."""
    if perm is None or out_rank == rank:
        return perm
    axes = _axes(step)
    if out_rank < rank:
        ones = [axis for axis, dim in enumerate(step.shape()) if dim == 1]  # Squeeze without axes
        removed = {axis % rank for axis in axes or (range(rank) if out_rank == 0 else ones)}
        kept = [axis for axis in perm if axis not in removed]
        return plain([sorted(kept).index(axis) for axis in kept]) if len(kept) == out_rank else None
    added = sorted(axis % out_rank for axis in axes or ())
    rest = [axis for axis in range(out_rank) if axis not in added]
    order = [rest[axis] for axis in perm]
    for axis in added:
        order.insert(axis, axis)
    return plain(order)


def _axes(step: Step) -> list[int] | None:
    given = step.argument(step.operator.axes) if step.operator.axes else None
    default = step.operator.attributes.get(step.operator.axes)
    given = default if given is None else given
    if given is None:
        return None
    return [int(axis) for axis in np.atleast_1d(given)]


def _renumber(step: Step, perm: tuple[int, ...], rank: int) -> None:
    """Axis numbers of the graph -> axis numbers in the stored order."""
    name = step.operator.axes
    if name is None:
        return
    axes = _axes(step)
    out_rank = _rank(step.node.outputs[0])
    if axes is not None and out_rank > rank:
        return  # axes that are put in stand where the graph says
    stored = [perm.index(axis % rank) for axis in (range(rank) if axes is None else axes)]
    if name in step.operator.attributes:
        step.attributes[name] = stored[0] if isinstance(step.argument(name), int) else stored
        return
    index = next(i for i, parameter in enumerate(step.operator.inputs) if parameter.name == name)
    while len(step.operands) <= index:
        step.operands.append(Operand(None, step.operator.inputs[len(step.operands)].kind))
    step.operands[index] = Operand(step.operands[index].value, Kind.INTS, stored)


# --- a reshape between a convolution and a Dense: the weights move, the tensor does not ---------------------------


def _regroup(step: Step, perms: dict[ir.Value, Perm], steps: Steps) -> tuple[Perm, Perm]:
    """The orders before and after a reshape that moves nothing, or as stated where it has to move."""
    source, target = step.operands[0].value, step.node.outputs[0]
    if not step.operands[0].is_tensor:
        return None, None
    perm = perms.get(source)
    if perm is None:
        return None, _spread_channels(source, target, steps)
    found = reshaped(perm, list(source.shape), list(target.shape))
    if found is None:
        return None, None
    out, mix = found
    if mix is not None:
        edits = _read_mixed(target, mix, steps)
        if edits is None:
            return None, None
        _apply(edits, steps)
    return perm, out


# An operand of a step, by its number, becomes this; or a value is mixed.
Edit = tuple[Step, int, Any] | tuple[ir.Value, FactorOrder]


def _apply(edits: list[Edit], steps: Steps) -> None:
    for edit in edits:
        match edit:
            case (Step() as step, index, known):
                step.operands[index] = Operand(step.operands[index].value, step.operands[index].kind, known)
            case (value, mix):
                steps.factor_orders[value] = mix


def _read_mixed(value: ir.Value, mix: FactorOrder, steps: Steps) -> list[Edit] | None:
    """What has to change in the readers of `value`, and in theirs, if it is stored mixed; None if one of them cannot.
    Every reader stands behind what it reads, and one that reads two mixed values cannot, so no node comes twice."""
    edits: list[Edit] = []
    left = [(value, mix)]
    while left:
        value, mix = left.pop()
        if value.is_graph_output():
            return None
        edits.append((value, mix))
        for node, index in value.uses():
            step = steps.get(node)
            found = ([], None) if step is None else _reader_edits(step, index, mix)
            if found is None:
                return None
            edits += found[0]
            left += [] if found[1] is None else [(node.outputs[0], found[1])]
    return edits


def _reader_edits(step: Step, index: int, mix: FactorOrder) -> tuple[list[Edit], FactorOrder | None] | None:
    """What has to change in a reader of a mixed value, and the mix that its output then has, if any; None if it cannot
    read one."""
    operator = step.operator
    if operator.layout is Layout.RENAMES:
        return [], mix.along(_permutation(step).index(mix.axis))
    if operator.features and index == 0:
        edits = _weight_edits(step, operator.features, mix) if mix.axis == _feature_axis(step) else None
        kept = _keeps_features(step)
    elif _is_elementwise(step):
        edits, kept = _constant_edits(step, index, mix), True
    else:
        return None
    return None if edits is None else (edits, mix if kept else None)


def _feature_axis(step: Step) -> int:
    return 1 if step.node.op_type == "BatchNormalization" else _rank(step.node.inputs[0]) - 1


def _keeps_features(step: Step) -> bool:
    """Whether the features of the input are still there in the output (a normalisation), or used up (a Dense)."""
    return step.operator.layout not in (Layout.LAST, Layout.PRODUCT, Layout.ONNX)


def _is_elementwise(step: Step) -> bool:
    return step.operator.layout is Layout.ANY and step.operator.axes is None and len(step.node.outputs) == 1


def _weight_edits(step: Step, axes: dict[str, int], mix: FactorOrder) -> list[Edit] | None:
    edits: list[Edit] = []
    for index, (parameter, operand) in enumerate(zip(step.operator.inputs, step.operands, strict=False)):
        if parameter.name not in axes or operand.value is None:
            continue
        axis, known = axes[parameter.name], operand.known
        dims = tuple(operand.value.shape)
        if known is None or len(operand.value.uses()) > 1 or dims[axis] != math.prod(mix.sizes):
            return None
        edits.append((step, index, mix.apply(known, axis)))
    return edits


def _constant_edits(step: Step, index: int, mix: FactorOrder) -> list[Edit] | None:
    """An operator on every element: its constants take the order too; another tensor beside must be the same there."""
    edits: list[Edit] = []
    rank = _rank(step.node.outputs[0])
    for other, operand in enumerate(step.operands):
        if other == index or operand.value is None or operand.kind.known and operand.kind is not Kind.ARRAY:
            continue
        axis = mix.axis - rank + _rank(operand.value)
        if axis < 0 or operand.value.shape[axis] == 1:
            continue
        if operand.known is None or len(operand.value.uses()) > 1:
            return None
        edits.append((step, other, mix.apply(operand.known, axis)))
    return edits


def _spread_channels(source: ir.Value, target: ir.Value, steps: Steps) -> Perm:
    """A Dense whose units become (channels, spatial…) for a convolution gives them channels last instead."""
    before, after = list(source.shape), list(target.shape)
    rank = len(after)
    if rank < 3 or before[:-1] != after[:1] or not all(isinstance(dim, int) for dim in after[1:]):
        return None
    if target not in steps.images:
        return None
    mix = FactorOrder(1, tuple(after[1:]), (*range(1, rank - 1), 0))
    edits = _write_mixed(source, mix, steps)
    if edits is None:
        return None
    _apply(edits, steps)
    return channels_behind(rank)


def _write_mixed(value: ir.Value, mix: FactorOrder, steps: Steps) -> list[Edit] | None:
    """What has to change in the makers of `value`, which have one reader each, for it to be stored mixed, up to the one
    whose units they are; None if one of them cannot. Every maker stands before what it makes."""
    edits: list[Edit] = []
    while True:
        step = steps.get(value.producer())
        if step is None or len(value.uses()) > 1 or value.is_graph_output():
            return None
        found = _maker_edits(step, mix)
        if found is None:
            return None
        edits += [(value, mix), *found]
        if step.operator.units:
            return edits
        value = step.node.inputs[0]


def _maker_edits(step: Step, mix: FactorOrder) -> list[Edit] | None:
    if step.operator.units:
        return _weight_edits(step, step.operator.units, mix)
    if step.operator.features and _keeps_features(step) and _feature_axis(step) == mix.axis:
        return _weight_edits(step, step.operator.features, mix)
    return _constant_edits(step, 0, mix) if _is_elementwise(step) else None
