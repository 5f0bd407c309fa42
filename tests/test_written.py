"""Numbers as they were written."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.written import decimal, decimal_or_root, fraction

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
    assert decimal(value) == decimal_or_root(value) == float(fraction(value)) == value


@pytest.mark.parametrize("number", [2, 3, 8, 50])
def test_a_root_is_found_again(number):
    assert decimal_or_root(float(np.float32(number**-0.5))) == number**-0.5
