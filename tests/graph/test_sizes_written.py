"""Sizes for people to read."""

import onnx_ir as ir
import pytest
import sympy

from bridge.graph.shapes import written

WRITTEN = {
    "floor(w/2) + 1": "(w // 2) + 1",
    "2*floor((w+1)/2)": "2*((w + 1) // 2)",
    "3*floor(w/2) - floor(h/4)": "-(h // 4) + 3*(w // 2)",
    "w*h + 2": "h*w + 2",
}


@pytest.mark.parametrize(("formula", "text"), WRITTEN.items())
def test_formulas_are_written_as_python_computes_them(formula, text):
    assert written(ir.SymbolicDim(sympy.sympify(formula))) == text
    sizes = {"w": 7, "h": 9}
    assert eval(text, dict(sizes)) == sympy.sympify(formula).subs(sizes)


def test_numbers_and_what_is_not_known():
    assert (written(4), written(ir.SymbolicDim("w")), written(ir.SymbolicDim(None))) == ("4", "w", "?")
