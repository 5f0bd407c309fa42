"""Padding as Keras says it, and windows as slices: what convolutions and pools share.

A builder here sees its input channels last, (batch, spatial…, channels).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import keras
from keras import ops

from bridge.graph.windows import Window
from bridge.ops.contract import Site, Tensor

MOST_CELLS = 2**31 - 1  # that the kernels below Keras take
ZERO_PADDING = {1: keras.layers.ZeroPadding1D, 2: keras.layers.ZeroPadding2D, 3: keras.layers.ZeroPadding3D}
CROPPING = {1: keras.layers.Cropping1D, 2: keras.layers.Cropping2D, 3: keras.layers.Cropping3D}
PADDING = (*ZERO_PADDING.values(), *CROPPING.values())  # the layers that `padded` makes


def check_padding(axes: Sequence[Window], auto_pad: str | None) -> str | None:
    """Why the padding of `axes` cannot be said, or None."""
    same = (auto_pad or "").startswith("SAME")
    for axis in axes:
        if max(axis.kernel, axis.stride, axis.dilation, *(axis.pads or ())) > MOST_CELLS:
            return f"its windows of {axis.kernel} cells, {axis.stride} apart: Keras counts to {MOST_CELLS}"
        if same and axis.stride > axis.kernel + 1:
            return f"auto_pad={auto_pad!r} with a stride of {axis.stride} over windows of {axis.kernel}; give pads"
        if axis.pads is None and (auto_pad == "SAME_LOWER" or max(axis.dilation for axis in axes) > 1):
            return f"auto_pad={auto_pad!r} strides over an axis of unknown size; give a fixed size or explicit pads"
        if axis.known and axis.pads is not None and cast("int", axis.size) + sum(axis.pads) < axis.span:
            return (
                f"its window reaches over {axis.span} cells, and there are {axis.size} with pads {axis.pads}"
            )
    return None


def is_valid(axes: Sequence[Window]) -> bool:
    return all(axis.pads == (0, 0) for axis in axes)


def is_same(axes: Sequence[Window]) -> bool:
    return all(axis.pads is None or axis.pads == axis.same for axis in axes)


def padded(site: Site, x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """x with its spatial axes padded by (begin, end); negative numbers cut off."""
    name = f"{site.step.path or site.node.op_type.lower()}_pad"
    cut = tuple((max(-begin, 0), max(-end, 0)) for begin, end in pads)
    pads = tuple((max(begin, 0), max(end, 0)) for begin, end in pads)
    if any(map(any, cut)):
        x = site.layer(CROPPING[len(pads)], cropping=_argument(cut), name=name, dtype=x.dtype)(x)
    if not any(map(any, pads)):
        return x
    if value:
        return ops.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)
    return site.layer(ZERO_PADDING[len(pads)], padding=_argument(pads), name=name, dtype=x.dtype)(x)


def _argument(pads: tuple[tuple[int, int], ...]) -> tuple[int, int] | tuple[tuple[int, int], ...]:
    return pads[0] if len(pads) == 1 else pads


def corners(x: Tensor, axes: Sequence[Window]) -> list[Tensor]:
    """x seen from each cell of the window: one strided slice for each, all of the size of the output. No padding."""
    views = [x]
    for position, axis in enumerate(axes, 1):
        views = [view[_cells(position, axis, cell)] for view in views for cell in range(axis.kernel)]
    return views


def _cells(position: int, axis: Window, cell: int) -> tuple[slice, ...]:
    start = cell * axis.dilation
    stop = start - axis.span + 1
    return (slice(None),) * position + (slice(start, stop or None, axis.stride),)
