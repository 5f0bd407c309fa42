"""Operators of which the numbers decide how much they give: the places that are not zero, the elements that a mask
picks, those that are there once."""

from __future__ import annotations

import functools
from typing import cast

import onnx_ir as ir
from keras import ops

from bridge.graph.shapes import Dim
from bridge.keras_compat import counts_while_running
from bridge.ops import dims
from bridge.ops.contract import Refused, Site, Step, Tensor
from bridge.ops.registry import op


def _no_axis(step: Step) -> str | None:
    return None if step.shape() else "it is given one number; give it an axis"


@op("NonZero", check=_no_axis)
def non_zero(site: Site, x):
    _require_counting()
    flat, found = dims.places(x), list[Tensor]()
    for dim in reversed(site.shape()[1:]):
        size = dims.size(site, dim)
        found.append(ops.mod(flat, size))
        flat = ops.floor_divide(flat, size)
    return ops.stack([ops.cast(places, site.dtype) for places in (flat, *reversed(found))])


@op("Compress")
def compress(site: Site, x, condition, *, axis=None):
    shape, (asked,) = site.shape(), site.shape(1)
    dim = (
        functools.reduce(lambda count, size: size * count, shape, cast("Dim", 1))
        if axis is None
        else shape[axis]
    )
    x, axis = (ops.reshape(x, (-1,)), 0) if axis is None else (x, axis)
    if isinstance(dim, int) and isinstance(asked, int):
        condition = condition[(slice(dim),)] if asked > dim else condition
    elif dim != asked:  # which may ask for more than there are
        condition = ops.logical_and(condition, ops.less(dims.positions(site, asked), dims.size(site, dim)))
    _require_counting()
    return ops.take(x, dims.places(condition), axis=axis)


@op("Unique", check=_no_axis)
def unique(site: Site, x, *, axis=None, sorted=1):
    """Those that are not to be sorted stand in the order in which they are found first."""
    _require_counting()
    x, axis = (ops.reshape(x, (-1,)), 0) if axis is None else (x, axis)
    found = ops.unique(x, return_index=True, return_inverse=True, return_counts=True, axis=axis)
    values, first, inverse, counts = found
    kind = site.float_type(ir.DataType.INT64)
    if not sorted:
        order = ops.argsort(first)
        values = ops.take(values, order, axis=axis)
        first, counts = ops.take(first, order), ops.take(counts, order)
        inverse = ops.take(ops.argsort(order), inverse)
    return values, *(dims.cast(y, kind) for y in (first, inverse, counts))


def _require_counting() -> None:
    if not counts_while_running():
        raise Refused(
            "how much it gives the numbers decide, which jax cannot; use Keras on TensorFlow or torch"
        )
