"""The one form in which the formula of a size is written, so that equal sizes are written alike and short."""

from __future__ import annotations

import functools

import onnx_ir as ir
import sympy

from bridge.graph.decimals import fraction
from bridge.graph.shapes import Dim, formula

LARGEST_DENOMINATOR = 1 << 20  # a denominator that is larger was a binary fraction
ROUNDING = ("floor(", "ceiling(", "Mod(")


def plain_symbol(dim: Dim) -> Dim:
    """A symbol in its one normal form; one that is a number, as a number."""
    if isinstance(dim, int) or dim.value is None or dim.value.isidentifier():
        return dim
    if dim.value.isdigit():
        return int(dim.value)
    if not any(function in dim.value for function in ROUNDING):
        return dim
    try:
        return _written(formula(dim))
    except ValueError:  # text that has lost its expression, and that the library cannot read
        return dim


@functools.cache
def _written(expression: sympy.Expr) -> ir.SymbolicDim:
    """Kept, as writing it takes longer than all else that is done with it."""
    return ir.SymbolicDim(normal(expression))


@functools.cache
def normal(expression: sympy.Expr) -> sympy.Expr:
    """`expression` with floors only, one within another only where a size between them was multiplied. Its symbols
    are sizes: integers that are not negative."""
    whole = expression.replace(sympy.Mod, _remainder)
    short = whole.replace(lambda part: part.is_Rational and part.q > LARGEST_DENOMINATOR, _shortest)
    return short.replace(sympy.ceiling, lambda x: -sympy.floor(-x)).replace(sympy.floor, _flat)


def _remainder(dividend: sympy.Expr, divisor: sympy.Expr) -> sympy.Expr:
    """By floor, whose sums are followed: -n - 8 floor(-n / 8) for Mod(7 n, 8), the library's way to write -n mod 8."""
    if not divisor.is_Integer:
        return sympy.Mod(dividend, divisor)
    half, near = divisor // 2, sympy.Integer(0)
    for term in sympy.Add.make_args(sympy.expand(dividend)):
        factor, rest = term.as_coeff_Mul()
        near += ((factor + half) % divisor - half) * rest if factor.is_Integer else term
    return sympy.expand(near - divisor * sympy.floor(near / divisor))


def _shortest(number: sympy.Rational) -> sympy.Rational:
    """7/10 for 0.7 as 32 bits hold it, such as the scale of a Resize."""
    return sympy.Rational(fraction(float(number)))


def _flat(argument: sympy.Expr) -> sympy.Expr:
    """floor((floor(x) + m) / n) is floor((x + m) / n) for integers m and n, and so is that of -floor(-x), which is
    floor(x) where x is an integer, and else one more."""
    argument = sympy.expand(argument)
    terms = sympy.Add.make_args(argument)
    for term in terms:
        factor, inner = term.as_coeff_Mul()
        if (
            not isinstance(inner, sympy.floor)
            or not factor.is_Rational
            or abs(factor.p) != 1
            or factor.q == 1
        ):
            continue
        rest = [other for other in terms if other is not term]
        x = inner.args[0] if factor.p == 1 else _rounded_up(-inner.args[0])
        if x is not None and all((other * factor.q).is_integer for other in rest):
            return _flat(sum(rest, x * abs(factor)))
    return sympy.floor(argument)


def _rounded_up(x: sympy.Expr) -> sympy.Expr | None:
    """What ceiling(x) is the floor of: (n + d - 1) / d for n / d; None where x is no fraction of an integer."""
    x = sympy.expand(x)
    factors = [term.as_coeff_Mul()[0] for term in sympy.Add.make_args(x)]
    if not all(factor.is_Rational for factor in factors):
        return None
    whole = sympy.ilcm(1, *(factor.q for factor in factors))
    return x + sympy.Rational(whole - 1, whole) if (x * whole).is_integer else None


def depth(dim: ir.SymbolicDim) -> int:
    """How many roundings and choices (`Max`, `Min`) stand within one another in the formula of a size."""
    if dim.value is None or "(" not in dim.value:
        return 0
    try:
        return _depth(formula(dim))
    except ValueError:  # as in `plain_symbol`
        return 0


def _depth(part: sympy.Basic) -> int:
    own = isinstance(part, sympy.floor | sympy.Max | sympy.Min | sympy.ceiling | sympy.Mod)
    return own + max(map(_depth, part.args), default=0)
