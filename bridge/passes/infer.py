"""Symbolic shapes for every value, and symbolic contents for shape arithmetic."""

from __future__ import annotations

import onnx_ir as ir
import onnx_shape_inference


def infer(model: ir.Model) -> None:
    """Infer all shapes anew from the graph's inputs, so that equal dims are written alike.

    What the graph declares of its outputs is kept only where nothing can be inferred.
    """
    values = [value for node in model.graph for value in node.outputs]
    declared = [value.shape for value in values]
    for value in values:
        value.shape = None
    onnx_shape_inference.infer_symbolic_shapes(model, warn_on_missing=False, adopt_declared_symbols=False)
    for value, shape in zip(values, declared, strict=True):
        if value.shape is not None:
            value.shape = ir.Shape([_plain(dim) for dim in value.shape])
        elif value.is_graph_output():
            value.shape = shape


def _plain(dim: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
    """A symbol that is a number, as a number."""
    return int(dim.value) if isinstance(dim, ir.SymbolicDim) and (dim.value or "").isdigit() else dim
