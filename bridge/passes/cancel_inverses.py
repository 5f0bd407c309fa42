"""What one node puts together and the next takes apart again. Each rule: node -> the value it amounts to, or None."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from bridge.graph.functions import DOMAIN
from bridge.graph.recurrent import LAYERS, RECURRENT, STATES, RecurrentOp
from bridge.graph.rewriting import (
    Emitter,
    all_nodes,
    attribute,
    input_of,
    inputs_of,
    integers,
    is_onnx,
    is_used,
    replace,
)
from bridge.graph.shapes import rank, squeezed_axes
from bridge.passes.fixed_point import until_unchanged

if TYPE_CHECKING:
    from collections.abc import Callable


def cancel_inverses(model: ir.Model) -> None:
    until_unchanged("cancel_inverses", model, _sweep)


def _sweep(model: ir.Model) -> list[ir.Node]:
    rewritten = []
    for node in all_nodes(model):
        rule = RULES.get(node.op_type) if is_onnx(node) else None
        value = rule(node) if rule is not None and is_used(node.outputs[0]) else None
        if value is not None:
            replace(node.outputs[0], value)
            rewritten.append(node)
    return rewritten


def _producer(value: ir.Value, op: str) -> ir.Node | None:
    node = value.producer()
    return node if is_onnx(node, op) else None


def _axis(node: ir.Node, default: int, rank: int) -> int:
    return attribute(node, "axis", default) % rank


def _size(value: ir.Value, axis: int) -> int | None:
    dim = value.shape[axis] if value.shape is not None else None
    return dim if isinstance(dim, int) else None


def _is_known(shape: ir.Shape) -> bool:
    return all(isinstance(dim, int) or dim.value is not None for dim in shape)


def _part(concat: ir.Node, axis: int, start: int, stop: int) -> tuple[ir.Value, int] | None:
    """The part of a Concat that holds rows `start:stop` whole, and where it starts."""
    offset = 0
    for part in inputs_of(concat):
        size = _size(part, axis)
        if size is None:
            return None
        if offset <= start and stop <= offset + size:
            return part, offset
        offset += size
    return None


def _gather(node: ir.Node) -> ir.Value | None:
    """One row of a stack."""
    source, index = input_of(node, 0), integers(node.inputs[1])
    if source.shape is None or index is None or rank(input_of(node, 1)):
        return None
    axis = _axis(node, 0, source.shape.rank())
    size = _size(source, axis)
    row = index[0] if size is None or index[0] >= 0 else index[0] + size
    if (stack := _producer(source, "Unsqueeze")) and integers(input_of(stack, 1)) == [axis] and row == 0:
        return stack.inputs[0]
    if (
        size is not None
        and (concat := _producer(source, "Concat"))
        and _axis(concat, 0, source.shape.rank()) == axis
    ):
        found = _part(concat, axis, row, row + 1)
        if found is not None:
            emit = Emitter(node)
            return emit("Gather", found[0], emit.constant(row - found[1]), axis=axis)
    return _last_step(source, axis, row, size)


def _recurrent(node: ir.Node | None) -> RecurrentOp | None:
    """Which recurrent operator of ours `node` is."""
    return RECURRENT.get(node.op_type) if node is not None and node.domain == DOMAIN else None


def _last_step(y: ir.Value, axis: int, row: int, size: int | None) -> ir.Value | None:
    """The last step of a forward recurrent layer over whole sequences is its final state."""
    layer = y.producer()
    kind = _recurrent(layer)
    if layer is None or kind is None or axis != 1 or row != (-1 if size is None else size - 1):
        return None
    if kind not in LAYERS or kind.directions != 1 or attribute(layer, "direction") == "reverse":
        return None
    return layer.outputs[-1] if y is layer.outputs[0] and layer.inputs[4] is None else None


def _concat(node: ir.Node) -> ir.Value | None:
    """Both directions' final hidden states side by side are what the layer itself gives last."""
    layer = input_of(node, 0).producer()
    kind = _recurrent(layer)
    if layer is None or kind is None or kind.directions != 2:
        return None
    hidden = list(layer.outputs[1 : -1 : len(STATES[kind.mode])])
    return layer.outputs[-1] if list(node.inputs) == hidden and _axis(node, 0, 2) == 1 else None


def _slice(node: ir.Node) -> ir.Value | None:
    """All of a value, or whole parts of a Concat."""
    source = input_of(node, 0)
    starts, ends, axes = ([integers(v) for v in node.inputs[1:4]] + [None])[:3]
    steps = [1] if len(node.inputs) < 5 or node.inputs[4] is None else integers(node.inputs[4])
    if source.shape is None or steps is None or set(steps) != {1}:
        return None
    if _is_known(source.shape) and source.shape == node.outputs[0].shape:
        return source
    if not starts or not ends or len(starts) != 1:
        return None
    axis = (axes or [0])[0] % source.shape.rank()
    size = _size(source, axis)
    if size is None:
        return None
    start, stop, _ = slice(starts[0], ends[0]).indices(size)
    if (start, stop) == (0, size):
        return source
    if (concat := _producer(source, "Concat")) and _axis(concat, 0, source.shape.rank()) == axis:
        found = _part(concat, axis, start, stop)
        if found is not None:
            part, offset = found
            emit = Emitter(node)
            rows = [emit.constant([n]) for n in (start - offset, stop - offset, axis)]
            return emit("Slice", part, *rows)
    return None


def _squeeze(node: ir.Node) -> ir.Value | None:
    stack = _producer(input_of(node, 0), "Unsqueeze")
    axes = squeezed_axes(node)
    if stack is None or axes is None:
        return None
    made, count = integers(stack.inputs[1]), rank(stack.outputs[0])
    return stack.inputs[0] if made is not None and axes == sorted(axis % count for axis in made) else None


def _transpose(node: ir.Node) -> ir.Value | None:
    inner = _producer(input_of(node, 0), "Transpose")
    if inner is None:
        return None
    axes = range(rank(input_of(node, 0)))[::-1]  # without a perm they are reversed
    perm = [list(attribute(inner, "perm", axes))[axis] for axis in attribute(node, "perm", axes)]
    if perm == list(range(len(perm))):
        return inner.inputs[0]
    return Emitter(node)("Transpose", inner.inputs[0], perm=perm)


def _split(node: ir.Node) -> None:
    """A Split whose Concat it undoes exactly; replaces all outputs itself."""
    source = input_of(node, 0)
    concat = _producer(source, "Concat")
    if concat is None or source.shape is None or len(concat.inputs) != len(node.outputs):
        return
    axis = _axis(node, 0, source.shape.rank())
    sizes = [_size(part, axis) for part in inputs_of(concat)]
    if axis == _axis(concat, 0, source.shape.rank()) and sizes == [_size(out, axis) for out in node.outputs]:
        for old, new in zip(node.outputs, inputs_of(concat), strict=True):
            replace(old, new)


RULES: dict[str, Callable[[ir.Node], ir.Value | None]] = {
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
}
