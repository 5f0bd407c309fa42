"""Windows that slide along spatial axes: the numbers of convolutions and pools, as onnxruntime reads ONNX's attributes.

A size is an integer, or a symbol where only the run shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bridge.graph.shapes import Dim


@dataclass(frozen=True)
class Window:
    """A window along one axis: ONNX's numbers, and the size of the input."""

    size: Dim
    kernel: int
    stride: int
    dilation: int
    pads: tuple[int, int] | None  # None: as auto_pad says of a size that only the run shows

    @property
    def known(self) -> bool:
        return isinstance(self.size, int)

    @property
    def ends(self) -> tuple[int, int]:
        """The pads as numbers."""
        if self.pads is None:
            raise ValueError("padding that hangs on a size which only the run shows")
        return self.pads

    @property
    def span(self) -> int:
        """How far the window reaches."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def same(self) -> tuple[int, int] | None:
        """What `padding="same"` of Keras pads; None where that depends on an unknown size."""
        if self.stride == 1:
            total = self.span - 1
        elif self.known:
            assert isinstance(self.size, int)
            total = max((-(-self.size // self.stride) - 1) * self.stride + self.span - self.size, 0)
        else:
            return None
        return total // 2, total - total // 2

    @property
    def count(self) -> Dim:
        """How many windows there are."""
        if self.pads is None:
            return (self.size + self.stride - 1) // self.stride
        return (self.size + sum(self.pads) - self.span) // self.stride + 1

    @property
    def overhang(self) -> int:
        """How many cells behind the padding a last, incomplete window needs (`ceil_mode`); with an unknown size,
        so many that it is always complete. A window that would start in the padding is no window."""
        if self.pads is None:
            return 0
        begin, end = self.pads
        most = min(self.stride - 1, self.span - 1 - end)
        if not self.known:
            return max(most, 0)
        assert isinstance(self.size, int)
        left = (self.size + begin + end - self.span) % self.stride
        return self.stride - left if left and self.stride - left <= most else 0


def windows(
    spatial: Sequence[Dim],
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    pads: Sequence[int] | None,
    dilations: Sequence[int] | None,
    auto_pad: str | None = "NOTSET",
) -> list[Window]:
    """One `Window` for each spatial dim. What `auto_pad` leaves without numbers is for the operators to refuse."""
    rank = len(kernel)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pads = [0] * 2 * rank if pads is None or auto_pad == "VALID" else pads
    axes = [
        Window(n, k, s, d if k > 1 else 1, (begin, end))
        for n, k, s, d, begin, end in zip(
            spatial, kernel, strides, dilations, pads[:rank], pads[rank:], strict=True
        )
    ]
    if auto_pad == "SAME_UPPER":
        axes = [replace(axis, pads=axis.same) for axis in axes]
    elif auto_pad == "SAME_LOWER":
        axes = [replace(axis, pads=axis.same and axis.same[::-1]) for axis in axes]
    return axes


def pool_windows(
    spatial: Sequence[Dim],
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    pads: Sequence[int] | None,
    dilations: Sequence[int] | None,
    auto_pad: str | None = "NOTSET",
) -> list[Window]:
    """`windows` of a pool: onnxruntime's auto_pad pads for its kernel as if it were not dilated."""
    axes = windows(spatial, kernel, strides, pads, None, auto_pad)
    return [
        replace(axis, dilation=dilation if axis.kernel > 1 else 1)
        for axis, dilation in zip(axes, dilations or [1] * len(axes), strict=True)
    ]


def with_overhang(axes: Sequence[Window], ceil_mode: int | None) -> list[Window]:
    """The axes with what `ceil_mode` asks for in their padding."""
    return [
        replace(axis, pads=(axis.pads[0], axis.pads[1] + axis.overhang)) if ceil_mode and axis.pads else axis
        for axis in axes
    ]


def transposed_size(size: Dim, axis: Window, extra: int) -> Dim:
    """How long the output of a transposed convolution with auto_pad="SAME_…" is: the input times the stride, or less
    where the windows do not reach that far."""
    short = min(axis.span + extra - axis.stride, 0)
    return size * axis.stride + short
