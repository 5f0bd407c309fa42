"""Where torch gives no gradient although the formula has one: `GRADIENTS`, by torch's operator."""

from __future__ import annotations

import warnings
from typing import Any

from onnxscript import opset23 as op

from bridge.frontend.torch_axes import ints
from bridge.frontend.torch_formulas import aten, is_float, number
from bridge.frontend.torch_notes import Note
from bridge.frontend.torch_own_ops import STOP_GRADIENT


def _detach(x: Any) -> Any:
    return STOP_GRADIENT(x) if is_float(x) else op.Identity(x)


def _embedding(
    weight: Any, indices: Any, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Any:
    """The row at `padding_idx` does not train."""
    if scale_grad_by_freq:
        warnings.warn(
            Note(
                "an embedding with scale_grad_by_freq: in training torch divides the gradient of a row by how often it "
                "is looked up, and Keras does not"
            ),
            stacklevel=1,
        )
    rows = op.Gather(weight, indices)
    if padding_idx < 0:
        return rows
    padding = op.Unsqueeze(op.Equal(indices, number(padding_idx, indices)), ints(-1))
    return op.Where(padding, STOP_GRADIENT(rows), rows)


def _renormalised(weight: Any, indices: Any, max_norm: float, norm_type: float) -> Any:
    raise NotImplementedError(
        f"an embedding with max_norm changes its weights in forward; normalise their rows before (torch.renorm(weight, "
        f"{norm_type:g}, 0, {max_norm:g})) and leave max_norm out"
    )


GRADIENTS: dict[Any, Any] = {
    aten.detach.default: _detach,
    aten.embedding.default: _embedding,
    aten.embedding_renorm.default: _renormalised,
}
