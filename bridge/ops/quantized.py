"""Numbers as integers with a scale and a zero point, and back. What computes with such integers is written in ONNX's
other operators on the way in (`frontend/onnx/integers.py`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from keras import ops

from bridge.graph.few_bits import limits
from bridge.graph.rewriting import input_of
from bridge.ops.contract import Site, Step, Tensor
from bridge.ops.dims import add, positions
from bridge.ops.few_bits import lacking, narrowed
from bridge.ops.layouts import FIRST_INPUT
from bridge.ops.registry import op
from bridge.weights.weight import Weight


def _check_types(step: Step) -> str | None:
    x, y = input_of(step.node, 0), step.node.outputs[0]
    for value in (x, y):
        if value.dtype is not None and (reason := lacking(value.dtype)):
            return reason
    if step.argument("precision") not in (None, 0, x.dtype):
        return f"it divides in {ir.DataType(step.argument('precision'))}; leave precision out"
    return None


@op("QuantizeLinear", layout=FIRST_INPUT, axes="axis", check=_check_types)
def quantize_linear(
    site: Site, x, y_scale: Weight | Tensor, y_zero_point=None,
    *, axis=1, block_size=0, output_dtype=0, precision=0, saturate=1,
):  # fmt: skip
    scale, zero = (_along(site, value, axis, block_size) for value in (y_scale, y_zero_point))
    x = x if "float" in str(x.dtype) else ops.cast(x, scale.dtype)
    y, target = ops.divide(x, scale), site.node.outputs[0].dtype or ir.DataType.UINT8
    if target.is_floating_point():
        y = y if zero is None else add(y, ops.cast(zero, y.dtype))
        return ops.cast(narrowed(y, target, saturate), site.dtype)
    y = ops.round(y)
    y = y if zero is None else add(y, ops.cast(zero, y.dtype))
    return ops.cast(ops.clip(y, *limits(target)), site.dtype)


@op("DequantizeLinear", layout=FIRST_INPUT, axes="axis", check=_check_types)
def dequantize_linear(
    site: Site, x, x_scale: Weight | Tensor, x_zero_point=None, *, axis=1, block_size=0, output_dtype=0
):
    scale, zero = (_along(site, value, axis, block_size) for value in (x_scale, x_zero_point))
    if zero is not None:
        wide = "int32" if "int" in str(x.dtype) else x.dtype
        x = ops.subtract(ops.cast(x, wide), ops.cast(zero, wide))
    return ops.cast(ops.multiply(ops.cast(x, scale.dtype), scale), site.dtype)


def _along(site: Site, value: Weight | Tensor | None, axis: int, block_size: int) -> Any:
    """A scale or a zero point, shaped so that it broadcasts: one number, one for each place along the stored `axis`,
    or one for each block of them."""
    if value is None:
        return None
    value = site.array(value.numpy()) if isinstance(value, Weight) else value
    here: Any = np if isinstance(value, np.ndarray) else ops
    rank = len(site.shape())
    if block_size:
        stored = here.transpose(value, site.perm())
        size = site.shape()[axis]
        repeated = here.repeat(stored, block_size, axis=axis)
        if not isinstance(size, int):
            return ops.take(repeated, positions(site, size), axis=axis)
        return repeated[(slice(None),) * axis + (slice(size),)]
    if not len(value.shape):
        return value
    if tuple(value.shape) == (1,):
        return here.reshape(value, ())
    return here.reshape(value, [-1 if place == axis % rank else 1 for place in range(rank)])
