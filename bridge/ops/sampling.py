"""GridSample: a picture read at positions that the graph computes."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
from keras import ops

from bridge.ops import dims
from bridge.ops.contract import Site, Step, Tensor
from bridge.ops.layouts import CHANNELS_LAST
from bridge.ops.registry import op

CUBIC = -0.75  # torch's and ONNX's


def _check_grid(step: Step) -> str | None:
    if step.argument("mode") == "cubic" and len(step.shape()) != 4:
        return "mode='cubic' for pictures of two dimensions only; use 'linear'"
    return None


@op("GridSample", layout=CHANNELS_LAST, check=_check_grid, makes=dims.RESHAPING)
def grid_sample(site: Site, x, grid, *, align_corners=0, mode="linear", padding_mode="zeros"):
    """The grid is as ONNX has it: (batch, positions…, coordinates), the last spatial axis first, from -1 to 1."""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    grid = site.at_run_time(grid) if isinstance(grid, np.ndarray) else grid
    sizes = [dims.size(site, dim) for dim in site.shape()[1:-1]]
    rank = len(sizes)
    places = []
    for axis, size in enumerate(sizes):
        size = ops.cast(size, site.dtype)
        along = grid[..., rank - 1 - axis]
        places.append((along + 1) / 2 * (size - 1) if align_corners else ((along + 1) * size - 1) / 2)
    inside = functools.partial(_inside, mode=padding_mode, align=bool(align_corners), dtype=site.dtype)
    if mode != "cubic":
        places = [inside(place, size) for place, size in zip(places, sizes, strict=True)]
    read = functools.partial(_read, site, x, sizes)
    if mode == "nearest":
        return read([ops.round(place) for place in places])
    low = [ops.floor(place) for place in places]
    part = [place - floor for place, floor in zip(places, low, strict=True)]
    steps = (0, 1) if mode == "linear" else (-1, 0, 1, 2)
    weigh = _triangle if mode == "linear" else _cubic
    total = 0
    for cell in itertools.product(steps, repeat=rank):
        weights = [weigh(p - step) for p, step in zip(part, cell, strict=True)]
        cells = [floor + step for floor, step in zip(low, cell, strict=True)]
        if mode == "cubic":
            cells = [inside(place, size) for place, size in zip(cells, sizes, strict=True)]
        total = total + read(cells) * ops.expand_dims(functools.reduce(ops.multiply, weights), -1)
    return total


def _triangle(distance: Tensor) -> Tensor:
    return 1 - ops.abs(distance)


def _cubic(distance: Tensor) -> Tensor:
    d = ops.abs(distance)
    near = ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1
    return ops.where(d <= 1, near, ((CUBIC * d - 5 * CUBIC) * d + 8 * CUBIC) * d - 4 * CUBIC)


def _inside(place: Tensor, size: Tensor | int, *, mode: str, align: bool, dtype: str) -> Tensor:
    """A position that lies outside, where the padding puts it."""
    size = ops.cast(size, dtype)
    if mode == "border":
        return ops.minimum(ops.maximum(place, 0), size - 1)
    if mode == "zeros":
        return place
    low, span = (0.0, size - 1) if align else (-0.5, size)
    span = ops.maximum(span, 1)
    distance = ops.abs(place - low)
    turns = ops.floor(distance / span)
    rest = distance - turns * span
    back = ops.where(ops.equal(turns % 2, 0), rest, span - rest) + low
    return ops.minimum(ops.maximum(back, 0), size - 1)


def _read(site: Site, x: Tensor, sizes: list[Tensor | int], cells: list[Tensor]) -> Tensor:
    """The channels at whole positions, zero outside."""
    batch = ops.reshape(dims.positions(site, site.shape()[0]), (-1, *[1] * len(sizes)))
    number, valid = batch, None
    for cell, size in zip(cells, sizes, strict=True):
        cell = ops.cast(cell, "int32")
        within = ops.logical_and(cell >= 0, cell <= size - 1)
        valid = within if valid is None else ops.logical_and(valid, within)
        number = dims.add(ops.multiply(number, size), ops.minimum(ops.maximum(cell, 0), size - 1))
    have = site.shape()
    values = ops.take(dims.reshape(site, x, have, [math.prod(have[:-1]), have[-1]]), number, axis=0)
    return values * ops.expand_dims(ops.cast(valid, site.dtype), -1)
