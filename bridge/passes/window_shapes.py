"""The sizes of what slides windows, where the library has others than onnxruntime: pools with auto_pad, and transposed
convolutions whose windows do not reach as far as their strides."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext, registry

from bridge.errors import SourceError
from bridge.graph.rewriting import attribute, input_of
from bridge.graph.shapes import Dim
from bridge.graph.windows import pool_windows, transposed_size, windows, with_overhang
from bridge.passes.library_rules import library_rule
from bridge.passes.normal_form import plain_symbol

MAX_WINDOW = 1 << 24  # elements
SAME = ("SAME_UPPER", "SAME_LOWER")


def register() -> None:
    """Put these in the place of the library's own; call it once, after `registry.collect()`."""
    for op in ("MaxPool", "AveragePool", "LpPool"):
        _extend(op, 12, _pool)
    _extend("ConvTranspose", 11, _transposed)


def _extend(op: str, version: int, spatial) -> None:
    infer = library_rule(op, version)

    @registry.register("", op, since_version=version)
    def infer_spatial(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        _require_window(node)
        infer(ctx, node)
        x, y = input_of(node, 0).shape, node.outputs[0].shape
        if x is None or y is None:
            return
        dims = spatial(node, list(x[2:]))
        for value in node.outputs:
            if dims is not None and value.shape is not None:
                value.shape = ir.Shape([*y[:2], *map(plain_symbol, dims)])


def _require_window(node: ir.Node) -> None:
    """Raise `SourceError` for a window that takes without end to look through, whatever is in it."""
    window: list[int] = attribute(node, "kernel_shape", [])
    if math.prod(window) > MAX_WINDOW:
        raise SourceError(
            f"{node.op_type} of {node.outputs[0].name} has windows of {math.prod(window):,} elements"
        )


def _pool(node: ir.Node, spatial: list[Dim]) -> list[Dim] | None:
    given = [attribute(node, name) for name in ("kernel_shape", "strides", "pads", "dilations", "auto_pad")]
    axes = with_overhang(pool_windows(spatial, *given), attribute(node, "ceil_mode"))
    if any(axis.pads is None and axis.dilation > 1 for axis in axes):
        return None
    return [axis.count for axis in axes]


def _transposed(node: ir.Node, spatial: list[Dim]) -> list[Dim] | None:
    w = input_of(node, 1).shape
    if attribute(node, "auto_pad") not in SAME or "output_shape" in node.attributes or w is None:
        return None
    kernel: Any = attribute(node, "kernel_shape", list(w[2:]))
    if not all(isinstance(size, int) for size in kernel):
        return None
    axes = windows(spatial, kernel, attribute(node, "strides"), None, attribute(node, "dilations"))
    extra = attribute(node, "output_padding", [0] * len(axes))
    return [transposed_size(axis.size, axis, more) for axis, more in zip(axes, extra, strict=True)]
