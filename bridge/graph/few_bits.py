"""Types of few bits, which Keras lacks: their numbers are carried by a type that has all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

CARRIERS = {
    dtype: "float32" if dtype.is_floating_point() else "int8" if dtype.is_signed() else "uint8"
    for dtype in ir.DataType
    if dtype.is_integer() and dtype.bitwidth < 8 or dtype.is_floating_point() and dtype.bitwidth <= 8
}
_BY_NAME = {dtype.numpy().name: carrier for dtype, carrier in CARRIERS.items()}


@dataclass(frozen=True)
class Floats:
    """A type of floating point: the bits behind the point, the exponent of its least normal number, its largest number,
    what is beyond (infinity, or else NaN), whether it has a zero with a sign, and a NaN; one without is saturated."""

    bits: int
    least: int
    largest: float
    endless: bool = False
    signed_zero: bool = True
    nan: bool = True


FLOATS = {
    ir.DataType.FLOAT8E4M3FN: Floats(3, -6, 448.0),
    ir.DataType.FLOAT8E4M3FNUZ: Floats(3, -7, 240.0, signed_zero=False),
    ir.DataType.FLOAT8E5M2: Floats(2, -14, 57344.0, endless=True),
    ir.DataType.FLOAT8E5M2FNUZ: Floats(2, -15, 57344.0, signed_zero=False),
    ir.DataType.FLOAT6E2M3: Floats(3, 0, 7.5, nan=False),
    ir.DataType.FLOAT6E3M2: Floats(2, -2, 28.0, nan=False),
    ir.DataType.FLOAT4E2M1: Floats(1, 0, 6.0, nan=False),
}


def carried(array: np.ndarray) -> np.ndarray:
    """`array` in the type that carries its own."""
    carrier = _BY_NAME.get(array.dtype.name)
    return array if carrier is None else array.astype(carrier)


def limits(dtype: ir.DataType) -> tuple[int, int]:
    """The least and the largest integer of a type."""
    bits = dtype.bitwidth - dtype.is_signed()
    return -(1 << bits) if dtype.is_signed() else 0, (1 << bits) - 1
