"""Functions of one or two numbers that the stock exporter writes so that they leave their range: `FORMULAS`, by torch's
operator. Each is right at zeros of both signs, tiny and huge numbers, infinities and NaN.
"""

from __future__ import annotations

import math
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnxscript import opset23 as op
from onnxscript.function_libs.torch_lib.ops import core

from bridge.frontend.torch.own_ops import ATAN2, EXPM1, LOG1P, LOG_ADD_EXP, LOG_SIGMOID
from bridge.frontend.torch.traced import Traced, Translations

aten: Any = torch.ops.aten


def number(value: float, like: Traced) -> Traced:
    """A constant of the type of `like`."""
    constant = op.Constant(value=onnx.helper.make_tensor("", int(like.dtype), (), [value]))
    constant.dtype = like.dtype  # which the exporter adds to what a translation returns only
    return constant


def is_float(x: Traced) -> bool:
    return x.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def _tensor(x: Traced, like: Traced) -> Traced:
    """An operand that torch lets be a Python number."""
    return number(x, like) if isinstance(x, int | float) else x


# --- signs ---------------------------------------------------------------------------------------------------


def _sign(x):
    """Zero of NaN."""
    return op.Where(op.IsNaN(x), number(0.0, x), op.Sign(x)) if is_float(x) else op.Sign(x)


def _signbit(x):
    """True of negative zero."""
    below = op.Less(x, number(0, x))
    return op.Or(below, op.Less(op.Reciprocal(x), number(0.0, x))) if is_float(x) else below


def _copysign(x, other):
    magnitude = op.Abs(x)
    return op.Where(_signbit(_tensor(other, x)), op.Neg(magnitude), magnitude)


def _heaviside(x, values):
    """Zero of NaN."""
    step = op.CastLike(op.Greater(x, number(0, x)), x)
    return op.Where(op.Equal(x, number(0, x)), values, step)


def _angle(x):
    """Zero or half a turn, NaN of NaN."""
    turned = op.Where(op.Less(x, number(0.0, x)), number(math.pi, x), number(0.0, x))
    return op.Where(op.IsNaN(x), x, turned)


# --- quotients -----------------------------------------------------------------------------------------------


def _unlike(rest, divisor, like):
    """Where a remainder has not the sign of its divisor."""
    zero = number(0, like)
    differ = op.Xor(op.Less(rest, zero), op.Less(divisor, zero))
    return op.And(differ, op.Not(op.Equal(rest, zero)))


def _remainder(x, divisor):
    """Of the remainder of a division rounded to zero, which is exact."""
    divisor = _tensor(divisor, x)
    if not is_float(x):
        return op.Mod(x, divisor)
    rest = op.Mod(x, divisor, fmod=1)
    return op.Where(_unlike(rest, divisor, x), op.Add(rest, divisor), rest)


def _remainder_of_number(x, divisor):
    return _remainder(_tensor(x, divisor), divisor)


def _floor_divide(x, divisor):
    """torch takes the remainder away before it divides, so that the quotient is whole; zero it divides by as it is."""
    divisor = _tensor(divisor, x)
    if not is_float(x):
        quotient, rest = op.Div(x, divisor), op.Mod(x, divisor, fmod=1)
        return op.Sub(quotient, op.CastLike(_unlike(rest, divisor, x), x))
    rest = op.Mod(x, divisor, fmod=1)
    whole = op.Round(op.Div(op.Sub(x, rest), divisor))
    lower = op.Where(_unlike(rest, divisor, x), op.Sub(whole, number(1.0, x)), whole)
    return op.Where(op.Equal(divisor, number(0.0, x)), op.Div(x, divisor), lower)


def _divide(x, divisor, rounding_mode=None):
    """Whole numbers stay whole, where the stock exporter rounds them to single precision first."""
    divisor = _tensor(divisor, x)
    if rounding_mode == "floor":
        return _floor_divide(x, divisor)
    quotient = op.Div(x, divisor)
    return _trunc(quotient) if rounding_mode == "trunc" and is_float(x) else quotient


def _trunc(x):
    return op.Mul(op.Floor(op.Abs(x)), op.Sign(x))


# --- powers and logarithms -----------------------------------------------------------------------------------


def _power(x, exponent):
    """torch takes a root for the exponent 1/2, which is NaN of -inf. ONNX has no power of narrow whole numbers."""
    if not is_float(x) and x.dtype.bitwidth < 32 and isinstance(exponent, int):
        return op.CastLike(op.Pow(op.Cast(x, to=ir.DataType.INT64), op.Constant(value_int=exponent)), x)
    if not is_float(x) or abs(exponent) != 0.5:
        return core.aten_pow_tensor_scalar(x, exponent)
    root = op.Sqrt(x)
    return root if exponent > 0 else op.Reciprocal(root)


def _xlogy(log):
    """x log(y) that is zero where x is, unless y is NaN."""

    def translate(x, y):
        like = y if isinstance(x, int | float) else x
        x, y, zero = _tensor(x, like), _tensor(y, like), number(0.0, like)
        nothing = op.And(op.Equal(x, zero), op.Not(op.IsNaN(y)))
        return op.Where(nothing, zero, op.Mul(x, log(y)))

    return translate


def _logaddexp2(a, b):
    ln2 = number(math.log(2), a)
    return op.Div(LOG_ADD_EXP(op.Mul(a, ln2), op.Mul(b, ln2)), ln2)


# --- the rest ------------------------------------------------------------------------------------------------


def _hypot(a, b):
    """Of the larger and their ratio, so that no square leaves the range."""
    one, sides = number(1.0, a), (op.Abs(a), op.Abs(b))
    high, low = op.Max(*sides), op.Min(*sides)
    ratio = op.Div(low, op.Where(op.Equal(high, number(0.0, a)), one, high))
    near = op.Mul(high, op.Sqrt(op.Add(op.Mul(ratio, ratio), one)))
    return op.Where(op.Or(op.IsInf(a), op.IsInf(b)), number(math.inf, a), near)


def _lerp(start, end, weight):
    """From the nearer end, as torch goes."""
    weight = _tensor(weight, start)
    way = op.Sub(end, start)
    first = op.Add(start, op.Mul(weight, way))
    last = op.Sub(end, op.Mul(way, op.Sub(number(1.0, start), weight)))
    return op.Where(op.Less(op.Abs(weight), number(0.5, start)), first, last)


def _clamp(x, low=None, high=None):
    """Between two bounds; for one that is left out onnxruntime takes the largest number, and that for infinity."""
    if low is not None and high is not None:
        return core.aten_clamp(x, low, high)
    x = x if low is None else op.Max(x, op.CastLike(low, x))
    return x if high is None else op.Min(x, op.CastLike(high, x))


def _logit(x, eps=None):
    """NaN of NaN, also with `eps`."""
    inside = x if eps is None else op.Min(op.Max(x, number(eps, x)), number(1 - eps, x))
    return op.Log(op.Div(inside, op.Sub(number(1.0, x), inside)))


def _erfcx(x):
    raise NotImplementedError("erfcx has no formula in ONNX that stays within the range of a number")


# --- whole numbers -------------------------------------------------------------------------------------------


def _rounding(round_):
    """Whole numbers are what they are."""
    return lambda x: round_(x) if is_float(x) else op.Identity(x)


def _asks(of_float, of_whole):
    """Whether numbers are finite, infinite or none: the same answer for all whole ones."""

    def translate(x):
        return of_float(x) if is_float(x) else op.Expand(op.Constant(value_int=of_whole), op.Shape(x))

    return lambda x: op.Cast(translate(x), to=ir.DataType.BOOL)


def _neg(x):
    """Unsigned ones wrap round."""
    return op.Sub(number(0, x), x) if x.dtype == ir.DataType.UINT8 else op.Neg(x)


def _shift_left(x, bits):
    """Times a power of two; bits that leave the type are lost."""
    return op.Mul(x, number(2**bits if bits < x.dtype.bitwidth - 1 else 0, x))


def _shift_right(x, bits):
    """Division by a power of two, rounded down."""
    bits = min(bits, x.dtype.bitwidth - 1)
    if x.dtype != ir.DataType.UINT8 and bits == x.dtype.bitwidth - 1:
        return op.Neg(op.CastLike(op.Less(x, number(0, x)), x))
    power = number(2**bits, x)
    return op.Div(op.Sub(x, op.Mod(x, power)), power)


FORMULAS: Translations = {
    aten.atan2.default: ATAN2,
    aten.expm1.default: EXPM1,
    aten.log1p.default: LOG1P,
    aten.logaddexp.default: LOG_ADD_EXP,
    aten.logaddexp2.default: _logaddexp2,
    aten.log_sigmoid.default: LOG_SIGMOID,
    aten.sign.default: _sign,
    aten.sgn.default: _sign,
    aten.signbit.default: _signbit,
    aten.copysign.Tensor: _copysign,
    aten.copysign.Scalar: _copysign,
    aten.heaviside.default: _heaviside,
    aten.angle.default: _angle,
    aten.remainder.Tensor: _remainder,
    aten.remainder.Scalar: _remainder,
    aten.remainder.Scalar_Tensor: _remainder_of_number,
    aten.floor_divide.default: _floor_divide,
    aten.floor_divide.Scalar: _floor_divide,
    aten.xlogy.Tensor: _xlogy(op.Log),
    aten.xlogy.Scalar_Self: _xlogy(op.Log),
    aten.xlogy.Scalar_Other: _xlogy(op.Log),
    aten.special_xlog1py.default: _xlogy(LOG1P),
    aten.special_xlog1py.self_scalar: _xlogy(LOG1P),
    aten.special_xlog1py.other_scalar: _xlogy(LOG1P),
    aten.div.Tensor_mode: _divide,
    aten.div.Scalar_mode: _divide,
    aten.pow.Tensor_Scalar: _power,
    aten.clamp.default: _clamp,
    aten.clamp_min.default: _clamp,
    aten.clamp_max.default: lambda x, high: _clamp(x, None, high),
    aten.round.default: _rounding(op.Round),
    aten.floor.default: _rounding(op.Floor),
    aten.ceil.default: _rounding(op.Ceil),
    aten.trunc.default: _rounding(_trunc),
    aten.fix.default: _rounding(_trunc),
    aten.isnan.default: _asks(op.IsNaN, 0),
    aten.isinf.default: _asks(op.IsInf, 0),
    aten.isfinite.default: _asks(core.aten_isfinite, 1),
    aten.neg.default: _neg,
    aten.bitwise_left_shift.Tensor_Scalar: _shift_left,
    aten.__lshift__.Scalar: _shift_left,
    aten.bitwise_right_shift.Tensor_Scalar: _shift_right,
    aten.__rshift__.Scalar: _shift_right,
    aten.hypot.default: _hypot,
    aten.special_erfcx.default: _erfcx,
    aten.lerp.Scalar: _lerp,
    aten.lerp.Tensor: _lerp,
    aten.logit.default: _logit,
    aten.special_logit.default: _logit,
}
