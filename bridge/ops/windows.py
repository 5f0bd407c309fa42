"""Windows that slide over spatial axes: what convolutions and pools share, and padding as Keras says it.

A builder here sees its input channels last, (batch, spatial…, channels).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

if TYPE_CHECKING:
    from bridge.plan import Step

ZERO_PADDING = {1: keras.layers.ZeroPadding1D, 2: keras.layers.ZeroPadding2D, 3: keras.layers.ZeroPadding3D}
CROPPING = {1: keras.layers.Cropping1D, 2: keras.layers.Cropping2D, 3: keras.layers.Cropping3D}


@dataclass(frozen=True)
class Axis:
    """A window along one axis: ONNX's numbers, and the size of the input where it is known."""

    size: int | None
    kernel: int
    stride: int
    dilation: int
    pads: tuple[int, int] | None  # None: "same" over a size that only the run shows

    @property
    def span(self) -> int:
        """How far the window reaches."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def same(self) -> tuple[int, int] | None:
        """What `padding="same"` pads; None where that depends on an unknown size."""
        total = self.span - 1
        if self.stride > 1:
            if self.size is None:
                return None
            total = max((-(-self.size // self.stride) - 1) * self.stride + self.span - self.size, 0)
        return total // 2, total - total // 2

    @property
    def overhang(self) -> int:
        """How many cells behind the padding a last, incomplete window needs (`ceil_mode`); with an unknown size,
        so many that it is always complete. A window that would start in the padding is no window."""
        if self.pads is None:
            return 0
        begin, end = self.pads
        most = min(self.stride - 1, self.span - 1 - end)
        if self.size is None:
            return max(most, 0)
        left = (self.size + begin + end - self.span) % self.stride
        return self.stride - left if left and self.stride - left <= most else 0


def windows(
    spatial: Sequence[Any],
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    pads: Sequence[int] | None,
    dilations: Sequence[int] | None,
    auto_pad: str = "NOTSET",
) -> list[Axis]:
    """One `Axis` for each spatial dim. SAME_LOWER over an unknown size is for `check_padding` to refuse."""
    rank = len(kernel)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pads = [0] * 2 * rank if pads is None or auto_pad == "VALID" else pads
    axes = [
        Axis(n if isinstance(n, int) else None, k, s, d if k > 1 else 1, (begin, end))
        for n, k, s, d, begin, end in zip(
            spatial, kernel, strides, dilations, pads[:rank], pads[rank:], strict=True
        )
    ]
    if auto_pad == "SAME_UPPER":
        axes = [replace(axis, pads=axis.same) for axis in axes]
    elif auto_pad == "SAME_LOWER":
        axes = [replace(axis, pads=axis.same and axis.same[::-1]) for axis in axes]
    return axes


def check_padding(step: Step, kernel: Sequence[int] | None) -> str | None:
    """Why the padding of `step` cannot be said, or None."""
    if kernel is None:
        return "the size of its kernel is not known"
    if step.argument("auto_pad") == "SAME_LOWER":
        strides, dilations = step.argument("strides"), step.argument("dilations")
        axes = windows(step.shape()[2:], kernel, strides, None, dilations, "SAME_LOWER")
        if any(axis.pads is None for axis in axes):
            return "auto_pad='SAME_LOWER' strides over an axis of unknown size; give a fixed size or explicit pads"
    return None


def is_valid(axes: Sequence[Axis]) -> bool:
    return all(axis.pads == (0, 0) for axis in axes)


def is_same(axes: Sequence[Axis]) -> bool:
    return all(axis.pads is None or axis.pads == axis.same for axis in axes)


def padded(site: Any, x: Any, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    """x with its spatial axes padded by (begin, end); negative numbers cut off."""
    name = f"{site.step.path or site.node.op_type.lower()}_pad"
    cut = tuple((max(-begin, 0), max(-end, 0)) for begin, end in pads)
    pads = tuple((max(begin, 0), max(end, 0)) for begin, end in pads)
    if any(map(any, cut)):
        x = site.layer(CROPPING[len(pads)], cropping=_argument(cut), name=name)(x)
    if not any(map(any, pads)):
        return x
    if value:
        return ops.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)
    return site.layer(ZERO_PADDING[len(pads)], padding=_argument(pads), name=name)(x)


def _argument(pads: tuple[tuple[int, int], ...]) -> Any:
    return pads[0] if len(pads) == 1 else pads


def corners(x: Any, axes: Sequence[Axis]) -> list[Any]:
    """x seen from each cell of the window: one strided slice for each, all of the size of the output. No padding."""
    views = [x]
    for position, axis in enumerate(axes, 1):
        views = [view[_cells(position, axis, cell)] for view in views for cell in range(axis.kernel)]
    return views


def _cells(position: int, axis: Axis, cell: int) -> tuple[slice, ...]:
    start = cell * axis.dilation
    stop = start - axis.span + 1
    return (slice(None),) * position + (slice(start, stop or None, axis.stride),)
