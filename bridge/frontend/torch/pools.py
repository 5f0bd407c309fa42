"""Pools that the stock exporter has no translation for, or loses a part of: `POOLS`, by torch's operator; and those
that torch would trace for one length only.

An adaptive pool of m windows over an axis of n has them from floor(i n / m) to ceil((i + 1) n / m).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx.numpy_helper
import torch
from onnxscript import opset23 as op
from onnxscript.function_libs.torch_lib.ops import nn

from bridge.frontend.torch.axes import ints, size, typed
from bridge.frontend.torch.formulas import aten, number
from bridge.frontend.torch.traced import Traced, Translation, Translations
from bridge.graph.shapes import Dim
from bridge.graph.windows import Window

# --- while torch traces ---------------------------------------------------------------------------------------


def max_pool1d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """Replaces `torch.max_pool1d`."""

    def one(value: Any) -> int:
        return int(value[0] if isinstance(value, tuple | list) else value)

    kernel = one(kernel_size)
    step = one(stride) if stride not in (None, [], ()) else kernel
    batched = x if x.dim() == 3 else x.unsqueeze(0)
    y = torch.ops.bridge.max_pool1d(batched, kernel, step, one(padding), one(dilation), bool(ceil_mode))
    return y if x.dim() == 3 else y.squeeze(0)


def adaptive_avg_pool1d(x, output_size):
    """Replaces `torch.adaptive_avg_pool1d`."""
    size = output_size[0] if isinstance(output_size, tuple | list) else output_size
    return torch.nn.functional.adaptive_avg_pool2d(x.unsqueeze(-1), (size, 1)).squeeze(-1)


# --- as ONNX ---------------------------------------------------------------------------------------------------


def _adaptive(rank: int, average: bool) -> Translation:
    """Axes of one window are reduced, those whose windows are alike pooled, and the others read by place."""
    reduce = op.ReduceMean if average else op.ReduceMax

    def translate(x: Traced, wanted: Sequence[Any]) -> Any:
        first = len(x.shape) - rank
        goals = dict(enumerate(wanted, first))
        whole = [axis for axis, goal in goals.items() if goal == 1]
        alike = {axis: n // m for axis, m in goals.items() if m != 1 and _divides(m, n := x.shape[axis])}
        y = reduce(x, ints(*whole), keepdims=1) if whole else x
        if alike:
            y = _pooled(y, first, [alike.get(axis, 1) for axis in goals], average)
        dims = [goal if axis in whole or axis in alike else x.shape[axis] for axis, goal in goals.items()]
        y = typed(y, x, [*x.shape[:first], *dims])
        for axis in goals.keys() - alike.keys() - {*whole}:
            y = _by_place(y, axis, goals[axis], average)
        return y if average else (y, _first_places(x, first, wanted))

    return translate


def _divides(m: Dim, n: Dim) -> bool:
    return isinstance(m, int) and isinstance(n, int) and n % m == 0


def _pooled(x: Traced, first: int, kernel: list[int], average: bool) -> Traced:
    """Windows side by side."""
    window = {"kernel_shape": kernel, "strides": kernel}
    batched = x if first == 2 else op.Unsqueeze(x, ints(0))
    y = op.AveragePool(batched, **window) if average else op.MaxPool(batched, **window)[0]
    return y if first == 2 else op.Squeeze(y, ints(0))


def _by_place(x: Traced, axis: int, goal: Dim, average: bool) -> Traced:
    """Windows of several lengths along one axis."""
    look, inside, _ = _reader(x, axis, goal)
    picked = look(x)
    if average or not isinstance(goal, int):
        picked = op.Where(inside, picked, number(0.0 if average else -math.inf, x))
    y = (op.ReduceSum if average else op.ReduceMax)(picked, ints(axis + 1), keepdims=0)
    if average:
        y = op.Div(y, op.ReduceSum(op.CastLike(inside, x), ints(1), keepdims=0))
    return typed(y, x, [*x.shape[:axis], goal if isinstance(goal, int) else None, *x.shape[axis + 1 :]])


def _first_places(x: Traced, first: int, wanted: Sequence[Dim]) -> Traced:
    """Of each maximum, where it first stands among the elements of all pooled axes."""
    index, rows = op.Constant(value_int=0), op.Constant(value_int=1)
    for axis, goal in reversed([*enumerate(wanted, first)]):
        look, inside, places = _reader(x, axis, goal)
        picked = op.Where(inside, look(x), number(-math.inf, x))
        index = look(index) if axis < first + len(wanted) - 1 else index
        index = op.Add(op.Mul(places, rows), index)
        index = op.Expand(index, op.Shape(picked))
        best = op.ArgMax(picked, axis=axis + 1, keepdims=1)
        index = op.Squeeze(op.GatherElements(index, best, axis=axis + 1), ints(axis + 1))
        rows = op.Mul(rows, size(x, axis))
        x = typed(op.ReduceMax(picked, ints(axis + 1), keepdims=0), x)
    return index


def _reader(x: Traced, axis: int, goal: Dim) -> tuple[Callable[[Traced], Traced], Traced, Traced]:
    """What brings each window along `axis` onto an axis behind it; which of the places there are in the window; and
    their numbers. There are as many as the longest window has, the last one repeated; of a number of windows that is
    not known, every window sees the whole axis."""
    behind = range(2, len(x.shape) - axis + 1)

    def spread(table: Traced) -> Traced:
        return op.Unsqueeze(table, ints(*behind)) if behind else table

    starts, ends, places = _windows(x, axis, goal)
    inside = op.Less(places, ends)
    if isinstance(goal, int):
        places = op.Min(places, op.Sub(ends, ints(1)))
        return lambda value: op.Gather(value, places, axis=axis), spread(inside), spread(places)
    inside = op.And(inside, op.GreaterOrEqual(places, starts))
    return lambda value: op.Unsqueeze(value, ints(axis)), spread(inside), spread(places)


def _windows(x: Traced, axis: int, goal: Dim) -> tuple[Any, ...]:
    """The first place of each window and the one behind its last (goal, 1), and the places that may be in them."""
    n = x.shape[axis]
    if isinstance(n, int) and isinstance(goal, int):
        window = np.arange(goal)[:, None]
        starts, ends = window * n // goal, -(-(window + 1) * n // goal)
        return *map(_numbers, (starts, ends)), _numbers(starts + np.arange((ends - starts).max()))
    length = size(x, axis)
    count = ints(goal) if isinstance(goal, int) else op.Reshape(goal, ints(1))
    window = op.Unsqueeze(_counted(count), ints(1))
    starts = op.Div(op.Mul(window, length), count)
    beyond = op.Mul(op.Add(window, ints(1)), length)
    ends = op.Div(op.Add(beyond, op.Sub(count, ints(1))), count)
    if not isinstance(goal, int):
        return starts, ends, op.Unsqueeze(_counted(length), ints(0))
    longest = op.Add(op.Div(length, count), ints(2))
    return starts, ends, op.Add(starts, _counted(longest))


def _numbers(value: np.ndarray) -> Traced:
    return op.Constant(value=onnx.numpy_helper.from_array(value.astype(np.int64)))


def _counted(count: Traced) -> Traced:
    return op.Range(op.Constant(value_int=0), op.Squeeze(count, ints(0)), op.Constant(value_int=1))


def _average(rank: int) -> Translation:
    """`aten.avg_pool*d`. The stock one leaves out a divisor that is given."""
    stock = getattr(nn, f"aten_avg_pool{rank}d")

    def translate(
        x: Traced, kernel: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> Traced:  # fmt: skip
        if divisor_override is None:
            return stock(x, kernel, stride, padding, ceil_mode, count_include_pad)
        kernel, stride, padding = (_each(given, rank) for given in (kernel, stride or kernel, padding))
        if ceil_mode:
            ends = [
                Window(n, k, step, 1, (pad, pad)).overhang
                for n, k, step, pad in zip(x.shape[-rank:], kernel, stride, padding, strict=True)
            ]
            x = typed(
                op.Pad(x, ints(*[0] * (2 * len(x.shape) - rank), *ends)),
                x,
                [*x.shape[:-rank], *[None] * rank],
            )
        averages = stock(x, kernel, stride, padding, False, True)
        return op.Mul(averages, number(float(math.prod(kernel) / divisor_override), x))

    return translate


def _each(given: int | Sequence[int], rank: int) -> list[int]:
    numbers = [given] if isinstance(given, int) else [*given]
    return numbers * (rank // len(numbers))


POOLS: Translations = {
    **{
        getattr(aten, f"adaptive_{kind}_pool{rank}d").default: _adaptive(rank, kind == "avg")
        for kind in ("avg", "max")
        for rank in (1, 2, 3)
    },
    aten._adaptive_avg_pool2d.default: _adaptive(2, average=True),
    aten._adaptive_avg_pool3d.default: _adaptive(3, average=True),
    aten.avg_pool2d.default: _average(2),
    aten.avg_pool3d.default: _average(3),
}
