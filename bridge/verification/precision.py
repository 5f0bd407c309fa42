"""In what precision a graph computes, which bounds how close two runs of it can be."""

from __future__ import annotations

import itertools

import onnx_ir as ir

STEPS = {  # from 1 to the next larger number; the coarsest type first
    ir.DataType.BFLOAT16: 2.0**-7,
    ir.DataType.FLOAT16: 2.0**-10,
    ir.DataType.FLOAT: 2.0**-23,
    ir.DataType.DOUBLE: 2.0**-52,
}
ROUNDING_FACTOR = (
    10  # times its own rounding, by which something may be off; what is off by more is another formula
)


def precision(graph: ir.Graph) -> str:
    """The coarsest type of floating point that goes in or is computed, by numpy's name; "float32" without one."""
    values = itertools.chain(graph.inputs, (value for node in graph for value in node.outputs))
    found = {value.dtype for value in values}
    return next((dtype.numpy().name for dtype in STEPS if dtype in found), "float32")


def step_of(dtype: str) -> float:
    """From 1 to the next larger number of this precision, by numpy's name."""
    return next(step for known, step in STEPS.items() if known.numpy().name == dtype)
