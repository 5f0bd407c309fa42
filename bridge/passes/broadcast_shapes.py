"""Which of two sizes of different names their values broadcast to: that beside one that is at most 1, where the library
takes the first."""

from __future__ import annotations

import onnx_ir as ir
import sympy
from onnx_shape_inference import _broadcast

from bridge.graph.shapes import Dim, formula


def register() -> None:
    """Put this in the place of the library's own; call it once."""
    library = _broadcast._broadcast_dim

    def broadcast_dim(dim1: Dim, dim2: Dim) -> Dim | None:
        if isinstance(dim1, ir.SymbolicDim) and isinstance(dim2, ir.SymbolicDim) and dim1.value is not None:
            return dim2 if _at_most_one(formula(dim1)) else library(dim1, dim2)
        return library(dim1, dim2)

    _broadcast._broadcast_dim = broadcast_dim


def _at_most_one(size: sympy.Expr) -> bool:
    """Whether its form shows it, as that of what is left of an axis by a slice of one."""
    match size:
        case sympy.Integer():
            return bool(size <= 1)
        case sympy.Min():
            return any(map(_at_most_one, size.args))
        case sympy.Max():
            return all(map(_at_most_one, size.args))
    return False
