"""Pools: Keras's layers, padded first where they cannot say the pads; what they cannot count is counted here."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import keras
import numpy as np
from keras import ops

from bridge.graph.shapes import Dim
from bridge.graph.windows import Window, pool_windows, with_overhang
from bridge.ops import dims
from bridge.ops.contract import Dims, Site, Step, Tensor
from bridge.ops.halves import HALVES, in_single
from bridge.ops.layouts import CHANNELS_LAST
from bridge.ops.padding import PADDING, check_padding, corners, is_same, is_valid, padded
from bridge.ops.registry import op

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


layers = keras.layers
LOWEST = -float("inf")
OUTSIDE = -1  # the place of what is padding
MAX = {1: layers.MaxPooling1D, 2: layers.MaxPooling2D, 3: layers.MaxPooling3D}
AVERAGE = {1: layers.AveragePooling1D, 2: layers.AveragePooling2D, 3: layers.AveragePooling3D}
GLOBAL_MAX = {1: layers.GlobalMaxPooling1D, 2: layers.GlobalMaxPooling2D, 3: layers.GlobalMaxPooling3D}
GLOBAL_AVERAGE = {
    1: layers.GlobalAveragePooling1D,
    2: layers.GlobalAveragePooling2D,
    3: layers.GlobalAveragePooling3D,
}


def _check_pool(step: Step) -> str | None:
    axes, auto_pad = _step_axes(step), step.argument("auto_pad")
    for axis in axes:
        if (auto_pad or "").startswith("SAME") and axis.dilation > 1 and axis.stride > axis.kernel:
            return f"auto_pad={auto_pad!r} with a stride of {axis.stride} over {axis.kernel} dilated cells; give pads"
    return check_padding(axes, auto_pad)


def _check_power(step: Step) -> str | None:
    return None if step.argument("p") else "p = 0 is no norm: a root of it divides by zero"


def _check_numbers(step: Step) -> str | None:
    """For what has to know its padding as numbers."""
    if any(axis.pads is None for axis in _step_axes(step)):
        return "auto_pad='SAME_UPPER' strides over an axis of unknown size; give explicit pads"
    return _check_pool(step)


def _check_average(step: Step) -> str | None:
    return _check_numbers(step) if step.argument("count_include_pad") else _check_pool(step)


def _check_norm(step: Step) -> str | None:
    return _check_power(step) or _check_numbers(step)


def _check_max(step: Step) -> str | None:
    return _check_numbers(step) if step.used(1) else _check_pool(step)


def _step_axes(step: Step) -> list[Window]:
    names = ("kernel_shape", "strides", "pads", "dilations", "auto_pad")
    return pool_windows(step.shape()[2:], *map(step.argument, names))


def _layer(
    site: Site,
    table: Mapping[int, type[keras.Layer]],
    axes: Sequence[Window],
    padding: str,
    dtype: str | None = None,
) -> keras.Layer:
    return site.layer(
        table[len(axes)],
        pool_size=tuple(axis.kernel for axis in axes),
        strides=tuple(axis.stride for axis in axes),
        padding=padding,
        dtype=dtype,
    )


@op("MaxPool", layout=CHANNELS_LAST, check=_check_max, makes=(*MAX.values(), *PADDING))
def max_pool(
    site: Site,
    x,
    *,
    kernel_shape,
    auto_pad="NOTSET",
    ceil_mode=0,
    dilations=None,
    pads=None,
    storage_order=0,
    strides=None,
):
    axes = pool_windows(site.shape()[1:-1], kernel_shape, strides, pads, dilations, auto_pad)
    axes = with_overhang(axes, ceil_mode)
    if site.used(1):
        return _max_with_indices(site, x, axes, storage_order)
    integers = "int" in site.dtype  # Keras pools floating-point numbers, which hold any of 8 bits
    x = ops.cast(x, "float32") if integers else x
    lowest = float(np.iinfo(site.dtype).min) if integers else LOWEST
    if not _native(site, axes):
        y = functools.reduce(
            ops.maximum, corners(padded(site, x, [axis.ends for axis in axes], lowest), axes)
        )
    elif not is_valid(axes) and is_same(axes):
        y = _layer(site, MAX, axes, "same")(x)
    else:
        axes, more = _never_empty(axes)
        y = _layer(site, MAX, axes, "valid")(padded(site, x, [axis.ends for axis in axes], lowest))
        y = y[(slice(None),) * len(axes) + (slice(None, -more),)] if more else y
    return ops.cast(y, site.dtype) if integers else y


def _never_empty(axes: Sequence[Window]) -> tuple[list[Window], int]:
    """The axes with so much padding behind the last one that it always has a window, and how many windows that is too
    many: where windows overlap, TensorFlow's process dies of a last axis that is too short for one."""
    last = axes[-1]
    missing = last.span - 1 - sum(last.ends)
    if last.known or last.kernel <= last.stride or missing <= 0:
        return list(axes), 0
    more = -(-missing // last.stride)
    return [*axes[:-1], replace(last, pads=(last.ends[0], last.ends[1] + more * last.stride))], more


def _max_with_indices(
    site: Site, x: Tensor, axes: Sequence[Window], storage_order: int
) -> tuple[Tensor, Tensor]:
    """The maxima, and where in the whole input (channels first) each first stands: padding is none, even beside -inf
    or NaN."""
    perm, stored = site.perm(), site.shape()
    order = [0, 1, *(range(2, len(stored)) if not storage_order else range(2, len(stored))[::-1])]
    number: Any = np.zeros([1] * len(stored), "int32")
    for axis in order:
        place = perm.index(axis)
        along = ops.reshape(
            dims.positions(site, stored[place]), [-1 if k == place else 1 for k in range(len(stored))]
        )
        number = dims.add(ops.multiply(number, dims.size(site, stored[place])), along)
    pads = [axis.ends for axis in axes]
    number = corners(padded(site, dims.add(number, ops.zeros_like(x, dtype="int32")), pads, OUTSIDE), axes)
    values = corners(padded(site, x, pads, LOWEST), axes)
    best, where = values[0], number[0]
    for value, place in zip(values[1:], number[1:], strict=True):
        better = ops.logical_or(ops.greater(value, best), ops.less(where, 0))
        best, where = ops.where(better, value, best), ops.where(better, place, where)
    return best, ops.cast(where, "int64")


def _check_unpool(step: Step) -> str | None:
    given = step.argument("output_shape")
    if given and not all(size == dim for size, dim in zip(given, _unpooled(step, step.shape()), strict=True)):
        return "output_shape is not what its windows cover, and places count in either; leave it out"
    return None


def _unpooled(step: Step, have: Sequence[Dim]) -> list[Dim]:
    """The dims of what was pooled, channels first."""
    kernel = step.argument("kernel_shape")
    steps, pads = (
        step.argument("strides") or [1] * len(kernel),
        step.argument("pads") or [0] * 2 * len(kernel),
    )
    ends = zip(pads[: len(kernel)], pads[len(kernel) :], strict=True)
    spatial = zip(have[2:], steps, kernel, ends, strict=True)
    return [*have[:2], *((n - 1) * stride + size - begin - end for n, stride, size, (begin, end) in spatial)]


@op("MaxUnpool", layout=CHANNELS_LAST, check=_check_unpool)
def max_unpool(site: Site, x, i, output_shape: Dims = None, *, kernel_shape, pads=None, strides=None):
    """Each maximum back to its place, zeros elsewhere."""
    last = (0, *range(2, len(x.shape)), 1)
    first = _unpooled(site.step, site.step.shape())
    want = [first[axis] for axis in last]
    flat = ops.reshape(
        dims.broadcast(site, ops.zeros((1,) * len(want), site.dtype), [1] * len(want), first), (-1,)
    )
    values = ops.reshape(ops.transpose(x, np.argsort(last).tolist()), (-1,))
    flat = ops.scatter_update(flat, ops.reshape(i, (-1, 1)), values)
    return ops.transpose(dims.reshape(site, flat, [None], first), last)


@op("AveragePool", layout=CHANNELS_LAST, check=_check_average, makes=(*AVERAGE.values(), *PADDING))
def average_pool(
    site: Site, x,
    *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, count_include_pad=0, dilations=None, pads=None, strides=None,
):  # fmt: skip
    axes = pool_windows(site.shape()[1:-1], kernel_shape, strides, pads, dilations, auto_pad)
    whole = with_overhang(axes, ceil_mode)
    if (
        whole == axes
        and not is_valid(axes)
        and is_same(axes)
        and not _uneven(axes)
        and not count_include_pad
        and _native(site, axes)
    ):
        return _layer(site, AVERAGE, axes, "same")(x)
    y = _averaged(site, padded(site, x, [axis.ends for axis in whole]), whole)
    if whole == axes and (count_include_pad or is_valid(axes)):
        return y
    counted = ops.ones_like(x[(slice(0, 1), *[slice(None)] * len(axes), slice(0, 1))])
    if count_include_pad:
        counted = ops.pad(counted, ((0, 0), *(axis.ends for axis in axes), (0, 0)), constant_values=1)
    behind = [axis.ends for axis in whole]
    if count_include_pad:
        behind = [(0, after - axis.ends[1]) for (_, after), axis in zip(behind, axes, strict=True)]
    counted = ops.pad(counted, ((0, 0), *behind, (0, 0)))
    return y / _averaged(site, counted, whole)


def _uneven(axes: Sequence[Window]) -> bool:
    """Whether there is padding that Keras on torch would count."""
    return any(axis.pads is not None and axis.pads[0] != axis.pads[1] for axis in axes)


def _native(site: Site, axes: Sequence[Window]) -> bool:
    """Whether Keras has such a pool: it has no dilated ones, and TensorFlow none of halves in three dimensions."""
    beyond = len(axes) == 3 and (site.dtype in HALVES or site.twin("pooling of three axes"))
    return max(axis.dilation for axis in axes) == 1 and not beyond


def _averaged(site: Site, x: Tensor, axes: Sequence[Window]) -> Tensor:
    if _native(site, axes):
        return _layer(site, AVERAGE, axes, "valid", cast("str", x.dtype))(x)
    views = corners(x, axes)
    return functools.reduce(ops.add, views) / len(views)


@op("GlobalAveragePool", layout=CHANNELS_LAST, makes=tuple(GLOBAL_AVERAGE.values()))
def global_average_pool(site: Site, x):
    return site.layer(GLOBAL_AVERAGE[len(x.shape) - 2], keepdims=True)(x)


@op("LpPool", layout=CHANNELS_LAST, check=_check_norm, makes=(*AVERAGE.values(), *PADDING))
@in_single
def lp_pool(
    site: Site,
    x,
    *,
    kernel_shape,
    auto_pad="NOTSET",
    ceil_mode=0,
    dilations=None,
    p=2,
    pads=None,
    strides=None,
):
    """The p-norm of each window: a sum is an average times the number of cells."""
    axes = pool_windows(site.shape()[1:-1], kernel_shape, strides, pads, dilations, auto_pad)
    axes = with_overhang(axes, ceil_mode)
    powers = padded(site, ops.abs(x) ** p, [axis.ends for axis in axes])
    return (_averaged(site, powers, axes) * math.prod(kernel_shape)) ** (1 / p)


@op("GlobalLpPool", layout=CHANNELS_LAST, check=_check_power)
@in_single
def global_lp_pool(x, *, p=2):
    return ops.sum(ops.abs(x) ** p, axis=tuple(range(1, len(x.shape) - 1)), keepdims=True) ** (1 / p)


@op("GlobalMaxPool", layout=CHANNELS_LAST, makes=tuple(GLOBAL_MAX.values()))
def global_max_pool(site: Site, x):
    if 0 in site.shape():  # of nothing Keras has no largest; only a batch may be empty
        return ops.sum(x, axis=tuple(range(1, len(x.shape) - 1)), keepdims=True)
    return site.layer(GLOBAL_MAX[len(x.shape) - 2], keepdims=True)(x)
