"""Pools: Keras's layers, padded first where they cannot say the pads; what they cannot count is counted here."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from bridge.ops.registry import CHANNELS_LAST, op
from bridge.ops.windows import Axis, check_padding, corners, is_same, is_valid, padded, windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.plan import Step

layers = keras.layers
MAX = {1: layers.MaxPooling1D, 2: layers.MaxPooling2D, 3: layers.MaxPooling3D}
AVERAGE = {1: layers.AveragePooling1D, 2: layers.AveragePooling2D, 3: layers.AveragePooling3D}
GLOBAL_MAX = {1: layers.GlobalMaxPooling1D, 2: layers.GlobalMaxPooling2D, 3: layers.GlobalMaxPooling3D}
GLOBAL_AVERAGE = {
    1: layers.GlobalAveragePooling1D,
    2: layers.GlobalAveragePooling2D,
    3: layers.GlobalAveragePooling3D,
}


def _check_pool(step: Step) -> str | None:
    return check_padding(step, step.argument("kernel_shape"))


def _check_average(step: Step) -> str | None:
    known = all(isinstance(dim, int) for dim in step.shape()[2:])
    if step.argument("auto_pad") == "SAME_UPPER" and step.argument("count_include_pad") and not known:
        return "auto_pad='SAME_UPPER' counts its padding over an axis of unknown size; give explicit pads"
    return _check_pool(step)


def _check_max(step: Step) -> str | None:
    if step.used(1):
        return "the indices of a maximum are used"
    return _check_pool(step)


def _axes(site, kernel_shape, strides, pads, dilations, auto_pad, ceil_mode) -> tuple[list[Axis], list[int]]:
    axes = windows(site.shape()[1:-1], kernel_shape, strides, pads, dilations, auto_pad)
    return axes, [axis.overhang if ceil_mode else 0 for axis in axes]


def _behind(axes: Sequence[Axis], overhang: Sequence[int]) -> list[Axis]:
    """The axes with the overhang in their padding."""
    return [replace(a, pads=(a.pads[0], a.pads[1] + more)) if more else a for a, more in zip(axes, overhang, strict=True)]


def _layer(site, table: dict[int, type], axes: Sequence[Axis], padding: str) -> Any:
    return site.layer(
        table[len(axes)],
        pool_size=tuple(axis.kernel for axis in axes),
        strides=tuple(axis.stride for axis in axes),
        padding=padding,
    )


@op("MaxPool", layout=CHANNELS_LAST, check=_check_max)
def max_pool(
    site, x, *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, dilations=None, pads=None, storage_order=0, strides=None
):
    axes, overhang = _axes(site, kernel_shape, strides, pads, dilations, auto_pad, ceil_mode)
    axes = _behind(axes, overhang)
    if not _native(site, axes):
        x = padded(site, x, [axis.pads or axis.same for axis in axes], -float("inf"))
        return functools.reduce(ops.maximum, corners(x, axes))
    if not is_valid(axes) and is_same(axes):
        return _layer(site, MAX, axes, "same")(x)
    return _layer(site, MAX, axes, "valid")(padded(site, x, [axis.pads for axis in axes], -float("inf")))


@op("AveragePool", layout=CHANNELS_LAST, check=_check_average)
def average_pool(
    site, x, *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, count_include_pad=0, dilations=None, pads=None, strides=None
):  # fmt: skip
    axes, overhang = _axes(site, kernel_shape, strides, pads, dilations, auto_pad, ceil_mode)
    if not any(overhang) and not is_valid(axes) and is_same(axes) and not count_include_pad and _native(site, axes):
        return _layer(site, AVERAGE, axes, "same")(x)
    whole = _behind(axes, overhang)
    y = _averaged(site, padded(site, x, [axis.pads for axis in whole]), whole)
    if not any(overhang) and (count_include_pad or is_valid(axes)):
        return y
    counted = ops.ones_like(x[(slice(0, 1), *[slice(None)] * len(axes), slice(0, 1))])
    if count_include_pad:
        counted = ops.pad(counted, ((0, 0), *(axis.pads for axis in axes), (0, 0)), constant_values=1)
    behind = [(0, more) for more in overhang] if count_include_pad else [axis.pads for axis in whole]
    counted = ops.pad(counted, ((0, 0), *behind, (0, 0)))
    return y / _averaged(site, counted, whole)


def _native(site, axes: Sequence[Axis]) -> bool:
    """Keras has no dilated pools; TensorFlow has no pools of doubles in three dimensions."""
    return max(axis.dilation for axis in axes) == 1 and not (len(axes) == 3 and site.dtype == "float64")


def _averaged(site, x: Any, axes: Sequence[Axis]) -> Any:
    if _native(site, axes):
        return _layer(site, AVERAGE, axes, "valid")(x)
    views = corners(x, axes)
    return functools.reduce(ops.add, views) / len(views)


@op("GlobalAveragePool", layout=CHANNELS_LAST)
def global_average_pool(site, x):
    return site.layer(GLOBAL_AVERAGE[len(x.shape) - 2], keepdims=True)(x)


@op("GlobalMaxPool", layout=CHANNELS_LAST)
def global_max_pool(site, x):
    return site.layer(GLOBAL_MAX[len(x.shape) - 2], keepdims=True)(x)
