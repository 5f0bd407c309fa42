"""Numbers made ones of a type of few bits, in the type that carries it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from keras import ops

from bridge.graph.few_bits import CARRIERS, FLOATS, Floats, limits
from bridge.ops.contract import TYPES, Tensor

EXPONENT = 0x7F800000  # of the bits of a float32
LEAST_POWER, MOST_POWER = 2.0**-127, 2.0**127  # of FLOAT8E8M0, which holds nothing else


def lacking(dtype: ir.DataType | None) -> str | None:
    """Why nothing of that type can be computed, or None."""
    return (
        None
        if dtype in CARRIERS or dtype is not None and dtype.numpy().name in TYPES
        else f"Keras has no type {dtype}"
    )


def narrowed(x: Tensor, dtype: ir.DataType, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """The numbers of x as `dtype`, one of `CARRIERS`, has them."""
    if not dtype.is_floating_point():
        return _wrapped(x, dtype)
    x = ops.cast(x, "float32")
    if dtype == ir.DataType.FLOAT8E8M0:
        return _power(x, saturate, round_mode)
    return _rounded(x, FLOATS[dtype], bool(saturate))


def _wrapped(x: Tensor, dtype: ir.DataType) -> Tensor:
    """The lowest bits of integers."""
    low, high = limits(dtype)
    bits = _masked(ops.cast(x, "int32"), high - low)
    whole = ops.where(ops.greater(bits, high), ops.subtract(bits, high - low + 1), bits)
    return ops.cast(whole, CARRIERS[dtype])


def _power_below(x: Tensor) -> Tensor:
    """The largest power of two that is no larger than a magnitude, by its bits; zero of zero and of the least."""
    return ops.view(_masked(ops.view(ops.abs(x), "int32"), EXPONENT), "float32")


def _masked(bits: Tensor, mask: int) -> Tensor:
    """Those of the bits of an int32 that `mask` has, which is an array, as Keras saves a scalar without its type."""
    found = ops.bitwise_and(bits, np.full(1, mask, "int32"))
    return found if len(bits.shape) else ops.reshape(found, ())


def _rounded(x: Tensor, kind: Floats, saturate: bool) -> Tensor:
    """To the nearest, of two the even one. Beyond the largest number is that number, or what the type has there."""
    finite = ops.where(ops.isfinite(x), x, ops.zeros_like(x))
    step = ops.multiply(ops.maximum(_power_below(finite), 2.0**kind.least), 2.0**-kind.bits)
    y = ops.multiply(ops.round(ops.divide(finite, step)), step)
    y = ops.where(ops.isinf(x), x, y)
    if saturate or not kind.nan:
        y = ops.clip(y, -kind.largest, kind.largest)
    else:
        beyond = ops.greater(ops.abs(y), kind.largest)
        outside = ops.multiply(ops.sign(y), float("inf")) if kind.endless else ops.full_like(y, float("nan"))
        y = ops.where(beyond, outside, y)
    y = y if kind.signed_zero else ops.where(ops.equal(y, 0), ops.zeros_like(y), y)
    nothing = ops.full_like(x, float("nan")) if kind.nan else ops.zeros_like(x)
    return ops.where(ops.isnan(x), nothing, y)


def _power(x: Tensor, saturate: int, round_mode: str) -> Tensor:
    """A power of two: the next one up or down, or the nearer one."""
    low = _power_below(x)
    high = ops.multiply(low, 2.0)
    goes_up = {"up": ops.greater(x, low), "nearest": ops.greater_equal(x, ops.multiply(low, 1.5))}
    y = ops.where(goes_up[round_mode], high, low) if round_mode in goes_up else low
    y = ops.maximum(y, LEAST_POWER)
    if saturate:
        y = ops.where(ops.isinf(x), ops.full_like(x, MOST_POWER), ops.minimum(y, MOST_POWER))
    else:
        y = ops.where(ops.greater(y, MOST_POWER), ops.full_like(x, float("nan")), y)
    return ops.where(ops.isnan(x), x, y)
