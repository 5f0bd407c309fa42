"""Functions along an axis, and tables and windows, for which the stock exporter has no translation or a wrong one:
`ALONG_AXES`, by torch's operator.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx.numpy_helper
import onnx_ir as ir
import torch
from onnxscript import opset23 as op
from onnxscript.function_libs.torch_lib.ops import core

from bridge.frontend.torch.formulas import FORMULAS, aten, is_float, number
from bridge.frontend.torch.traced import Traced, Translations
from bridge.graph.shapes import Dim

INT64 = ir.DataType.INT64


def ints(*values: int) -> Traced:
    return op.Constant(value_ints=list(values))


def size(x: Traced, dim: int) -> Traced:
    """How long an axis is, as a tensor of one number."""
    dim %= len(x.shape)
    return op.Shape(x, start=dim, end=dim + 1)


def positions(x: Traced, dim: int) -> Traced:
    """0, 1, … along an axis."""
    return op.Range(op.Constant(value_int=0), op.Squeeze(size(x, dim), ints(0)), op.Constant(value_int=1))


def typed(value: Traced, like: Traced, dims: Iterable[Dim | None] | None = None) -> Traced:
    """`value` with the type of `like`, and its shape or `dims`, which the exporter adds later."""
    value.dtype, value.shape = like.dtype, like.shape if dims is None else ir.Shape(dims)
    return value


def positions_along(x: Traced, dim: int) -> Traced:
    """The positions along an axis, in a shape that broadcasts with x."""
    dim %= len(x.shape)
    return op.Reshape(positions(x, dim), ints(*(-1 if axis == dim else 1 for axis in range(len(x.shape)))))


def _any(mask: Traced, dim: int, keepdims: bool = True) -> Traced:
    found = op.ReduceMax(op.Cast(mask, to=ir.DataType.INT32), ints(dim), keepdims=int(keepdims))
    return op.Cast(found, to=ir.DataType.BOOL)


# --- sorting -------------------------------------------------------------------------------------------------


def _sort(x, dim=-1, descending=False):
    if len(x.shape) == 0:
        return op.Identity(x), op.Constant(value_int=0)
    return op.TopK(x, size(x, dim), axis=dim, largest=int(descending), sorted=1)


def _stable_sort(x, stable=None, dim=-1, descending=False):
    """Equal numbers stay in their order, as in TopK."""
    return _sort(x, dim, descending)


def _row(values, place, dim, keepdim):
    """The slices at `place` along an axis."""
    row = op.Slice(values, place, op.Add(place, ints(1)), ints(dim))
    return row if keepdim else op.Squeeze(row, ints(dim))


def _kth_value(x, k, dim=-1, keepdim=False):
    dim %= len(x.shape)
    values, indices = op.TopK(x, ints(k), axis=dim, largest=0, sorted=1)
    return _row(values, ints(k - 1), dim, keepdim), _row(indices, ints(k - 1), dim, keepdim)


def _median(x, dim, keepdim=False):
    """The lower one of two; NaN where one is."""
    dim %= len(x.shape)
    values, indices = _sort(x, dim)
    place = op.Div(op.Sub(size(x, dim), ints(1)), ints(2))
    value, index = _row(values, place, dim, keepdim), _row(indices, place, dim, keepdim)
    if not is_float(x):
        return value, index
    none = op.IsNaN(x)
    first = op.ArgMax(op.Cast(none, to=ir.DataType.INT32), axis=dim, keepdims=int(keepdim))
    lost = _any(none, dim, keepdim)
    return op.Where(lost, number(math.nan, x), value), op.Where(lost, first, index)


def _nanmedian(x, dim, keepdim=False):
    """Of the numbers that are there: NaN is sorted behind them as infinity."""
    if not is_float(x):
        return _median(x, dim, keepdim)
    dim %= len(x.shape)
    none = op.IsNaN(x)
    values, indices = _sort(typed(op.Where(none, number(math.inf, x), x), x), dim)
    count = op.ReduceSum(op.Cast(op.Not(none), to=INT64), ints(dim), keepdims=1)
    place = op.Div(op.Max(op.Sub(count, ints(1)), ints(0)), ints(2))
    value = op.GatherElements(values, place, axis=dim)
    value = op.Where(op.Equal(count, ints(0)), number(math.nan, x), value)
    both = value, op.GatherElements(indices, place, axis=dim)
    return both if keepdim else tuple(op.Squeeze(part, ints(dim)) for part in both)


def _of_all(median):
    return lambda x: median(typed(op.Reshape(x, ints(-1)), x, [None]), 0)[0]


def _search(boundaries, x, out_int32=False, right=False, side=None, sorter=None):
    """How many boundaries are below each number (or at it, from the right); NaN is above all."""
    if sorter is not None:
        raise NotImplementedError("searchsorted with a sorter: sort the boundaries first")
    if isinstance(x, int | float):
        x = number(x, boundaries)
    among = op.Unsqueeze(boundaries, ints(-2)) if len(boundaries.shape) > 1 else boundaries
    given = op.Unsqueeze(x, ints(-1))
    above = op.Greater(among, given) if right or side == "right" else op.GreaterOrEqual(among, given)
    dtype = ir.DataType.INT32 if out_int32 else INT64
    return op.ReduceSum(op.Cast(op.Not(above), to=dtype), ints(-1), keepdims=0)


def _bucketize(x, boundaries, out_int32=False, right=False):
    return _search(boundaries, x, out_int32, right)


# --- running -------------------------------------------------------------------------------------------------


def _running(x, like, dim, neutral, reduce):
    """`reduce` of all up to each place of an axis: along the rows of a square that is `neutral` behind the place."""
    rank, dim = len(like.shape), dim % len(like.shape)
    order = [axis for axis in range(rank) if axis != dim] + [dim]
    steps = positions(like, dim)
    behind = op.Greater(op.Unsqueeze(steps, ints(0)), op.Unsqueeze(steps, ints(1)))
    square = op.Where(behind, neutral, op.Unsqueeze(op.Transpose(x, perm=order), ints(-2)))
    return op.Transpose(
        reduce(square, ints(-1), keepdims=0), perm=[order.index(axis) for axis in range(rank)]
    )


def _running_product(x, dim, dtype=None):
    y = op.Cast(x, to=dtype if dtype and dtype > 0 else INT64) if not is_float(x) or (dtype or 0) > 0 else x
    return _running(y, x, dim, op.CastLike(op.Constant(value_int=1), y), op.ReduceProd)


def _running_logsumexp(x, dim):
    return _running(x, x, dim, number(-math.inf, x), op.ReduceLogSumExp)


def _running_extreme(reduce, end):
    """The extreme so far, and the last place that has it; NaN from the first NaN on."""

    def translate(x, dim):
        values = _running(x, x, dim, number(end(x), x), reduce)
        reached = op.Equal(x, values)
        if is_float(x):
            none = op.IsNaN(x)
            count = op.CumSum(op.Cast(none, to=INT64), op.Constant(value_int=dim))
            lost = op.Greater(count, op.Constant(value_int=0))
            values = op.Where(lost, number(math.nan, x), values)
            reached = op.Or(none, op.And(reached, op.Not(lost)))
        zero = op.Constant(value_int=0)
        places = op.Where(reached, positions_along(x, dim), zero)
        return values, _running(places, x, dim, zero, op.ReduceMax)

    return translate


def least(x):
    return -math.inf if is_float(x) else np.iinfo(x.dtype.numpy()).min


def most(x):
    return math.inf if is_float(x) else np.iinfo(x.dtype.numpy()).max


# --- distances, scattered means, windows ------------------------------------------------------------


def _distances(x, y, p, compute_mode=None):
    """Of every row of x from every row of y, without the products that torch may take for p = 2."""
    gaps = op.Abs(op.Sub(op.Unsqueeze(x, ints(-2)), op.Unsqueeze(y, ints(-3))))
    last = {"keepdims": 0}
    if p == 0:
        return op.ReduceSum(op.CastLike(op.Greater(gaps, number(0.0, x)), x), ints(-1), **last)
    if p in (1, 2):
        return (op.ReduceL1 if p == 1 else op.ReduceL2)(gaps, ints(-1), **last)
    if math.isinf(p):
        return op.ReduceMax(gaps, ints(-1), **last)
    return op.Pow(op.ReduceSum(op.Pow(gaps, number(p, x)), ints(-1), **last), number(1 / p, x))


def _scatter_reduce(x, dim, index, source, reduce, include_self=True):
    """A mean is a sum over a count, where the stock exporter writes the sum."""
    if reduce != "mean":
        return core.aten_scatter_reduce(x, dim, index, source, reduce, include_self)
    one, zero = op.CastLike(op.Constant(value_int=1), x), op.CastLike(op.Constant(value_int=0), x)
    given = op.Expand(one, op.Shape(index))
    start = x if include_self else op.Expand(zero, op.Shape(x))
    total = op.ScatterElements(start, index, source, axis=dim, reduction="add")
    first = op.Expand(one if include_self else zero, op.Shape(x))
    count = op.ScatterElements(first, index, given, axis=dim, reduction="add")
    shares = op.Max(count, one)
    mean = (
        op.Div(total, shares) if is_float(x) else FORMULAS[aten.floor_divide.default](typed(total, x), shares)
    )
    return mean if include_self else op.Where(op.Equal(count, zero), x, mean)


def _window(function):
    """A window as torch makes it; ONNX's differ in their constants."""

    def translate(*args, dtype=None, layout=None, device=None, pin_memory=None):
        numpy = ir.DataType(dtype if dtype and dtype > 0 else ir.DataType.FLOAT).numpy()
        window = function(*args, dtype=torch.float64).numpy().astype(numpy)
        return op.Constant(value=onnx.numpy_helper.from_array(window))

    return translate


def _at_least(rank):
    """Tensors with axes added until there are `rank` (numpy's rule: a matrix of depth one, a row of height one)."""

    def one(x):
        add = {(0, 1): [0], (0, 2): [0, 1], (0, 3): [0, 1, 2], (1, 2): [0], (1, 3): [0, 2], (2, 3): [2]}
        axes = add.get((len(x.shape), rank))
        return op.Unsqueeze(x, ints(*axes)) if axes else op.Identity(x)

    return lambda tensors: [one(x) for x in tensors]


def _squeeze(x, dim):
    """As torch traced it: an axis of another length than one, and a free one, stays."""
    dims = [dim] if isinstance(dim, int) else dim
    ones = [axis for axis in dims if len(x.shape) and x.shape[axis] == 1]
    return op.Squeeze(x, ints(*ones)) if ones else op.Identity(x)


# --- masks ---------------------------------------------------------------------------------------------------


def _mask(indices):
    """The one index, where that is a mask, and the axis that it begins at."""
    given = [(place, index) for place, index in enumerate(indices) if index is not None]
    one = len(given) == 1 and given[0][1].dtype == ir.DataType.BOOL
    return given[0] if one else (0, None)


def _places(mask):
    """Where a mask is true, in the one way that `passes.scatter_to_where` knows."""
    return op.Transpose(op.NonZero(mask), perm=[1, 0])


def _index(x, indices):
    place, mask = _mask(indices)
    return core.aten_index(x, indices) if mask is None or place else op.GatherND(x, _places(mask))


def _index_put(x, indices, values, accumulate=False):
    """A mask picks between the old and the new, wherever the new does not hang on how many were picked."""
    place, mask = _mask(indices)
    if mask is None:
        return core.aten_index_put(x, indices, values, accumulate)
    behind = len(x.shape) - place - len(mask.shape)
    extra = max(len(values.shape) - behind, 0)
    if all(dim == 1 for dim in values.shape[:extra]):
        values = op.Squeeze(values, ints(*range(extra))) if extra else values
        chosen = op.Unsqueeze(mask, ints(*range(-behind, 0))) if behind else mask
        return op.Where(chosen, op.Add(x, values) if accumulate else values, x)
    whole = list(values.shape[extra:]) == list(x.shape[len(x.shape) - behind :])
    if place or accumulate or not whole:
        return core.aten_index_put(x, indices, values, accumulate)
    return op.ScatterND(x, _places(mask), values)


WINDOWS = "bartlett_window", "blackman_window", "hamming_window", "hann_window", "kaiser_window"

ALONG_AXES: Translations = {
    aten.sort.default: _sort,
    aten.sort.stable: _stable_sort,
    aten.kthvalue.default: _kth_value,
    aten.median.dim: _median,
    aten.median.default: _of_all(_median),
    aten.nanmedian.dim: _nanmedian,
    aten.nanmedian.default: _of_all(_nanmedian),
    aten.searchsorted.Tensor: _search,
    aten.searchsorted.Scalar: _search,
    aten.bucketize.Tensor: _bucketize,
    aten.cumprod.default: _running_product,
    aten.logcumsumexp.default: _running_logsumexp,
    aten.cummax.default: _running_extreme(op.ReduceMax, least),
    aten.cummin.default: _running_extreme(op.ReduceMin, most),
    aten._cdist_forward.default: _distances,
    aten.index.Tensor: _index,
    aten.index_put.default: _index_put,
    aten.scatter_reduce.two: _scatter_reduce,
    aten.squeeze.dim: _squeeze,
    aten.squeeze.dims: _squeeze,
    **{
        getattr(getattr(aten, name), overload): _window(getattr(torch, name))
        for name in WINDOWS
        for overload in getattr(aten, name).overloads()
        if "out" not in overload
    },
    **{getattr(aten, f"atleast_{rank}d").Sequence: _at_least(rank) for rank in (1, 2, 3)},
}
