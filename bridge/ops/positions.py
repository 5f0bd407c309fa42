"""Where the cells of what a Resize gives lie in its input: a position is a fraction, as a numerator (of every cell) and
a denominator, so that no rounding decides which cell of the input is meant."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias, cast

from keras import ops

from bridge.graph.shapes import Dim
from bridge.ops.contract import Tensor

WHOLE = Fraction(0), Fraction(1)  # of an input
Numbers: TypeAlias = Tensor | int  # a numpy array, or an integer tensor where a size is symbolic


@dataclass(frozen=True)
class Line:
    """One axis to resize, in stored order: from size n to size m, by `scale` if that is not m / n."""

    axis: int
    n: Dim
    m: Dim
    scale: Fraction | None
    region: tuple[Fraction, Fraction] | None = None  # from where to where the output lies, of the whole input

    @property
    def factor(self) -> int | None:
        """By how much it grows, if that is a whole number whatever its size."""
        if self.scale is not None:
            return self.scale.numerator if self.scale.denominator == 1 else None
        known = isinstance(self.n, int) and isinstance(self.m, int) and self.m % self.n == 0
        return cast("int", self.m) // cast("int", self.n) if known else None


def half_pixel(line: Line, i: Numbers, n: Numbers, m: Numbers) -> tuple[Numbers, Numbers]:
    if line.scale is not None:
        p, q = line.scale.numerator, line.scale.denominator
        return (2 * i + 1) * q - p, 2 * p
    return (2 * i + 1) * n - m, 2 * m


def pytorch_half_pixel(line: Line, i: Numbers, n: Numbers, m: Numbers) -> tuple[Numbers, Numbers]:
    top, bottom = half_pixel(line, i, n, m)
    if isinstance(m, int):
        return (top if m > 1 else top * 0), bottom
    return top * ops.cast(m > 1, "int32"), bottom


def symmetric(line: Line, i: Numbers, n: Numbers, m: Numbers) -> tuple[Numbers, Numbers]:
    """As half_pixel, about the middle of what n times the scale would be before it is rounded to m."""
    if line.scale is None:
        return half_pixel(line, i, n, m)
    p, q = line.scale.numerator, line.scale.denominator
    return n * p - m * q + (2 * i + 1) * q - p, 2 * p


def align_corners(line: Line, i: Numbers, n: Numbers, m: Numbers) -> tuple[Numbers, Numbers]:
    return i * (n - 1), (max(m - 1, 1) if isinstance(m, int) else ops.maximum(m - 1, 1))


def asymmetric(line: Line, i: Numbers, n: Numbers, m: Numbers) -> tuple[Numbers, Numbers]:
    if line.scale is not None:
        return i * line.scale.denominator, line.scale.numerator
    return i * n, m


def within_region(line: Line, i: Numbers, n: int, m: int) -> tuple[Numbers, Numbers]:
    """From the start of the region to its end; in its middle where the output is of one."""
    start, end = line.region or WHOLE
    whole = math.lcm(start.denominator, end.denominator)
    low, high = int(start * whole), int(end * whole)
    if m > 1:
        return (n - 1) * (low * (m - 1) + i * (high - low)), whole * (m - 1)
    return (n - 1) * (low + high) + i * 0, 2 * whole


POSITIONS: dict[str, Callable[..., tuple[Numbers, Numbers]]] = {
    "half_pixel": half_pixel,
    "half_pixel_symmetric": symmetric,
    "pytorch_half_pixel": pytorch_half_pixel,
    "align_corners": align_corners,
    "asymmetric": asymmetric,
    "tf_crop_and_resize": within_region,
}
ROUNDED: dict[str, Callable[[Numbers, Numbers], Numbers]] = {
    "floor": lambda top, bottom: top // bottom,
    "ceil": lambda top, bottom: -(-top // bottom),
    "round_prefer_floor": lambda top, bottom: -((bottom - 2 * top) // (2 * bottom)),
    "round_prefer_ceil": lambda top, bottom: (2 * top + bottom) // (2 * bottom),
}
