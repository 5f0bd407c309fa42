"""Resize: Keras's layers where they mean the same; otherwise each axis by itself, from the cells that ONNX names.

Positions in the input are those of `positions.py`; sizes that only the run shows are tensors in the same formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from types import ModuleType
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from bridge.graph.decimals import fraction
from bridge.graph.shapes import Dim, kept_ratio, shape_of
from bridge.ops import dims
from bridge.ops.contract import Array, Dims, Site, Step, Tensor
from bridge.ops.layouts import CHANNELS_LAST
from bridge.ops.positions import (
    POSITIONS,
    ROUNDED,
    WHOLE,
    Line,
    Numbers,
    align_corners,
    half_pixel,
    symmetric,
    within_region,
)
from bridge.ops.registry import op

if TYPE_CHECKING:
    from collections.abc import Callable


UPSAMPLING = {1: keras.layers.UpSampling1D, 2: keras.layers.UpSampling2D, 3: keras.layers.UpSampling3D}


def _check_resize(step: Step) -> str | None:
    mode = step.argument("coordinate_transformation_mode")
    if mode == "tf_crop_and_resize" and (step.argument("antialias") or not _known(step)):
        return (
            "coordinate_transformation_mode='tf_crop_and_resize' of a free size, or smoothed; crop with Slice"
        )
    if step.argument("keep_aspect_ratio_policy") != "stretch" and not _known(step):
        return (
            "keep_aspect_ratio_policy of a free size, from which the others follow; give the sizes themselves"
        )
    smooth = step.argument("antialias") and step.argument("mode") != "nearest"
    if (
        smooth
        and not step.argument("exclude_outside")
        and step.argument("scales") is None
        and not _known(step)
    ):
        return "antialias with exclude_outside=0 from an unknown size to a given one; give the scales"
    if 0 in shape_of(step.node.outputs[0]):
        return "there is nothing in its output"
    return None


def _known(step: Step) -> bool:
    return all(isinstance(dim, int) for dim in (*step.shape(), *shape_of(step.node.outputs[0])))


@op("Resize", layout=CHANNELS_LAST, check=_check_resize, makes=tuple(UPSAMPLING.values()))
def resize(
    site: Site, x, roi: Array = None, scales: Array = None, sizes: Dims = None,
    *, antialias=0, axes=None, coordinate_transformation_mode="half_pixel", cubic_coeff_a=-0.75, exclude_outside=0,
    extrapolation_value=0.0, keep_aspect_ratio_policy="stretch", mode="nearest", nearest_mode="round_prefer_floor",
):  # fmt: skip
    factors = (
        _kept(site, sizes, axes, keep_aspect_ratio_policy) if scales is None else list(map(fraction, scales))
    )
    where = POSITIONS[coordinate_transformation_mode]
    lines = _lines(site, factors, axes, roi if where is within_region else None)
    if mode == "nearest":
        x = _nearest(site, x, lines, where, ROUNDED[nearest_mode])
        return _beyond(site, x, lines, extrapolation_value)
    if mode == "linear" and not antialias and where is half_pixel:
        native = _bilinear(site, x, lines)
        if native is not None:
            return native
    for line in lines:
        if antialias:
            curve, reach = (_cubic(cubic_coeff_a), 2) if mode == "cubic" else (_triangle, 1)
            x = _smoothed(site, x, line, where, curve, reach, bool(exclude_outside))
        elif mode == "linear":
            x = _linear(site, x, line, where)
        else:
            x = _interpolated(site, x, line, where, cubic_coeff_a, bool(exclude_outside))
    return _beyond(site, x, lines, extrapolation_value)


def _lines(
    site: Site, factors: Sequence[Fraction], axes: Sequence[int] | None, roi: np.ndarray | None
) -> list[Line]:
    """The axes that change, in stored order."""
    have, want, named = site.shape(), site.out_shape(), _named(site, axes)
    given = dict(zip(named, factors, strict=False))
    ends = [] if roi is None else [fraction(number) for number in roi.tolist()]
    regions = dict(zip(named, zip(ends[: len(named)], ends[len(named) :], strict=True), strict=False))
    lines = [
        Line(place, have[place], want[place], given.get(axis), regions.get(axis))
        for place, axis in enumerate(site.perm())
    ]
    return [
        line
        for line in lines
        if line.n != line.m or (line.scale or 1) != 1 or (line.region or WHOLE) != WHOLE
    ]


def _named(site: Site, axes: Sequence[int] | None) -> list[int]:
    rank = len(site.shape())
    return [axis % rank for axis in axes] if axes else list(range(rank))


def _kept(site: Site, sizes: Sequence[Dim] | None, axes: Sequence[int] | None, policy: str) -> list[Fraction]:
    """The one scale of all axes that keeps the aspect ratio; none where each axis has its own."""
    if policy == "stretch" or sizes is None:
        return []
    have, named = site.step.shape(), _named(site, axes)
    known = [(size, have[axis]) for size, axis in zip(sizes, named, strict=True)]
    numbers = [(m, n) for m, n in known if isinstance(m, int) and isinstance(n, int)]
    return [kept_ratio(policy, numbers)] * len(named)


def _fractions(
    site: Site, line: Line, where: Callable[..., tuple[Numbers, Numbers]]
) -> tuple[Numbers, Numbers, Numbers]:
    """Numerators, denominator, and the size of the input."""
    n, m = (size if isinstance(size, int) else dims.size(site, size) for size in (line.n, line.m))
    i = dims.positions(site, line.m)
    if isinstance(i, np.ndarray):
        i = i.astype(np.int64) if isinstance(n, int) else ops.add(n * 0, i.astype(np.int32))
    top, bottom = where(line, i, n, m)
    return top, bottom, n


def _clipped(numbers: Numbers, low: Numbers, high: Numbers) -> Numbers:
    if all(isinstance(value, int | np.ndarray) for value in (numbers, low, high)):
        return np.clip(numbers, low, high)
    return ops.minimum(ops.maximum(numbers, low), high)


def _beyond(site: Site, x: Tensor, lines: list[Line], number: float) -> Tensor:
    """x, with `number` where a region of the input reaches beyond it."""
    for line in lines:
        if line.region is None:
            continue
        top, bottom, n = _fractions(site, line, within_region)
        inside = np.logical_and(top >= 0, top <= (n - 1) * bottom)
        if not inside.all():
            x = ops.where(_along(site, x, line.axis, inside) > 0, x, site.array(np.float32(number)))
    return x


# --- the modes ---------------------------------------------------------------------------------------------------


def _nearest(site: Site, x: Tensor, lines: list[Line], where: Callable, rounded: Callable) -> Tensor:
    factors = {line.axis: line.factor for line in lines}
    rank = len(x.shape) - 2
    inside = all(0 < axis <= rank for axis in factors)
    if inside and rank in UPSAMPLING and all(_repeats(line, where, rounded) for line in lines):
        size = tuple(factors.get(axis, 1) for axis in range(1, rank + 1))
        return site.layer(UPSAMPLING[rank], size=size if rank > 1 else size[0])(x)
    for line in lines:
        top, bottom, n = _fractions(site, line, where)
        x = ops.take(x, _clipped(rounded(top, bottom), 0, n - 1), axis=line.axis)
    return x


def _repeats(line: Line, where: Callable, rounded: Callable) -> bool:
    """Whether each cell just comes `factor` times."""
    k = line.factor
    if k is None or where in (align_corners, symmetric, within_region):
        return False
    top, bottom = where(Line(line.axis, 4, 4 * k, line.scale), np.arange(4 * k), 4, 4 * k)
    return np.array_equal(np.clip(rounded(top, bottom), 0, 3), np.arange(4 * k) // k)


def _bilinear(site: Site, x: Tensor, lines: list[Line]) -> Tensor | None:
    """Keras's own, for pictures in single precision."""
    if len(x.shape) != 4 or site.dtype != "float32" or not all(line.axis in (1, 2) for line in lines):
        return None
    factors = {line.axis: line.factor for line in lines}
    if all(factors.values()):
        size = (factors.get(1, 1), factors.get(2, 1))
        return site.layer(keras.layers.UpSampling2D, size=size, interpolation="bilinear")(x)
    sizes = [next((line.m for line in lines if line.axis == axis), site.shape()[axis]) for axis in (1, 2)]
    exact = all(
        line.scale is None or line.scale * line.n == line.m for line in lines if isinstance(line.n, int)
    )
    if exact and all(isinstance(size, int) for size in (*sizes, *site.shape()[1:3])):
        return ops.image.resize(x, sizes, interpolation="bilinear", data_format="channels_last")
    return None


def _along(site: Site, x: Tensor, axis: int, weights: Numbers | float) -> Tensor:
    """A vector of weights that broadcasts along `axis` of x."""
    shape = [-1] + [1] * (len(x.shape) - axis - 1)
    if isinstance(weights, np.ndarray):
        return weights.reshape(shape).astype(site.dtype)
    return ops.reshape(weights, shape)


def _ratio(site: Site, top: Numbers, bottom: Numbers) -> Tensor:
    if isinstance(top, np.ndarray) and isinstance(bottom, int):
        return top / bottom
    return ops.cast(top, site.dtype) / ops.cast(bottom, site.dtype)


def _linear(site: Site, x: Tensor, line: Line, where: Callable) -> Tensor:
    top, bottom, n = _fractions(site, line, where)
    top = _clipped(top, 0, (n - 1) * bottom)
    low = top // bottom
    weight = _along(site, x, line.axis, _ratio(site, top - low * bottom, bottom))
    before, after = (ops.take(x, cell, axis=line.axis) for cell in (low, _clipped(low + 1, 0, n - 1)))
    return before + (after - before) * weight


def _interpolated(
    site: Site, x: Tensor, line: Line, where: Callable, a: float, exclude_outside: bool
) -> Tensor:
    """Cubic, from four cells; what lies outside is the edge, or left out."""
    top, bottom, n = _fractions(site, line, where)
    low = top // bottom
    offset = _ratio(site, top - low * bottom, bottom)
    curve = _cubic(a)
    cells = [low + step for step in (-1, 0, 1, 2)]
    weights: list[Numbers | float] = [curve(offset - step) for step in (-1, 0, 1, 2)]
    if exclude_outside:
        inside = [_among(cell).equal(_clipped(cell, 0, n - 1), cell) for cell in cells]
        weights = [weight * dims.cast(i, site.dtype) for weight, i in zip(weights, inside, strict=True)]
        total = sum(weights[1:], weights[0])
        weights = [weight / total for weight in weights]
    parts = [
        ops.take(x, _clipped(cell, 0, n - 1), axis=line.axis) * _along(site, x, line.axis, weight)
        for cell, weight in zip(cells, weights, strict=True)
    ]
    return sum(parts[1:], parts[0])


def _among(numbers: Numbers) -> ModuleType:
    return np if isinstance(numbers, np.ndarray) else ops


def _triangle(distance: Numbers) -> Numbers:
    among = _among(distance)
    return among.maximum(1 - among.abs(distance), 0)


def _cubic(a: float) -> Callable[[Numbers], Numbers]:
    """Keys's cubic convolution kernel."""

    def curve(distance: Numbers) -> Numbers:
        among = _among(distance)
        d = among.abs(distance)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return among.where(d <= 1, near, among.where(d < 2, far, d * 0))

    return curve


def _smoothed(
    site: Site, x: Tensor, line: Line, where: Callable, curve: Callable, reach: int, exclude_outside: bool
) -> Tensor:
    """Antialiased: every cell under the kernel, which is as wide as the output's cells; weights add up to one. What
    lies outside is left out, or is the edge."""
    top, bottom, n = _fractions(site, line, where)
    ratio = float(1 / line.scale) if line.scale is not None else line.n / line.m if _is_known(line) else None
    if ratio is None:
        ratio = ops.cast(n, site.dtype) / ops.cast(dims.size(site, line.m), site.dtype)
    width = max(ratio, 1.0) if isinstance(ratio, float) else ops.maximum(ratio, 1.0)
    j = dims.positions(site, line.n)
    if not exclude_outside:
        more = int(np.ceil(reach * width)) + 1
        j = dims.positions(site, line.n + 2 * more) - more
        x = ops.take(x, _clipped(j, 0, n - 1), axis=line.axis)
    centre = _ratio(site, top, bottom)
    j = j if isinstance(centre, np.ndarray) and isinstance(j, np.ndarray) else dims.cast(j, site.dtype)
    weights = curve((j[None, :] - centre[:, None]) / width)
    weights = weights / _among(weights).sum(weights, axis=1, keepdims=True)
    names = "abcde"[: len(x.shape)]
    source = names[line.axis]
    return ops.einsum(f"{names},z{source}->{names.replace(source, 'z')}", x, dims.cast(weights, site.dtype))


def _is_known(line: Line) -> bool:
    return isinstance(line.n, int) and isinstance(line.m, int)
