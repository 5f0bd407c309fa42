"""Rows that are each multiplied with the matrix of their group, as mixtures of experts do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset23 as op

from bridge.frontend.torch.axes import ints, size
from bridge.frontend.torch.formulas import number
from bridge.frontend.torch.traced import Translations

OF_OTHERS = (("transformers", "grouped_mm_fallback"),)  # operators, in torch once their library is imported


def grouped(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """torch's own, by our operator: its fake tensors take bfloat16 only."""

    def run(
        x: torch.Tensor,
        weights: torch.Tensor,
        offs: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        if offs is None or bias is not None or out_dtype is not None or (x.dim(), weights.dim()) != (2, 3):
            return original(x, weights, offs=offs, bias=bias, out_dtype=out_dtype)
        return torch.ops.bridge.grouped_product(x, weights, offs)

    return run


def grouped_results(x: torch.Tensor, weights: torch.Tensor, offs: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape[0], weights.shape[2])


def onnx_grouped_product(x: Any, weights: Any, offs: Any) -> Any:
    """x (rows, inputs), sorted by groups that end before `offs` (groups,), and weights (groups, inputs, outputs) ->
    (rows, outputs). All rows are multiplied with all matrices, of which each row keeps its own: how many there are in a
    group is for the data to say."""
    count = op.Squeeze(size(x, 0), ints(0))
    rows = op.Unsqueeze(op.Range(op.Constant(value_int=0), count, op.Constant(value_int=1)), ints(1))
    ends = op.Cast(offs, to=ir.DataType.INT64)
    group = op.ReduceSum(op.Cast(op.LessOrEqual(ends, rows), to=ir.DataType.INT64), ints(1), keepdims=0)
    groups = op.Constant(value_ints=list(range(int(weights.shape[0]))))
    own = op.Equal(op.Unsqueeze(groups, ints(1, 2)), op.Unsqueeze(group, ints(0, 2)))
    return op.ReduceSum(op.Where(own, op.MatMul(x, weights), number(0.0, x)), ints(0), keepdims=0)


def translations_of_others() -> Translations:
    """The translations of operators that other libraries have brought into torch, where they have."""
    found = (getattr(getattr(torch.ops, room), name, None) for room, name in OF_OTHERS)
    return {packet.default: onnx_grouped_product for packet in found if packet is not None}
