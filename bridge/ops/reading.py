"""Reading pictures at positions that the graph computes, whole ones or between them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

from keras import ops

from bridge.graph.shapes import Dim
from bridge.ops import dims
from bridge.ops.contract import Site, Tensor


def triangle(distance: Tensor) -> Tensor:
    return 1 - ops.abs(distance)


def read_at(
    site: Site, x: Tensor, rows: Tensor, sizes: list[Tensor | int], cells: Sequence[Tensor]
) -> Tensor:
    """The channels of the pictures `rows` at whole positions, zero outside."""
    number, valid = rows, None
    for cell, size in zip(cells, sizes, strict=True):
        cell = ops.cast(cell, "int32")
        within = ops.logical_and(cell >= 0, cell <= size - 1)
        valid = within if valid is None else ops.logical_and(valid, within)
        number = dims.add(ops.multiply(number, size), ops.minimum(ops.maximum(cell, 0), size - 1))
    *spatial, channels = site.shape()
    have = [*spatial, channels if x.shape[-1] is None else x.shape[-1]]  # of which some may be given
    values = ops.take(dims.reshape(site, x, have, [math.prod(have[:-1]), have[-1]]), number, axis=0)
    return values * ops.expand_dims(ops.cast(valid, site.dtype), -1)


def pictures(site: Site, batch: Dim, rank: int) -> Tensor:
    """The number of each picture, beside positions of that rank in it."""
    return ops.reshape(dims.positions(site, batch), (-1, *[1] * rank))


def between(
    read: Callable[[list[Tensor]], Tensor],
    places: Sequence[Tensor],
    steps: Sequence[int] = (0, 1),
    weigh: Callable[[Tensor], Tensor] = triangle,
    join: Callable[[Tensor, Tensor], Tensor] = ops.add,
) -> Tensor:
    """What stands at places between whole ones: what `read` gives for those, each with its weight."""
    low = [ops.floor(place) for place in places]
    part = [place - floor for place, floor in zip(places, low, strict=True)]
    terms = []
    for cell in itertools.product(steps, repeat=len(places)):
        weights = [weigh(p - step) for p, step in zip(part, cell, strict=True)]
        cells = [floor + step for floor, step in zip(low, cell, strict=True)]
        terms.append(read(cells) * ops.expand_dims(functools.reduce(ops.multiply, weights), -1))
    return functools.reduce(join, terms)
