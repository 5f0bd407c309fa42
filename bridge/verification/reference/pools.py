"""Pools in numpy: onnxruntime has them in 32 bits, and ONNX's evaluator goes from cell to cell in Python."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType

import numpy as np

from bridge.graph.windows import Window, pool_windows, with_overhang
from bridge.verification.metrics import Arrays, Attributes


def average_pool(given: Arrays, attributes: Attributes) -> list[np.ndarray]:
    """Sums by how many cells of the picture, or of its padding too, are in each window."""
    (x,) = given
    axes, whole = _axes(x, attributes)
    counted = np.ones((1, 1, *x.shape[2:]))
    if attributes.get("count_include_pad"):
        counted = _padded(counted, [axis.ends for axis in axes], 1)
        behind = zip(whole, axes, strict=True)
        counted = _padded(counted, [(0, wide.ends[1] - axis.ends[1]) for wide, axis in behind])
    else:
        counted = _padded(counted, [axis.ends for axis in whole])
    sums = _sums(_padded(x, [axis.ends for axis in whole]), whole)
    return [(sums / _sums(counted, whole)).astype(x.dtype)]


def lp_pool(given: Arrays, attributes: Attributes) -> list[np.ndarray]:
    """The p-norm of each window."""
    (x,), p = given, attributes.get("p") or 2
    _, whole = _axes(x, attributes)
    powers = _padded(np.abs(x) ** p, [axis.ends for axis in whole])
    return [(_sums(powers, whole) ** (1 / p)).astype(x.dtype)]


POOLS = {"AveragePool": average_pool, "LpPool": lp_pool}


def _axes(x: np.ndarray, attributes: Attributes) -> tuple[list[Window], list[Window]]:
    """The windows with their padding, and with what `ceil_mode` adds to it."""
    others = (attributes.get(name) for name in ("strides", "pads", "dilations", "auto_pad"))
    axes = pool_windows(x.shape[2:], attributes["kernel_shape"], *others)
    return axes, with_overhang(axes, attributes.get("ceil_mode"))


def _padded(x: np.ndarray, ends: Sequence[tuple[int, int]], value: float = 0) -> np.ndarray:
    return np.pad(x, [(0, 0), (0, 0), *ends], constant_values=value)


def _sums(x: np.ndarray, axes: Sequence[Window]) -> np.ndarray:
    """Of the cells of each window."""
    spatial = tuple(range(2, x.ndim))
    views = np.lib.stride_tricks.sliding_window_view(x, [axis.span for axis in axes], spatial)
    steps = (slice(None, None, axis.stride) for axis in axes)
    cells = (slice(None, None, axis.dilation) for axis in axes)
    inside: tuple[EllipsisType | slice, ...] = (..., *steps, *cells)
    return np.asarray(views[inside].sum(tuple(range(x.ndim, views.ndim))))
