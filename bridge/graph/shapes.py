"""What shape inference found of a graph's values."""

from __future__ import annotations

import json
from typing import Any

import onnx_ir as ir
import onnx_shape_inference


def formula(dim: ir.SymbolicDim) -> Any:
    """The expression of sympy behind a size, or None where its name is no formula."""
    return dim._expr


def symbolic_contents(value: ir.Value) -> list[int | ir.SymbolicDim] | None:
    """The integers in `value`, some of them symbolic, from shape inference; None if not known."""
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        numbers = tensor.numpy().reshape(-1).tolist()
        return [int(item) for item in numbers] if all(float(item).is_integer() for item in numbers) else None
    text = value.metadata_props.get(onnx_shape_inference.SYM_DATA_KEY)
    if text is None:
        return None
    return [item if isinstance(item, int) else ir.SymbolicDim(item) for item in json.loads(text)]
