"""Operators that only move the elements of a weight, or norm it as torch does: the weight again, whose recipe is
longer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bridge.errors import SourceError, short_message
from bridge.graph.rewriting import attribute
from bridge.weights.weight import Weight

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx_ir as ir

MAX_MOVES = 100  # of one weight, one after another
MAX_PARTS = 4096  # of a weight that is put together


def move(node: ir.Node, inputs: Sequence[ir.TensorProtocol | None]) -> list[ir.TensorProtocol] | None:
    """The weights that `node` makes by moving elements, or None where it does more. Raises `SourceError` where a weight
    has no such axis, row or shape."""
    if node.op_type not in MOVES:
        return None
    try:
        moved = MOVES[node.op_type](node, *inputs)
    except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
        raise SourceError(
            f"{node.op_type} at output {node.outputs[0].name} does not fit the weight that it takes: "
            f"{short_message(error)}"
        ) from error
    if any(isinstance(weight, Weight) and weight.recipe.depth > MAX_MOVES for weight in moved or ()):
        raise SourceError(
            f"{node.op_type} at output {node.outputs[0].name}: its weight is moved about more than {MAX_MOVES} times; "
            f"fold the constants before"
        )
    return moved


def stays_trainable(weight: Weight) -> bool:
    """Whether arithmetic on a parameter is left for the run, so that the parameter stays trainable."""
    return weight.is_parameter and weight.trainable


# --- of a node and its input tensors: weights, or None ----------------------------------------------------------


def _identity(node, w):
    return [w]


def _transpose(node, w):
    perm = attribute(node, "perm", range(len(w.dims))[::-1])
    if sorted(perm) != list(range(len(w.dims))):
        raise ValueError(f"{list(perm)} is no order of {len(w.dims)} axes")
    return [w.transpose(*perm)]


def _reshape(node, w, *_):
    shape = node.outputs[0].shape
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    if math.prod(shape) != math.prod(w.dims):
        raise ValueError(f"{list(w.dims)} cannot be {list(shape)}")
    return [w.reshape(*shape)]


def _slice(node, w, starts, ends, axes=None, steps=None):
    if steps is not None and np.any(steps.numpy() != 1):
        return None
    axes = range(len(starts.numpy())) if axes is None else axes.numpy().tolist()
    for axis, start, end in zip(axes, starts.numpy().tolist(), ends.numpy().tolist(), strict=True):
        low, high, _ = slice(start, end).indices(w.dims[axis])
        w = w.narrow(axis, low, max(low, high))
    return [w]


def _concat(node, *parts):
    axis = attribute(node, "axis", 0)
    weights = [part for part in parts if isinstance(part, Weight)]
    if any(map(stays_trainable, weights)) and not all(
        isinstance(part, Weight) and part.is_parameter for part in parts
    ):
        return None  # a variable trains as a whole
    filled = [part if isinstance(part, Weight) else _as_fill(weights[0], part) for part in parts]
    if any(part is None for part in filled):
        return None
    if sum(max(1, len(part.recipe.sources)) for part in filled if part is not None) > MAX_PARTS:
        return None
    return [Weight.concat([part for part in filled if part is not None], axis % len(weights[0].dims))]


def _as_fill(beside: Weight, tensor: ir.TensorProtocol) -> Weight | None:
    """A constant as a fill value, if it holds one value only."""
    value = tensor.numpy()
    return (
        beside.fill(float(value.flat[0]), value.shape)
        if value.size and np.all(value == value.flat[0])
        else None
    )


def _split(node, w, split=None):
    axis = attribute(node, "axis", 0) % len(w.dims)
    count = len(node.outputs)
    size = -(-w.dims[axis] // count)
    sizes = (
        split.numpy().tolist()
        if split is not None
        else [size] * (count - 1) + [w.dims[axis] - size * (count - 1)]
    )
    if min(sizes) < 0 or sum(sizes) != w.dims[axis]:
        raise ValueError(f"parts of {sizes} are not an axis of {w.dims[axis]}")
    ends = np.cumsum(sizes).tolist()
    return [w.narrow(axis, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _gather(node, w, indices):
    index = indices.numpy()
    if index.ndim or not isinstance(w, Weight):
        return None
    axis = attribute(node, "axis", 0) % len(w.dims)
    if not -w.dims[axis] <= int(index) < w.dims[axis]:
        raise IndexError(f"there is no row {index} among {w.dims[axis]}")
    return [w.select(axis, int(index) % w.dims[axis])]


def _cast(node, w):
    return [w] if attribute(node, "to", None) == w.dtype else None


def _cast_like(node, w, like):
    return [w] if isinstance(w, Weight) and like.dtype == w.dtype else None


def _weight_norm(node, direction, length):
    weights = isinstance(direction, Weight) and isinstance(length, Weight)
    if not weights or direction.trainable != length.trainable:  # a variable trains as a whole
        return None
    return [length.along(direction)]


def _spectral_norm(node, matrix, left, right):
    if not all(isinstance(weight, Weight) for weight in (matrix, left, right)):
        return None
    return [matrix.spectral_norm(left, right, attribute(node, "perm")[0])]


MOVES: dict[str, Callable[..., list[ir.TensorProtocol] | None]] = {
    "Identity": _identity,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Slice": _slice,
    "Concat": _concat,
    "Split": _split,
    "Gather": _gather,
    "Cast": _cast,
    "CastLike": _cast_like,
    "WeightNorm": _weight_norm,
    "SpectralNorm": _spectral_norm,
}
