"""Operators that work element by element: arithmetic, comparison, logic, casts."""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops

from bridge.graph.few_bits import CARRIERS
from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import input_of
from bridge.keras_compat import rounds_double
from bridge.ops.contract import Refused, Site, Step, Tensor
from bridge.ops.dims import add, cast
from bridge.ops.few_bits import lacking, narrowed
from bridge.ops.layouts import ANY, FIRST_INPUT
from bridge.ops.registry import op

# --- arithmetic, comparison, logic --------------------------------------------------------------------------

UNARY = {
    "Abs": ops.abs,
    "Acos": ops.arccos,
    "Acosh": ops.arccosh,
    "Asin": ops.arcsin,
    "Asinh": ops.arcsinh,
    "Atan": ops.arctan,
    "Atanh": ops.arctanh,
    "BitwiseNot": ops.bitwise_not,
    "Ceil": ops.ceil,
    "Cos": ops.cos,
    "Cosh": ops.cosh,
    "Erf": ops.erf,
    "Exp": ops.exp,
    "Floor": ops.floor,
    "IsNaN": ops.isnan,
    "Log": ops.log,
    "Neg": ops.negative,
    "Not": ops.logical_not,
    "Round": ops.round,
    "Sign": ops.sign,
    "Sin": ops.sin,
    "Sinh": ops.sinh,
    "Sqrt": ops.sqrt,
    "Tan": ops.tan,
}

BINARY = {
    "And": ops.logical_and,
    "Equal": ops.equal,
    "Greater": ops.greater,
    "GreaterOrEqual": ops.greater_equal,
    "Less": ops.less,
    "LessOrEqual": ops.less_equal,
    "Or": ops.logical_or,
    "Xor": ops.logical_xor,
}

OURS = {
    "Atan2": ops.arctan2,
    "Expm1": ops.expm1,
    "Log1p": ops.log1p,
    "LogAddExp": ops.logaddexp,
}

BITWISE = {"BitwiseAnd": ops.bitwise_and, "BitwiseOr": ops.bitwise_or, "BitwiseXor": ops.bitwise_xor}

MERGES = {
    "Add": (add, layers.Add),
    "Mul": (ops.multiply, layers.Multiply),
    "Sub": (ops.subtract, layers.Subtract),
}

VARIADIC = {
    "Max": (ops.maximum, layers.Maximum),
    "Min": (ops.minimum, layers.Minimum),
    "Sum": (add, layers.Add),
}


def _unary(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x: function(x)


def _binary(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda a, b: function(a, b)


def _bitwise(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def build(site: Site, a, b):
        a, b = _typed(site, a), _typed(site, b)
        return function(ops.add(a, ops.zeros_like(b)) if _widens(b, a) else a, b)

    return build


def _widens(b: Tensor, a: Tensor) -> bool:
    """Whether `a` beside `b` has another shape than its own, which Keras takes for that of the result."""
    pairs = zip(reversed(a.shape), reversed(b.shape), strict=False)
    return len(b.shape) > len(a.shape) or any(mine == 1 and other != 1 for mine, other in pairs)


def _typed(site: Site, x: Tensor) -> Tensor:
    """x; a scalar constant, which Keras would save without its type, as an array or a tensor of it."""
    if not isinstance(x, np.ndarray) or x.ndim:
        return x
    return x.reshape(1) if len(site.out_shape()) else site.at_run_time(x)


def _merge(function: Callable[..., Tensor], layer: type) -> Callable[..., Tensor]:
    return lambda site, a, b: _merged(site, function, layer, (a, b))


def _variadic(function: Callable[..., Tensor], layer: type) -> Callable[..., Tensor]:
    return lambda site, *xs: _merged(site, function, layer, xs)


def _merged(site: Site, function: Callable[..., Tensor], layer: type, xs: tuple[Tensor, ...]) -> Tensor:
    """A layer where tensors of one shape come together, as in a residual connection; otherwise a function."""
    tensors = all(isinstance(x, keras.KerasTensor) for x in xs)  # one may be known by now
    return site.layer(layer)(list(xs)) if tensors and _is_join(site) else functools.reduce(function, xs)


def _is_join(site: Site) -> bool:
    """Whether several tensors of one shape, which is not empty, come together."""
    operands = site.step.operands
    if len(operands) < 2 or not all(operand.is_tensor for operand in operands) or "float" not in site.dtype:
        return False
    if len(site.shape()) < 2 or 0 in site.shape():
        return False
    return len({site.shape(index) for index in range(len(operands))}) == 1


for _name, _function in UNARY.items():
    op(_name, layout=ANY)(_unary(_function))
for _name, _function in BINARY.items():
    op(_name, layout=ANY)(_binary(_function))
for _name, _function in OURS.items():
    op(_name, domain=DOMAIN, layout=ANY)((_unary if _name in ("Expm1", "Log1p") else _binary)(_function))
for _name, _function in BITWISE.items():
    op(_name, layout=ANY)(_bitwise(_function))
for _name, _both in MERGES.items():
    op(_name, layout=ANY, makes=_both[1:])(_merge(*_both))
for _name, _both in VARIADIC.items():
    op(_name, layout=ANY, makes=_both[1:])(_variadic(*_both))


@op("Mean", layout=ANY, makes=(layers.Average,))
def mean(site: Site, *xs):
    if _is_join(site):
        return site.layer(layers.Average)(list(xs))
    return functools.reduce(add, xs) / len(xs)


@op("Div", layout=ANY)
def div(site: Site, a, b):
    """Integers are divided towards zero."""
    if "float" in site.dtype:
        return ops.divide(a, b)
    lower = ops.floor_divide(a, b)
    if site.dtype.startswith("u"):
        return lower
    rest = ops.subtract(a, ops.multiply(lower, b))
    return add(lower, ops.cast(_unlike(rest, a), site.dtype))


@op("Reciprocal", layout=ANY)
def reciprocal(x):
    """Keras's own says of every type that it gives float32."""
    return ops.divide(1.0, x)


@op("Mod", layout=ANY)
def mod(site: Site, a, b, *, fmod=0):
    """The sign is the divisor's, or with `fmod` the dividend's."""
    if not fmod:
        return ops.mod(a, b)
    if "float" in site.dtype:
        return ops.sign(a) * ops.mod(ops.abs(a), ops.abs(b))
    rest = ops.mod(a, b)
    return ops.where(_unlike(rest, a), ops.subtract(rest, b), rest)


def _unlike(rest: Tensor, a: Tensor) -> Tensor:
    """Where there is a remainder and it has not the sign of `a`, which no magnitude tells at the end of a type."""
    return ops.logical_and(ops.not_equal(rest, 0), ops.logical_xor(ops.less(rest, 0), ops.less(a, 0)))


@op("Pow", layout=ANY)
def pow_(site: Site, x, y):
    """The type is that of the base, whatever the exponent's; computed in the wider of two of floating point, and of an
    integer as exactly as the backend can, as what is behind the point is cut off."""
    if np.ndim(y) == 0 and isinstance(y, np.ndarray) and y == 2:
        return ops.square(x)
    base, exponent = (input_of(site.node, i).dtype for i in (0, 1))
    if base == exponent:
        return ops.power(x, y)
    wider = base and exponent and exponent.is_floating_point() and exponent.bitwidth > base.bitwidth
    if base is None or base.is_floating_point() and not wider:
        return ops.power(x, cast(y, site.dtype))
    exact = "float32" if rounds_double() else "float64"
    dtype = exact if base.is_integer() and exponent else site.float_type(exponent)
    return ops.cast(ops.power(cast(x, dtype), cast(y, dtype)), site.dtype)


@op("BitShift", layout=ANY)
def bit_shift(site: Site, x, y, *, direction):
    """A shift by more bits than there are, or by a negative number of them, shifts everything out."""
    x, y = _typed(site, x), _typed(site, y)
    out = ops.logical_or(ops.less(y, 0), ops.greater_equal(y, 8 * np.dtype(site.dtype).itemsize))
    y = ops.where(out, ops.zeros_like(y), y)
    if direction == "LEFT":
        return ops.where(out, ops.zeros_like(x), ops.left_shift(x, y))
    signs = ops.where(ops.less(x, 0), ops.subtract(ops.zeros_like(x), ops.ones_like(x)), ops.zeros_like(x))
    return ops.where(out, signs, ops.right_shift(x, y))


@op("IsInf", layout=ANY)
def is_inf(x, *, detect_negative=1, detect_positive=1):
    signs = [ops.less] * bool(detect_negative) + [ops.greater] * bool(detect_positive)
    found = [ops.logical_and(ops.isinf(x), sign(x, 0)) for sign in signs]
    return functools.reduce(ops.logical_or, found, ops.zeros_like(x, dtype="bool"))


@op("Where", layout=ANY)
def where(site: Site, condition, x, y):
    return ops.where(condition, _typed(site, x), y)


@op("Clip", layout=ANY, makes=(layers.ReLU,))
def clip(site: Site, x, low=None, high=None):
    native = "float" in site.dtype and _is_scalar(low, 0) and _is_scalar(high)
    if native and not site.twin("ReLU"):
        return site.layer(layers.ReLU, max_value=float(high))(x)
    x = x if low is None else _bounded(x, low, ops.less, ops.maximum)
    return x if high is None else _bounded(x, high, ops.greater, ops.minimum)


def _bounded(
    x: Tensor, bound: Tensor, beyond: Callable[..., Tensor], nearer: Callable[..., Tensor]
) -> Tensor:
    """A bound that is NaN bounds nothing, as in the definition by comparisons that ONNX gives; Keras's extremes are
    NaN then."""
    if isinstance(bound, np.ndarray) and not np.isnan(bound).any():
        return nearer(x, bound)
    return ops.where(beyond(x, bound), bound, x)


def _is_scalar(value: Tensor, number: float | None = None) -> bool:
    """Whether `value` is a known scalar: that number, or any finite one."""
    if not isinstance(value, np.ndarray) or value.ndim or not np.isfinite(value):
        return False
    return number is None or float(value) == number


# --- types --------------------------------------------------------------------------------------------------


def _check_type(step: Step) -> str | None:
    return lacking(step.node.outputs[0].dtype)


@op("Cast", layout=ANY, check=_check_type)
def cast_(site: Site, x, *, to, saturate=1, round_mode="up"):
    """`saturate` and `round_mode` say how to cast to types of 8 bits and less, which others carry."""
    return _cast(site, x, saturate, round_mode)


@op("CastLike", layout=FIRST_INPUT, check=_check_type)
def cast_like(site: Site, x, like, *, saturate=1, round_mode="up"):
    return _cast(site, x, saturate, round_mode)


def _cast(site: Site, x: Tensor, saturate: int, round_mode: str) -> Tensor:
    source, target = input_of(site.node, 0).dtype, site.node.outputs[0].dtype
    if target in CARRIERS and source != target:
        x = narrowed(x, target, saturate, round_mode)
    return cast(x, site.dtype)


@op("BitCast", layout=ANY, check=_check_type)
def bit_cast(site: Site, x, *, to):
    given = input_of(site.node, 0).dtype
    if given in CARRIERS or site.node.outputs[0].dtype in CARRIERS:
        raise Refused(f"Keras has no type of so few bits as {given}, and so not the bits")
    if given is None or x.dtype != given.numpy().name:
        raise Refused(f"the bits are those of {given}, in which this build does not compute")
    return ops.cast(x, site.dtype) if x.dtype == "bool" else ops.view(x, site.dtype)


@op("Identity", layout=ANY)
def identity(x):
    return x
