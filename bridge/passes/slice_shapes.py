"""How long a slice of an axis is: Python's rule, whatever lies beyond its ends."""

from __future__ import annotations

import onnx_ir as ir
import sympy
from onnx_shape_inference import ShapeInferenceContext, registry

from bridge.graph.rewriting import input_of, integers
from bridge.graph.shapes import FAR, formula
from bridge.passes.library_rules import library_rule
from bridge.passes.normal_form import plain_symbol


def register() -> None:
    """Put this in the place of the library's own, which takes a number for the size where the axis has fewer cells,
    and the least number of 64 bits for the end of the axis; call it once, after `registry.collect()`."""
    infer = library_rule("Slice", 13)

    @registry.register("", "Slice", since_version=13)
    def infer_slice(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        infer(ctx, node)
        data, y = input_of(node, 0).shape, node.outputs[0].shape
        starts, ends, axes, steps = (integers(v) for v in [*node.inputs[1:], None, None][:4])
        if data is None or y is None or starts is None or ends is None:
            return
        if any(value is not None and integers(value) is None for value in node.inputs[3:]):
            return
        dims = list(y)
        for axis, start, end, step in zip(
            axes or range(len(starts)), starts, ends, steps or [1] * len(starts), strict=False
        ):
            dim = data[axis]
            if isinstance(dim, int) and step:
                dims[axis] = len(range(*slice(start, end, step).indices(dim)))
            elif not isinstance(dim, int) and dim.value is not None and step:
                dims[axis] = _extent(formula(dim), start, end, step)
        node.outputs[0].shape = ir.Shape([plain_symbol(dim) for dim in dims])


def _extent(size: sympy.Expr, start: int, end: int, step: int) -> int | ir.SymbolicDim:
    if step > 0:
        low = start if start >= 0 else sympy.Integer(0) if start <= -FAR else sympy.Max(size + start, 0)
        high = size if end >= FAR else sympy.Min(end, size) if end >= 0 else size + end
        reach = high - low
    else:
        first = size - 1 if start >= FAR else sympy.Min(start, size - 1) if start >= 0 else size + start
        last = end if end >= 0 else sympy.Integer(-1) if end <= -FAR else sympy.Max(size + end, -1)
        reach = first - last
    count = sympy.Max(0, sympy.floor((reach + abs(step) - 1) / sympy.Integer(abs(step))))
    return int(count) if count.is_Integer else ir.SymbolicDim(count)
