"""Losses, as torch weighs and smooths them: `LOSSES`, by torch's operator."""

from __future__ import annotations

from onnxscript import opset23 as op

from bridge.frontend.torch.axes import ints, typed
from bridge.frontend.torch.formulas import aten, is_float, number
from bridge.frontend.torch.traced import Traced, Translations

NONE, MEAN = 0, 1  # torch's numbers of what is done with the losses of all places; 2 is their sum


def _cross_entropy(
    x: Traced, target: Traced, weight: Traced | None = None, reduction: int = MEAN, ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Traced:  # fmt: skip
    """Classes are axis 1, or all there is."""
    axis = min(1, len(x.shape) - 1)
    logs = typed(op.LogSoftmax(x, axis=axis), x)
    if weight is not None:
        shape = [-1 if place == axis else 1 for place in range(len(x.shape))]
        logs = typed(op.Mul(logs, op.Reshape(weight, ints(*shape))), x)
    smooth = op.Mul(
        op.ReduceSum(logs, ints(axis), keepdims=0), op.Div(number(-label_smoothing, x), _classes(x, axis))
    )
    if is_float(target):
        loss = op.Neg(op.ReduceSum(op.Mul(logs, target), ints(axis), keepdims=0))
        shares = op.CastLike(op.Constant(value_int=1), x)
    else:
        kept = op.Not(op.Equal(target, number(ignore_index, target)))
        place = op.Where(kept, target, number(0, target))
        loss = op.Neg(
            op.Squeeze(op.GatherElements(logs, op.Unsqueeze(place, ints(axis)), axis=axis), ints(axis))
        )
        shares = (
            op.CastLike(kept, x)
            if weight is None
            else op.Where(kept, op.Gather(weight, place), number(0.0, x))
        )
        loss, smooth = (op.Where(kept, each, number(0.0, x)) for each in (loss, smooth))
    if label_smoothing:
        loss = op.Add(op.Mul(loss, number(1.0 - label_smoothing, x)), smooth)
    if reduction == NONE:
        return loss
    total = op.ReduceSum(loss, keepdims=0)
    return (
        op.Div(total, op.ReduceSum(op.Expand(shares, op.Shape(loss)), keepdims=0))
        if reduction == MEAN
        else total
    )


def _classes(x: Traced, axis: int) -> Traced:
    return op.CastLike(op.Squeeze(op.Shape(x, start=axis, end=axis + 1), ints(0)), x)


LOSSES: Translations = {aten.cross_entropy_loss.default: _cross_entropy}
