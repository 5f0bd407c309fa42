"""Pictures read at positions that the graph computes: a grid of them, boxes, the places of a kernel moved."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from keras import ops

from bridge.graph.shapes import Dim
from bridge.graph.windows import Window, windows
from bridge.ops import dims
from bridge.ops.contract import Site, Step, Tensor
from bridge.ops.convolution import CONV, convolved
from bridge.ops.layouts import CHANNELS_LAST
from bridge.ops.registry import op
from bridge.weights.weight import Weight

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
    read = functools.partial(_read, site, x, _rows(site, site.shape()[0], rank), sizes)
    if mode == "nearest":
        return read([ops.round(place) for place in places])
    if mode == "linear":
        return _between(read, places)

    def read_inside(cells: Sequence[Tensor]) -> Tensor:
        return read([inside(place, size) for place, size in zip(cells, sizes, strict=True)])

    return _between(read_inside, places, (-1, 0, 1, 2), _cubic)


def _check_regions(step: Step) -> str | None:
    if step.argument("sampling_ratio") < 1:
        return "sampling_ratio=0: how many points it reads hangs on the sizes of the boxes; export it with 2"
    return None


@op("RoiAlign", layout=CHANNELS_LAST, check=_check_regions, makes=dims.RESHAPING)
def roi_align(
    site: Site, x, rois, batch_indices,
    *, coordinate_transformation_mode="half_pixel", mode="avg", output_height=1, output_width=1, sampling_ratio=0,
    spatial_scale=1.0,
):  # fmt: skip
    """The mean of the points in each bin of a box; of `max` the largest of their four terms, as in onnxruntime."""
    half = coordinate_transformation_mode == "half_pixel"
    ends = dims.cast(rois, site.dtype) * spatial_scale - (0.5 if half else 0.0)
    sizes = [dims.size(site, dim) for dim in site.shape()[1:-1]]
    places, inside = [], []
    for axis, (size, count) in enumerate(zip(sizes, (output_height, output_width), strict=True)):
        first, last = (ops.reshape(ends[:, side - axis], (-1, 1, 1, 1, 1)) for side in (1, 3))  # x before y
        extent = last - first if half else ops.maximum(last - first, 1)
        points = (np.arange(count * sampling_ratio) + 0.5) / (count * sampling_ratio)
        laid = (count, sampling_ratio, 1, 1) if axis == 0 else (1, 1, count, sampling_ratio)
        place, edge = first + extent * points.reshape(laid).astype(site.dtype), ops.cast(size, site.dtype)
        inside.append(ops.logical_and(place >= -1, place <= edge))
        places.append(ops.minimum(ops.maximum(place, 0), edge - 1))
    rows = ops.reshape(dims.cast(batch_indices, "int32"), (-1, 1, 1, 1, 1))
    read = functools.partial(_read, site, x, rows, sizes)
    found = _between(read, places, join=ops.maximum if mode == "max" else ops.add)
    found = found * ops.expand_dims(ops.cast(ops.logical_and(*inside), site.dtype), -1)
    return (ops.max if mode == "max" else ops.mean)(found, axis=(2, 4))


def _check_moved(step: Step) -> str | None:
    if len(step.shape()) != 4:
        return "pictures of two dimensions only"
    return dims.unknown_channels(step)


@op("DeformConv", layout=CHANNELS_LAST, check=_check_moved, makes=(CONV[2], *dims.RESHAPING))
def deform_conv(
    site: Site, x, w: Weight, offset, b: Weight | Tensor | None = None, mask=None,
    *, dilations=None, group=1, kernel_shape=None, offset_group=1, pads=None, strides=None,
):  # fmt: skip
    """What each place of the kernel meets is laid out as a picture, which is convolved without overlap."""
    kernel, (batch, _, *out) = w.dims[2:], site.shape(2)
    axes = windows(site.shape()[1:-1], kernel, strides, pads, dilations, "NOTSET")
    rows, sizes = _rows(site, batch, 4), [dims.size(site, dim) for dim in site.shape()[1:-1]]
    moved = _by_group(site, offset, 2, [batch, offset_group, *kernel, 2, *out], (4, 1, 0, 5, 2, 6, 3))
    grids = [_grid(site, *item) for item in enumerate(zip(axes, out, strict=True))]
    parts = []
    for index, part in enumerate(ops.split(x, offset_group, axis=-1)):
        places = [moved[axis, index] + grid for axis, grid in enumerate(grids)]
        parts.append(_between(functools.partial(_read, site, part, rows, sizes), places))
    met = ops.concatenate(parts, axis=-1)
    if mask is not None:
        seen = _by_group(site, mask, 4, [batch, offset_group, *kernel, *out], (0, 4, 2, 5, 3, 1))
        met = met * ops.repeat(seen, x.shape[-1] // offset_group, axis=-1)
    have = [dim for pair in zip(out, kernel, strict=True) for dim in pair]
    laid = [dim * count for dim, count in zip(out, kernel, strict=True)]
    met = dims.reshape(site, met, [batch, *have, x.shape[-1]], [batch, *laid, x.shape[-1]])
    apart = [Window(size, count, count, 1, (0, 0)) for size, count in zip(laid, kernel, strict=True)]
    return convolved(site, met, w, b, apart, group, "valid", depthwise=False)


def _by_group(site: Site, x: Tensor, index: int, parts: Sequence[Dim], order: Sequence[int]) -> Tensor:
    """Input `index`, whose channels are `parts`, with the axes in another order: each of the output before the
    kernel's."""
    return ops.transpose(dims.reshape(site, x, site.shape(index), parts), order)


def _grid(site: Site, index: int, along: tuple[Window, Dim]) -> Tensor:
    """Where the kernel meets the picture along one axis: for each place of the output, and each of the kernel."""
    axis, dim = along
    starts = ops.reshape(dims.positions(site, dim) * axis.stride, (-1, 1))
    grid = dims.add(starts, np.arange(axis.kernel, dtype="int32")[None] * axis.dilation - axis.ends[0])
    return ops.cast(
        ops.reshape(grid, (-1, axis.kernel, 1, 1) if index == 0 else (1, 1, -1, axis.kernel)), site.dtype
    )


def _rows(site: Site, batch: Dim, rank: int) -> Tensor:
    """The number of each picture, beside positions of that rank in it."""
    return ops.reshape(dims.positions(site, batch), (-1, *[1] * rank))


def _between(
    read: Callable[[list[Tensor]], Tensor],
    places: Sequence[Tensor],
    steps: Sequence[int] = (0, 1),
    weigh: Callable[[Tensor], Tensor] | None = None,
    join: Callable[[Tensor, Tensor], Tensor] = ops.add,
) -> Tensor:
    """What stands at places between whole ones: what `read` gives for those, each with its weight."""
    low = [ops.floor(place) for place in places]
    part = [place - floor for place, floor in zip(places, low, strict=True)]
    terms = []
    for cell in itertools.product(steps, repeat=len(places)):
        weights = [(weigh or _triangle)(p - step) for p, step in zip(part, cell, strict=True)]
        cells = [floor + step for floor, step in zip(low, cell, strict=True)]
        terms.append(read(cells) * ops.expand_dims(functools.reduce(ops.multiply, weights), -1))
    return functools.reduce(join, terms)


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


def _read(site: Site, x: Tensor, rows: Tensor, sizes: list[Tensor | int], cells: Sequence[Tensor]) -> Tensor:
    """The channels of the pictures `rows` at whole positions, zero outside."""
    number, valid = rows, None
    for cell, size in zip(cells, sizes, strict=True):
        cell = ops.cast(cell, "int32")
        within = ops.logical_and(cell >= 0, cell <= size - 1)
        valid = within if valid is None else ops.logical_and(valid, within)
        number = dims.add(ops.multiply(number, size), ops.minimum(ops.maximum(cell, 0), size - 1))
    have = [*site.shape()[:-1], x.shape[-1]]
    values = ops.take(dims.reshape(site, x, have, [math.prod(have[:-1]), have[-1]]), number, axis=0)
    return values * ops.expand_dims(ops.cast(valid, site.dtype), -1)
