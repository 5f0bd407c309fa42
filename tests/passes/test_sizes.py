"""The normal form of sizes: equal to what it was made from, and short however many windows have slid over an axis."""

from __future__ import annotations

import math
from fractions import Fraction

import onnx_ir as ir
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.passes.normal_form import depth, normal, plain_symbol

H = sympy.Symbol("h", integer=True, nonnegative=True)

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["floor", "ceiling", "mod", "times", "plus"]),
        st.integers(-3, 5),  # added
        st.integers(2, 9),  # divided by
        st.integers(1, 3),  # multiplied with
    ),
    min_size=1, max_size=6,
)  # fmt: skip


def taken(steps: list[tuple[str, int, int, int]], size: int) -> int:
    """By Python's own numbers."""
    for kind, more, part, times in steps:
        size = {
            "floor": lambda n, a, b, c: (n + a) // b,
            "ceiling": lambda n, a, b, c: -((-n - a) // b),
            "mod": lambda n, a, b, c: (c * n) % b,
            "times": lambda n, a, b, c: math.floor(Fraction(n * c, b)),
            "plus": lambda n, a, b, c: n + a,
        }[kind](size, more, part, times)
    return size


def formula(steps: list[tuple[str, int, int, int]]) -> sympy.Expr:
    """The same as an expression, put into its normal form after every step, as the sizes of a graph are."""
    size: sympy.Expr = H
    for kind, more, part, times in steps:
        size = normal(
            {
                "floor": lambda n, a, b, c: sympy.floor((n + a) / sympy.Integer(b)),
                "ceiling": lambda n, a, b, c: sympy.ceiling((n + a) / sympy.Integer(b)),
                "mod": lambda n, a, b, c: sympy.Mod(c * n, b),
                "times": lambda n, a, b, c: sympy.floor(c * n / sympy.Integer(b)),
                "plus": lambda n, a, b, c: n + a,
            }[kind](size, more, part, times)
        )
    return size


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 10_000))
def test_the_normal_form_is_equal(steps, size):
    assert formula(steps).subs(H, size) == taken(steps, size)


@pytest.mark.parametrize("rounding", ["floor", "ceiling"])
def test_roundings_of_roundings_are_one(rounding):
    """Windows of stride 2, thirty times, and both roundings in turn."""
    steps = [(rounding if k % 2 else "floor", k % 3 - 1, 2, 1) for k in range(30)]
    size = formula(steps)
    assert depth(ir.SymbolicDim(size)) == 1
    for number in (0, 1, 2**30, 2**31 + 5, 3**21):
        assert size.subs(H, number) == taken(steps, number)


def test_a_size_that_is_a_number():
    assert plain_symbol(ir.SymbolicDim("7")) == 7
    assert plain_symbol(7) == 7
