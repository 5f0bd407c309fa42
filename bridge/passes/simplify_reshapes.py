"""Reshapes around a Transpose or a Dense, in their plainest form.

    merge, Transpose, split again          ->  split, Transpose: axes that were merged only to be parted stay apart
    split one axis, swap, merge it again   ->  Gather: torch's channel shuffle takes an axis in another order
    merge, Linear, split again             ->  Linear: it works on the last axis of any number of axes
    Reshape, Reshape                       ->  the second

torch's multi-head attention and channel shuffle are written with the left sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from bridge.graph.axes import blocks
from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import Emitter, all_nodes, attribute, input_of, integers, is_onnx, replace, typed
from bridge.graph.shapes import Dim, rank, shape_of
from bridge.passes.fixed_point import until_unchanged


def simplify_reshapes(model: ir.Model) -> None:
    until_unchanged("simplify_reshapes", model, _sweep)


def _sweep(model: ir.Model) -> list[ir.Node]:
    reshapes = [node for node in all_nodes(model) if is_onnx(node, "Reshape")]
    return [node for node in reshapes if node.outputs[0].uses() and any(rule(node) for rule in RULES)]


def _all_dims(*values: ir.Value) -> list[list[Dim]] | None:
    """The dims of all of them, or None where one is not known."""
    dims = [list(value.shape) for value in values if value.shape is not None]
    return dims if len(dims) == len(values) else None


def _before(node: ir.Node, *ops: str) -> ir.Node | None:
    """What makes the first input of `node`, if nothing else reads it."""
    value = input_of(node, 0)
    maker = value.producer()
    return maker if is_onnx(maker, *ops) and len(value.uses()) == 1 and not value.is_graph_output() else None


def _reshape(emit: Emitter, x: ir.Value, dims: Sequence[Dim]) -> ir.Value | None:
    """x with these dims, if ONNX can say them: one -1, and 0 for a dim that stays in its place."""
    target: list[int] = []
    for place, dim in enumerate(dims):
        same = place < rank(x) and shape_of(x)[place] == dim
        if not isinstance(dim, int) and not same and -1 in target:
            return None
        target.append(dim if isinstance(dim, int) else 0 if same else -1)
    return typed(emit("Reshape", x, emit.constant(target)), dims, x)


def _part(split: ir.Node) -> bool:
    """merge, Transpose, split again"""
    transpose = _before(split, "Transpose")
    merge = _before(transpose, "Reshape") if transpose else None
    if transpose is None or merge is None:
        return False
    dims = _all_dims(input_of(merge, 0), merge.outputs[0], input_of(split, 0), split.outputs[0])
    if dims is None:
        return False
    _, _, swapped, wanted = dims
    finer: list[list[Dim]] = [[dim] for dim in swapped]
    for old, new in blocks(swapped, wanted):
        if len(old) == 1 and len(new) > 1:
            finer[old[0]] = [wanted[axis] for axis in new]
    if not any(len(parts) > 1 for parts in finer):
        return False
    perm = list(attribute(transpose, "perm"))
    apart = [finer[perm.index(axis)] for axis in range(len(perm))]
    starts = np.cumsum([0, *map(len, apart)]).tolist()
    order = [starts[axis] + k for axis in perm for k in range(len(apart[axis]))]
    emit = Emitter(split)
    x = _reshape(emit, input_of(merge, 0), [dim for parts in apart for dim in parts])
    if x is None:
        return False
    x = typed(emit("Transpose", x, perm=order), [dim for parts in finer for dim in parts], x)
    x = x if list(shape_of(x)) == wanted else _reshape(emit, x, wanted)
    if x is not None:
        replace(split.outputs[0], x)
    return x is not None


def _shuffle(join: ir.Node) -> bool:
    """split one axis, swap, merge it again"""
    transpose = _before(join, "Transpose")
    split = _before(transpose, "Reshape") if transpose else None
    dims = _all_dims(input_of(split, 0), split.outputs[0], join.outputs[0]) if split is not None else None
    if transpose is None or split is None or dims is None or dims[0] != dims[2]:
        return False
    whole, apart, _ = dims
    perm = list(attribute(transpose, "perm"))
    mixed = [(old, new) for old, new in blocks(whole, apart) if [perm[axis] for axis in new] != new]
    if len(mixed) != 1 or len(mixed[0][0]) != 1:
        return False
    (axis,), new = mixed[0]
    sizes = [size for place in new if isinstance(size := apart[place], int)]
    order = [perm[place] - new[0] for place in new]
    if len(sizes) < len(new) or sorted(order) != list(range(len(new))):
        return False
    emit = Emitter(join)
    index = np.arange(math.prod(sizes)).reshape(sizes).transpose(order).reshape(-1)
    replace(join.outputs[0], emit("Gather", split.inputs[0], emit.constant(index), axis=axis))
    return True


def _linear(split: ir.Node) -> bool:
    """merge, Linear, split again"""
    dense = input_of(split, 0).producer()
    if dense is None or (dense.domain, dense.op_type) not in ((DOMAIN, "Linear"), ("", "MatMul")):
        return False
    merge = _before(dense, "Reshape")
    if merge is None or len(dense.outputs[0].uses()) > 1 or dense.outputs[0].is_graph_output():
        return False
    x, kernel = input_of(merge, 0), input_of(dense, 1)
    dims = _all_dims(x, merge.outputs[0], split.outputs[0])
    if dims is None or kernel.const_value is None or rank(kernel) != 2:
        return False
    source, merged, wanted = dims
    old, new = blocks(source, merged)[-1]
    if source[-1] == merged[-1]:  # axes of size one before it belong to the rows
        old = [len(source) - 1]
    rows = source[: old[0]]
    if new != [len(merged) - 1] or not isinstance(merged[-1], int) or rows != wanted[: len(rows)]:
        return False
    if rows == merged[:-1]:  # it works on these rows already
        return False
    emit = Emitter(dense)
    flat = x if old == [len(source) - 1] else _reshape(emit, x, [*rows, merged[-1]])
    if flat is None:
        return False
    out = emit(dense.op_type, flat, *dense.inputs[1:], domain=dense.domain)
    out = typed(out, [*rows, shape_of(kernel)[1]], x)
    out = out if list(shape_of(out)) == wanted else _reshape(Emitter(split), out, wanted)
    if out is not None:
        replace(split.outputs[0], out)
    return out is not None


def _twice(second: ir.Node) -> bool:
    """Reshape, Reshape"""
    first = _before(second, "Reshape")
    if first is None or 0 in (integers(second.inputs[1]) or [0]):
        return False
    second.replace_input_with(0, first.inputs[0])
    return True


RULES: tuple[Callable[[ir.Node], bool], ...] = (_shuffle, _part, _linear, _twice)
