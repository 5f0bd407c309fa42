"""Numbers as they were written."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.graph.decimals import decimal, fraction, number

WIDTHS = pytest.mark.parametrize("width", [np.float32, np.float64])


@WIDTHS
@given(top=st.integers(1, 200), bottom=st.integers(1, 200))
def test_a_fraction_is_found_again(width, top, bottom):
    for value in (width(top / bottom), float(width(top / bottom))):
        assert fraction(value) == Fraction(top, bottom)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_number_of_float32_keeps_its_value(value):
    for written in (decimal(value), float(fraction(value))):
        assert np.float32(written) == np.float32(value)


@given(st.floats(1e-30, 1e30).filter(lambda value: float(np.float32(value)) != value))
def test_a_number_of_float64_stays(value):
    assert decimal(value) == number(value) == float(fraction(value)) == value


WRITTEN = [0.1, 1e-5, 0.044715, 1 / 6, 2 / 3, 2**0.5, 0.5**0.5, 8**-0.5, 50**-0.5, math.pi, math.log(10),
           1 / math.log(10), math.sqrt(2 / math.pi), 0.0, -0.0, -1 / 3, -(2**0.5), 3.0, 1e30]  # fmt: skip


@pytest.mark.parametrize("written", WRITTEN)
def test_what_was_written_is_found_again(written):
    assert number(float(np.float32(written))) == written


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_what_was_written_is_the_same_number_of_float32(value):
    assert np.float32(number(value)) == np.float32(value)
