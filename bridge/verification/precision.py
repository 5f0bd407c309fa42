"""In what precision a graph computes, which bounds how close two runs of it can be."""

from __future__ import annotations

import itertools

import onnx_ir as ir

from bridge.frontend.onnx.double import DTYPES
from bridge.graph.rewriting import all_nodes

STEPS = {  # from 1 to the next larger number; the coarsest type first
    ir.DataType.BFLOAT16: 2.0**-7,
    ir.DataType.FLOAT16: 2.0**-10,
    ir.DataType.FLOAT: 2.0**-23,
    ir.DataType.DOUBLE: 2.0**-52,
}
ROUNDING_FACTOR = (
    10  # times its own rounding, by which something may be off; what is off by more is another formula
)


def precision(graph: ir.Graph, source: ir.Model | None = None) -> str:
    """The coarsest type of floating point that goes in or is computed, by numpy's name; "float32" without one. In a
    graph that was made of `source` one that this has too: what is computed in another is wrong."""
    values = itertools.chain(graph.inputs, (value for node in graph for value in node.outputs))
    found = {value.dtype for value in values}
    if source is not None:
        found &= _named(source)
    return next((dtype.numpy().name for dtype in STEPS if dtype in found), "float32")


def _named(model: ir.Model) -> set[ir.DataType | None]:
    """The types that a model names: of its values as far as they are known, and in attributes."""
    nodes = [*all_nodes(model), *(node for function in model.functions.values() for node in function)]
    held = (
        *model.graph.inputs,
        *model.graph.initializers.values(),
        *(v for node in nodes for v in node.outputs),
    )
    attributes = (attribute for node in nodes for attribute in node.attributes.values())
    return {value.dtype for value in held} | {_type_of(attribute) for attribute in attributes}


def _type_of(attribute: ir.Attr) -> ir.DataType | None:
    """The type of floating point that an attribute names, which may be that of a function's call."""
    if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
        return attribute.as_tensor().dtype
    named = attribute.value if attribute.name in DTYPES else None
    return next((dtype for dtype in STEPS if named in (dtype.value, dtype.name)), None)


def step_of(dtype: str) -> float:
    """From 1 to the next larger number of this precision, by numpy's name."""
    return next(step for known, step in STEPS.items() if known.numpy().name == dtype)
