"""Diagonals, rolls, modes and masked copies, told by the positions along axes: `BY_POSITION`, by torch's operator.

The stock exporter has no translation for them, or one that multiplies by zeros where NaN and infinities may be.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript import opset23 as op

from bridge.frontend.torch.axes import INT64, ints, most, positions, positions_along, size, typed
from bridge.frontend.torch.formulas import aten, number
from bridge.frontend.torch.traced import Traced, Translations


def _on_diagonal(x: Traced, offset: int, dim1: int, dim2: int) -> Traced:
    """x, and zero off its diagonal."""
    place = positions_along(x, dim1)
    place = op.Add(place, op.Constant(value_int=offset)) if offset else place
    return op.Where(op.Equal(place, positions_along(x, dim2)), x, number(0, x))


def _diagonal(x: Traced, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Traced:
    """Last of the axes; along the rows, or along the columns if they begin first."""
    if x.dtype == ir.DataType.BOOL:
        whole = typed(op.Cast(x, to=ir.DataType.INT32), x)
        whole.dtype = ir.DataType.INT32
        return op.Cast(_diagonal(whole, offset, dim1, dim2), to=ir.DataType.BOOL)
    rank = len(x.shape)
    dim1, dim2 = dim1 % rank, dim2 % rank
    kept, lost = (dim1, dim2) if offset >= 0 else (dim2, dim1)
    found = op.ReduceSum(_on_diagonal(x, offset, dim1, dim2), ints(lost), keepdims=0)
    place = kept - (lost < kept)
    found = op.Transpose(found, perm=[axis for axis in range(rank - 1) if axis != place] + [place])
    length, other = x.shape[kept], x.shape[lost]
    if length == other:
        return op.Slice(found, ints(0), ints(-abs(offset)), ints(rank - 2)) if offset else found
    if not isinstance(length, int) or not isinstance(other, int):
        raise NotImplementedError("diagonal of two free axes that may differ; make them one, or fix them")
    return op.Slice(found, ints(0), ints(max(min(length, other - abs(offset)), 0)), ints(rank - 2))


def _trace(x: Traced) -> Traced:
    total = op.ReduceSum(_on_diagonal(x, 0, 0, 1), ints(0, 1), keepdims=0)
    return total if x.dtype.is_floating_point() else op.Cast(total, to=INT64)


def _roll(x: Traced, shifts: Any, dims: Any = ()) -> Traced:
    """By the places that elements come from; without axes, along all of them as one."""
    if len(x.shape) == 0:
        return op.Identity(x)
    if not dims:
        flat = typed(op.Reshape(x, ints(-1)), x, [None])
        return op.Reshape(_roll(flat, shifts, [0]), op.Shape(x))
    for shift, dim in zip(shifts, dims, strict=True):
        places = op.Mod(op.Sub(positions(x, dim), op.Constant(value_int=shift)), size(x, dim))
        x = typed(op.Gather(x, places, axis=dim), x)
    return x


def _mode(x: Traced, dim: int = -1, keepdim: bool = False) -> tuple[Traced, Traced]:
    """The number that there is most of, the smallest of several, and the last place of it."""
    dim %= len(x.shape)
    rank = len(x.shape)
    order = [axis for axis in range(rank) if axis != dim] + [dim]
    rows = op.Transpose(x, perm=order)
    same = op.Equal(op.Unsqueeze(rows, ints(-1)), op.Unsqueeze(rows, ints(-2)))
    counts = op.ReduceSum(op.Cast(same, to=INT64), ints(-1), keepdims=0)
    often = op.Equal(counts, op.ReduceMax(counts, ints(-1), keepdims=1))
    value = op.ReduceMin(op.Where(often, rows, number(most(x), x)), ints(-1), keepdims=1)
    place = op.Where(op.Equal(rows, value), positions(x, dim), op.Constant(value_int=0))
    last = op.ReduceMax(place, ints(-1), keepdims=1)
    if not keepdim:
        return op.Squeeze(value, ints(-1)), op.Squeeze(last, ints(-1))
    back = [order.index(axis) for axis in range(rank)]
    return op.Transpose(value, perm=back), op.Transpose(last, perm=back)


def _masked_scatter(x: Traced, mask: Traced, source: Traced) -> Traced:
    """Where the mask is true, the numbers of the source in turn."""
    mask = op.Expand(mask, op.Shape(x))
    count = op.CumSum(op.Cast(op.Reshape(mask, ints(-1)), to=INT64), op.Constant(value_int=0))
    turn = op.Max(op.Sub(count, op.Constant(value_int=1)), op.Constant(value_int=0))
    taken = op.Gather(op.Reshape(source, ints(-1)), turn, axis=0)
    return op.Where(mask, op.Reshape(taken, op.Shape(x)), x)


BY_POSITION: Translations = {
    aten.diagonal.default: _diagonal,
    aten.diagonal_copy.default: _diagonal,
    aten.trace.default: _trace,
    aten.roll.default: _roll,
    aten.mode.default: _mode,
    aten.masked_scatter.default: _masked_scatter,
}
