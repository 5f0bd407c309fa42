"""Operators that compute with integers in the place of numbers, in ONNX's other operators, exact to the integer.

A number r is the integer q with a scale s and a zero point z: r = s (q - z). Sums of products of such integers are
taken in floating point, where every backend has a fast product: single precision holds the integers below 2^24, and an
operand whose sums might leave them is taken in two parts of four bits. A kernel that is known is a weight that holds
integers, so that its node becomes the layer that it would be of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.frontend.onnx.lowered import MICROSOFT, Writer, known, lowers
from bridge.graph.rewriting import numpy_type
from bridge.graph.shapes import rank, shape_of

FLOAT, INT32 = ir.DataType.FLOAT, ir.DataType.INT32
EXACT = 1 << 24  # below it, every integer is a number of single precision
PARTS = ((1, 1), (2, 1), (2, 2))  # in how many parts the two operands of a product may be taken
HALF = 16  # what an operand in two parts is divided by
BOTH = ("", MICROSOFT)


# --- there and back ----------------------------------------------------------------------------------------------


@lowers("QuantizeLinear", domain=BOTH)
def quantize_linear(
    write: Writer, x, y_scale, y_zero_point=None, *, axis=1, block_size=0, output_dtype=0, precision=0, saturate=1
):  # fmt: skip
    kind = {
        "output_dtype": output_dtype or None,
        "block_size": block_size or None,
        "precision": precision or None,
    }
    return write("QuantizeLinear", x, y_scale, y_zero_point, axis=_axis(y_scale, axis), **kind)


@lowers("DequantizeLinear", domain=BOTH)
def dequantize_linear(write: Writer, x, x_scale, x_zero_point=None, *, axis=1, block_size=0, output_dtype=0):
    """A weight that is stored in integers is a weight of what they stand for."""
    stored, scale, zero = map(known, (x, x_scale, x_zero_point))
    if stored is None or scale is None or (zero is None and x_zero_point is not None):
        kind = {"output_dtype": output_dtype or None, "block_size": block_size or None}
        return write("DequantizeLinear", x, x_scale, x_zero_point, axis=_axis(x_scale, axis), **kind)
    dtype = ir.DataType(output_dtype).numpy() if output_dtype else scale.dtype
    scale, zero = (along(value, stored.shape, axis, block_size) for value in (scale, zero))
    steps = stored if zero is None else _wide(stored) - _wide(zero)
    number = (steps.astype(scale.dtype) * scale).astype(dtype)
    return write.weight(x, ("dequantized", x_scale, x_zero_point, axis, block_size), number)


def _axis(scale: ir.Value, axis: int) -> int:
    """One scale for all has no axis."""
    return 0 if scale.shape is not None and scale.shape in ((), (1,)) else axis


def _wide(array: np.ndarray) -> np.ndarray:
    """Integers and numbers of few bits, wide enough to subtract them."""
    return array.astype(np.int32 if array.dtype.kind in "iu" or "int" in array.dtype.name else np.float32)


def along(value: np.ndarray | None, shape: tuple[int, ...], axis: int, block_size: int) -> Any:
    """A scale or a zero point, shaped so that it broadcasts to `shape`."""
    if value is None or value.ndim == 0:
        return value
    if block_size:
        return value.repeat(block_size, axis).take(range(shape[axis]), axis)
    if value.shape == (1,):
        return value.reshape(())
    return value.reshape([-1 if place == axis % len(shape) else 1 for place in range(len(shape))])


@lowers("DynamicQuantizeLinear")
def dynamic_quantize_linear(write: Writer, x):
    """Scale and zero point of uint8 for the range of x, which zero is made part of."""
    none, steps = write.number(0, x), write.number(255, x)
    low = write("Min", write("ReduceMin", x, keepdims=0), none)
    high = write("Max", write("ReduceMax", x, keepdims=0), none)
    spread = write("Div", write("Sub", high, low), steps)
    scale = write("Where", write("Equal", spread, none), write.number(1, x), spread)
    place = write("Round", write("Clip", write("Neg", write("Div", low, scale)), none, steps))
    zero = write.cast(place, ir.DataType.UINT8)
    return write("QuantizeLinear", x, scale, zero, axis=0), scale, zero


# --- sums of products --------------------------------------------------------------------------------------------


@lowers("MatMulInteger")
def matmul_integer(write: Writer, a, b, a_zero_point=None, b_zero_point=None):
    return sums(write, "MatMul", (a, by_row(write, a_zero_point)), (b, b_zero_point))


@lowers("ConvInteger")
def conv_integer(
    write: Writer, x, w, x_zero_point=None, w_zero_point=None,
    *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None,
):  # fmt: skip
    given = _window(auto_pad, dilations, group, kernel_shape, pads, strides)
    return sums(write, "Conv", (x, x_zero_point), (w, _by_output(write, w_zero_point, w, own=True)), **given)


def _window(auto_pad, dilations, group, kernel_shape, pads, strides) -> dict[str, object]:
    return {
        "auto_pad": None if pads else auto_pad, "dilations": dilations, "group": group,
        "kernel_shape": kernel_shape, "pads": pads, "strides": strides,
    }  # fmt: skip


def by_row(write: Writer, value: ir.Value | None) -> ir.Value | None:
    """One number for each row of a matrix, or one for all."""
    return _unsqueezed(write, value, [-1])


def _by_output(write: Writer, value: ir.Value | None, w: ir.Value, own: bool = False) -> ir.Value | None:
    """One number for each output of the kernel `w`, or one for all, along axis 1 of what it makes or `own` axis 0."""
    return _unsqueezed(write, value, list(range(1, rank(w) - 1 + own)))


def _unsqueezed(write: Writer, value: ir.Value | None, axes: list[int]) -> ir.Value | None:
    if value is None or tuple(shape_of(value)) in ((), (1,)) or rank(value) > 1:
        return value
    stored = known(value)
    if stored is not None:
        return write.constant(np.expand_dims(stored, tuple(axes)), stored.dtype)
    return write("Unsqueeze", value, write.constant(axes))


Integer = tuple[ir.Value, ir.Value | None]  # with its zero point


def sums(write: Writer, op: str, a: Integer, b: Integer, **attributes: object) -> ir.Value:
    """Products of integers of 8 bits, summed by `op` (MatMul or Conv) in 32 bits."""
    left, right = (centred(write, *operand) for operand in (a, b))
    parts = next((parts for parts in PARTS if _most(op, a, b, parts) < EXACT), PARTS[-1])
    total = None
    for factor, one in _parts(write, left, parts[0]):
        for other_factor, other in _parts(write, right, parts[1]):
            part = write.cast(write("Round", write(op, one, other, **attributes)), INT32)
            if factor * other_factor > 1:
                part = write("Mul", part, write.constant(factor * other_factor, np.int32))
            total = part if total is None else write("Add", total, part)
    assert total is not None
    return total


def centred(write: Writer, x: ir.Value, zero: ir.Value | None) -> ir.Value:
    """q - z in single precision."""
    stored, place = known(x), known(zero)
    if stored is not None and (zero is None or place is not None):
        kernel = _wide(stored) if place is None else _wide(stored) - _wide(place)
        return write.weight(x, ("centred", zero), kernel.astype(np.float32))
    number = write.cast(x, FLOAT)
    if zero is None or place is not None and not place.any():
        return number
    return write("Sub", number, write.cast(zero, FLOAT))


def _parts(write: Writer, x: ir.Value, count: int) -> Iterator[tuple[int, ir.Value]]:
    """x as one number, or as sixteen times another and what is left."""
    if count == 1:
        yield 1, x
        return
    whole = write.number(HALF, x)
    high = write("Floor", write("Div", x, whole))
    yield HALF, high
    yield 1, write("Sub", x, write("Mul", high, whole))


def _most(op: str, a: Integer, b: Integer, parts: tuple[int, int]) -> float:
    """The largest that a sum of products may be, where operands are in so many parts."""
    left = HALF if parts[0] > 1 else _largest(*a)
    kernel, zero = known(b[0]), known(b[1])
    axes = tuple(range(1, rank(b[0]))) if op == "Conv" else (max(rank(b[0]) - 2, 0),)
    if kernel is None or parts[1] > 1 or (zero is None and b[1] is not None):
        dims = [shape_of(b[0])[axis] for axis in axes]
        count = math.prod(dim if isinstance(dim, int) else EXACT for dim in dims)
        return left * (HALF if parts[1] > 1 else _largest(*b)) * count
    magnitudes = np.abs(_wide(kernel) - (0 if zero is None else _wide(zero)))
    return left * int(magnitudes.sum(axes).max(initial=0))


def _largest(x: ir.Value, zero: ir.Value | None) -> int:
    """The largest magnitude of q - z."""
    limits = np.iinfo(numpy_type(x))
    place = 0 if zero is None else known(zero)
    if place is None or not np.size(place):
        return limits.max - limits.min
    return max(limits.max - int(np.min(place)), int(np.max(place)) - limits.min)


# --- with the scale of the result --------------------------------------------------------------------------------


@lowers("QLinearMatMul")
def qlinear_matmul(write: Writer, a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point):
    total = matmul_integer(write, a, b, a_zero_point, b_zero_point)
    factor = write("Mul", by_row(write, a_scale), b_scale)
    return rescaled(write, total, write("Div", factor, by_row(write, y_scale)), y_zero_point)


def rescaled(write: Writer, total: ir.Value, factor: ir.Value, zero: ir.Value | None) -> ir.Value:
    """Sums as integers of the result: times `factor`, rounded, behind the zero point."""
    scaled = write("Mul", write.cast(total, factor.dtype or FLOAT), factor)
    return write("QuantizeLinear", scaled, write.number(1, factor), zero, axis=0)


@lowers("QLinearConv")
def qlinear_conv(
    write: Writer, x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, b=None,
    *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None,
):  # fmt: skip
    total = conv_integer(write, x, w, x_zero_point, w_zero_point, **_window(
        auto_pad, dilations, group, kernel_shape, pads, strides))  # fmt: skip
    if b is not None:
        total = write("Add", total, _by_output(write, b, w))
    factor = write("Mul", _by_output(write, x_scale, w), _by_output(write, w_scale, w))
    return rescaled(write, total, write("Div", factor, y_scale), y_zero_point)
