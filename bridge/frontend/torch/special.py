"""Special functions, and functions of whole numbers and truth values, for which the stock exporter has no translation
or one that does not run: `SPECIAL`, by torch's operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx_ir as ir
from onnxscript import opset23 as op
from onnxscript.function_libs.torch_lib.ops import core

from bridge.frontend.torch.axes import typed
from bridge.frontend.torch.formulas import aten, is_float, number
from bridge.frontend.torch.traced import Traced, Translation, Translations

SHIFT = 8  # from here on the asymptotic series of the gamma function and its kin hold
EULER = 0.5772156649015329
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)  # of 2, 4, …
CENTRAL = (  # of erfinv by the logarithm of 1 - x^2: M. Giles, Approximating the erfinv function (2012)
    1.50140941, 0.246640727, -0.00417768164, -0.00125372503, 0.00021858087, -4.39150654e-06, -3.5233877e-06,
    3.43273939e-07, 2.81022636e-08,
)  # fmt: skip
TAIL = (
    2.83297682, 1.00167406, 0.00943887047, -0.0076224613, 0.00573950773, -0.00367342844, 0.00134934322,
    0.000100950558, -0.000200214257,
)  # fmt: skip


def _polynomial(x: Traced, coefficients: Sequence[float]) -> Traced:
    y = number(coefficients[-1], x)
    for coefficient in reversed(coefficients[:-1]):
        y = op.Add(op.Mul(y, x), number(coefficient, x))
    return y


def _zeta(k: int) -> float:
    """Of the zeta function what is beyond 1."""
    last = 30
    tail = last ** (1 - k) / (k - 1) + last**-k / 2 + k * last ** (-k - 1) / 12
    return sum(n**-k for n in range(2, last)) + tail


# --- the gamma function ----------------------------------------------------------------------------------------


def _reflected(x: Traced) -> tuple[Traced, Traced, Traced]:
    """Whether x is in the left half, its mirror image about 1/2 if so, and how far it is from a whole number."""
    left = op.Less(x, number(0.5, x))
    mirrored = op.Where(left, op.Sub(number(1.0, x), x), x)
    return left, typed(mirrored, x), typed(op.Sub(x, op.Round(x)), x)


def _log_gamma_near_two(z: Traced) -> Traced:
    """For z from 1/2 to `SHIFT`: a series between 3/2 and 5/2, and the factors on the way there."""
    one = number(1.0, z)
    steps = op.Floor(op.Sub(z, number(1.5, z)))
    product = one
    for k in range(1, SHIFT - 1):
        inside = op.GreaterOrEqual(steps, number(float(k), z))
        product = op.Mul(product, op.Where(inside, op.Sub(z, number(float(k), z)), one))
    factors = op.Where(op.Less(steps, number(0.0, z)), op.Reciprocal(z), product)
    terms = range(2, 28 if z.dtype == ir.DataType.DOUBLE else 14)
    series = [0.0, 1 - EULER, *((-1) ** k * _zeta(k) / k for k in terms)]
    return op.Add(_polynomial(typed(op.Sub(op.Sub(z, steps), number(2.0, z)), z), series), op.Log(factors))


def _stirling(z: Traced) -> Traced:
    terms = [b / (2 * k * (2 * k - 1)) for k, b in enumerate(BERNOULLI, 1)]
    inverse = op.Reciprocal(z)
    rest = op.Mul(inverse, _polynomial(typed(op.Mul(inverse, inverse), z), terms))
    main = op.Sub(op.Mul(op.Sub(z, number(0.5, z)), op.Log(z)), z)
    return op.Add(op.Add(main, number(math.log(2 * math.pi) / 2, z)), rest)


def _log_gamma(x: Traced) -> Traced:
    left, z, apart = _reflected(x)
    middle, bound = number(2.0, x), number(float(SHIFT), x)
    far = op.GreaterOrEqual(z, bound)
    near = _log_gamma_near_two(typed(op.Where(far, middle, z), x))
    y = op.Where(far, _stirling(typed(op.Where(far, z, bound), x)), near)
    sine = op.Abs(op.Sin(op.Mul(apart, number(math.pi, x))))
    y = op.Where(left, op.Sub(op.Log(op.Div(number(math.pi, x), sine)), y), y)
    pole = op.And(left, op.Equal(sine, number(0.0, x)))
    return op.Where(op.Or(pole, op.IsInf(x)), number(math.inf, x), y)


def _sum_of_steps(z: Traced, power: int) -> Traced:
    """Of 1/z^power, 1/(z + 1)^power, … before `SHIFT` steps."""
    inverses = [op.Reciprocal(op.Add(z, number(float(k), z))) for k in range(SHIFT)]
    terms = inverses if power == 1 else [op.Mul(inverse, inverse) for inverse in inverses]
    return op.Sum(*terms)


def _digamma(x: Traced) -> Traced:
    left, z, apart = _reflected(x)
    far = op.Add(z, number(float(SHIFT), x))
    inverse = op.Reciprocal(far)
    square = typed(op.Mul(inverse, inverse), x)
    series = op.Mul(square, _polynomial(square, [b / (2 * k) for k, b in enumerate(BERNOULLI, 1)]))
    y = op.Sub(op.Sub(op.Log(far), op.Mul(inverse, number(0.5, x))), series)
    y = op.Sub(y, _sum_of_steps(z, 1))
    turn = op.Div(number(math.pi, x), op.Tan(op.Mul(apart, number(math.pi, x))))
    turn = op.Where(op.Equal(apart, number(0.0, x)), number(math.nan, x), turn)
    y = op.Where(left, op.Sub(y, turn), y)
    y = op.Where(op.Equal(x, number(math.inf, x)), x, y)
    return op.Where(op.Equal(x, number(0.0, x)), op.Neg(op.Reciprocal(x)), y)


def _trigamma(x: Traced) -> Traced:
    left, z, apart = _reflected(x)
    inverse = op.Reciprocal(op.Add(z, number(float(SHIFT), x)))
    square = typed(op.Mul(inverse, inverse), x)
    series = _polynomial(square, [1.0, *BERNOULLI])
    y = op.Sum(op.Mul(inverse, series), op.Mul(square, number(0.5, x)), _sum_of_steps(z, 2))
    turn = op.Div(number(math.pi, x), op.Sin(op.Mul(apart, number(math.pi, x))))
    return op.Where(left, op.Sub(op.Mul(turn, turn), y), y)


def _polygamma(n: int, x: Traced) -> Traced:
    if n > 1:
        raise NotImplementedError("polygamma beyond the first derivative has no formula in ONNX")
    return _trigamma(x) if n else _digamma(x)


def _erfinv(x: Traced) -> Traced:
    if x.dtype == ir.DataType.DOUBLE:
        raise NotImplementedError("erfinv has no formula in double precision; give it float32")
    one = number(1.0, x)
    w = op.Neg(op.Log(op.Mul(op.Sub(one, x), op.Add(one, x))))
    bound = number(5.0, x)
    central = _polynomial(typed(op.Sub(op.Min(w, bound), number(2.5, x)), x), CENTRAL)
    tail = _polynomial(typed(op.Sub(op.Sqrt(op.Max(w, bound)), number(3.0, x)), x), TAIL)
    y = op.Mul(x, op.Where(op.Less(w, bound), central, tail))
    return op.Where(op.Equal(op.Abs(x), one), op.Mul(x, number(math.inf, x)), y)


# --- the larger and the smaller of two, NaN left out -----------------------------------------------------------


def _without_none(extreme: Callable[..., Traced]) -> Translation:
    def translate(a: Traced, b: Traced) -> Traced:
        if not is_float(a):
            return extreme(a, b)
        return op.Where(op.IsNaN(a), b, op.Where(op.IsNaN(b), a, extreme(a, b)))

    return translate


# --- whole numbers and truth values ----------------------------------------------------------------------------


def _add(a: Traced, b: Traced, alpha: float = 1.0) -> Traced:
    """Of truth values: either."""
    if getattr(b, "dtype", None) == a.dtype == ir.DataType.BOOL:
        return op.Or(a, b)
    return core.aten_add(a, b, alpha)


def _relu(x: Traced) -> Traced:
    return op.Relu(x) if is_float(x) else op.Max(x, number(0, x))


def _limits(x: Traced, bits: Traced) -> tuple[Traced, Traced, Traced]:
    """Where a shift is by fewer bits than x has; two factors whose product is 2 to that power, neither too large."""
    top = x.dtype.bitwidth - 2
    inside = op.And(op.GreaterOrEqual(bits, number(0, x)), op.Less(bits, number(x.dtype.bitwidth, x)))
    first = op.Min(op.Max(bits, number(0, x)), number(top, x))
    second = op.Equal(op.Max(bits, first), number(top + 1, x))
    return inside, op.Pow(number(2, x), first), op.Where(second, number(2, x), number(1, x))


def _shift_left(x: Traced, bits: Traced) -> Traced:
    inside, first, second = _limits(x, bits)
    return op.Where(inside, op.Mul(op.Mul(x, first), second), number(0, x))


def _shift_right(x: Traced, bits: Traced) -> Traced:
    """Division rounded down; what is shifted out of sight leaves the sign."""
    inside, first, second = _limits(x, bits)
    y = op.Div(op.Sub(x, op.Mod(x, first)), first)
    y = op.Div(op.Sub(y, op.Mod(y, second)), second)
    return op.Where(inside, y, op.Neg(op.CastLike(op.Less(x, number(0, x)), x)))


SPECIAL: Translations = {
    aten.lgamma.default: _log_gamma,
    aten.digamma.default: _digamma,
    aten.special_digamma.default: _digamma,
    aten.special_psi.default: _digamma,
    aten.special_gammaln.default: _log_gamma,
    aten.polygamma.default: _polygamma,
    aten.special_polygamma.default: _polygamma,
    aten.erfinv.default: _erfinv,
    aten.special_erfinv.default: _erfinv,
    aten.fmax.default: _without_none(op.Max),
    aten.fmin.default: _without_none(op.Min),
    aten.add.Tensor: _add,
    aten.relu.default: _relu,
    aten.bitwise_left_shift.Tensor: _shift_left,
    aten.bitwise_right_shift.Tensor: _shift_right,
    aten.__lshift__.Tensor: _shift_left,
    aten.__rshift__.Tensor: _shift_right,
    aten.bitwise_left_shift.Scalar_Tensor: lambda x, bits: _shift_left(number(x, bits), bits),
    aten.bitwise_right_shift.Scalar_Tensor: lambda x, bits: _shift_right(number(x, bits), bits),
}
