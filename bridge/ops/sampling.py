"""Pictures read where the graph says: at a grid of places, in boxes."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from keras import ops

from bridge.ops import dims
from bridge.ops.contract import Site, Step, Tensor
from bridge.ops.layouts import CHANNELS_LAST
from bridge.ops.reading import between, pictures, read_at
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
    grid = site.at_run_time(grid)
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
    read = functools.partial(read_at, site, x, pictures(site, site.shape()[0], rank), sizes)
    if mode == "nearest":
        return read([ops.round(place) for place in places])
    if mode == "linear":
        return between(read, places)

    def read_inside(cells: Sequence[Tensor]) -> Tensor:
        return read([inside(place, size) for place, size in zip(cells, sizes, strict=True)])

    return between(read_inside, places, (-1, 0, 1, 2), _cubic)


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
    ends = ops.cast(site.at_run_time(rois), site.dtype) * spatial_scale - (0.5 if half else 0.0)
    sizes = [dims.size(site, dim) for dim in site.shape()[1:-1]]
    places, inside = [], []
    for axis, (size, count) in enumerate(zip(sizes, (output_height, output_width), strict=True)):
        first, last = (ops.reshape(ends[:, side - axis], (-1, 1, 1, 1, 1)) for side in (1, 3))  # x before y
        extent = last - first if half else ops.maximum(last - first, 1)
        points = (np.arange(count * sampling_ratio) + 0.5) / (count * sampling_ratio)
        laid = (count, sampling_ratio, 1, 1) if axis == 0 else (1, 1, count, sampling_ratio)
        place = dims.add(ops.multiply(extent, points.reshape(laid).astype(site.dtype)), first)
        edge = ops.cast(size, site.dtype)
        inside.append(ops.logical_and(place >= -1, place <= edge))
        places.append(ops.minimum(ops.maximum(place, 0), edge - 1))
    rows = ops.reshape(dims.cast(batch_indices, "int32"), (-1, 1, 1, 1, 1))
    read = functools.partial(read_at, site, x, rows, sizes)
    found = between(read, places, join=ops.maximum if mode == "max" else ops.add)
    found = found * ops.expand_dims(ops.cast(ops.logical_and(*inside), site.dtype), -1)
    return (ops.max if mode == "max" else ops.mean)(found, axis=(2, 4))


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
