"""The rules that the library infers shapes by, for ours to build on."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext, registry


def library_rule(op: str, version: int) -> Callable[[ShapeInferenceContext, ir.Node], None]:
    """What the library infers of the operator `op` of ONNX at that opset; once `registry.collect()` has been called."""
    rule = registry.get("", op, version)
    if rule is None:
        raise LookupError(f"onnx_shape_inference has no rule for {op} at opset {version}")
    return rule
