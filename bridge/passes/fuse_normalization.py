"""Normalisations that an exporter wrote in single steps, as the operators that they are.

    (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon)    ->  LayerNormalization
    x / sqrt(mean(x^2) + epsilon)                            ->  RMSNormalization
    Reshape, InstanceNormalization, Reshape                  ->  GroupNormalization

in any order and association of the products (`monomial`), with the scale and the bias behind them. A mean over other
axes than the last is one over the last between two Transposes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.graph.rewriting import (
    Emitter,
    all_nodes,
    attribute,
    constant,
    input_of,
    inputs_of,
    integers,
    is_onnx,
    is_used,
    numpy_type,
    replace,
    typed,
)
from bridge.graph.shapes import rank, shape_of
from bridge.passes.monomial import Monomial, monomial, one_more, values_within
from bridge.weights.weight import Weight


@dataclass(frozen=True)
class Norm:
    """A normalisation of x; its scale and bias have the dims of `axes`."""

    op: str
    x: ir.Value
    axes: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    scale: Weight | np.ndarray | None = None
    bias: Weight | np.ndarray | None = None

    @property
    def dims(self) -> tuple[int, ...]:
        """The sizes of the axes that are known."""
        sizes = (shape_of(self.x)[axis] for axis in self.axes)
        return tuple(size for size in sizes if isinstance(size, int))


def fuse_normalization(model: ir.Model) -> None:
    _share(model)
    made: dict[ir.Value, Norm] = {}
    for node in all_nodes(model):
        if not is_onnx(node) or not node.outputs or not is_used(node.outputs[0]):
            continue
        norm = _affine(node, made) or _single_steps(node) or _grouped(node)
        if norm is not None and len(norm.dims) == len(norm.axes):
            out = _emit(Emitter(node), norm)
            replace(node.outputs[0], out)
            made[out] = norm


def _share(model: ir.Model) -> None:
    """A mean, or a difference from it, that was written twice is one."""
    seen: dict[Hashable, ir.Value] = {}
    for node in all_nodes(model):
        if not is_onnx(node, "ReduceMean", "Sub") or node.outputs[0].is_graph_output():
            continue
        out, axes = node.outputs[0], _mean_axes(node.outputs[0])
        key = tuple(node.inputs) if node.op_type == "Sub" else (node.inputs[0], axes)
        first = seen.setdefault(key, out) if axes or node.op_type == "Sub" else out
        if first is not out:
            replace(out, first)


def _single_steps(node: ir.Node) -> Norm | None:
    out = node.outputs[0]
    if not is_onnx(node, "Mul", "Div") or out.shape is None:
        return None
    product = monomial(out)
    for variance in (value for value, power in product.powers.items() if power == -0.5):
        epsilon, mean = one_more(variance) or (0.0, None)
        axes = None if mean is None else _mean_axes(mean)
        averaged = None if mean is None else mean.producer()
        if averaged is None or axes is None or epsilon <= 0:
            continue
        found = _normalised(product, variance, input_of(averaged, 0), axes)
        if found is not None and found[1].shape == out.shape:
            return Norm(*found, axes, {"epsilon": epsilon})
    return None


def _mean_axes(value: ir.Value) -> tuple[int, ...] | None:
    """The axes, in order, of which `value` holds the means, if it keeps them."""
    node = value.producer()
    if (
        not is_onnx(node, "ReduceMean")
        or not attribute(node, "keepdims", 1)
        or input_of(node, 0).shape is None
    ):
        return None
    axes = integers(node.inputs[1]) if len(node.inputs) > 1 else None
    return tuple(sorted(axis % rank(input_of(node, 0)) for axis in axes)) if axes else None


def _normalised(
    product: Monomial, variance: ir.Value, squares: ir.Value, axes: tuple[int, ...]
) -> tuple[str, ir.Value] | None:
    """Which operator `product` is, of which value: that whose squares were averaged."""
    for value in values_within(squares):
        own = monomial(value)
        if not product.equals(own * Monomial(1.0, {variance: -0.5})) or not monomial(squares).equals(own**2):
            continue
        node = value.producer()
        if is_onnx(node, "Sub") and _mean_axes(input_of(node, 1)) == axes:
            x, mean = inputs_of(node)
            if (averaged := mean.producer()) is not None and averaged.inputs[0] is x:
                return "LayerNormalization", x
        return "RMSNormalization", value
    return None


def _grouped(node: ir.Node) -> Norm | None:
    """Groups of channels as the channels of an InstanceNormalization that neither scales nor shifts."""
    norm = input_of(node, 0).producer() if is_onnx(node, "Reshape") else None
    merge = input_of(norm, 0).producer() if is_onnx(norm, "InstanceNormalization") else None
    if (
        norm is None
        or not is_onnx(merge, "Reshape")
        or not _holds(input_of(norm, 1), 1)
        or not _holds(input_of(norm, 2), 0)
    ):
        return None
    x, merged, out = input_of(merge, 0), input_of(norm, 0), node.outputs[0]
    if x.shape is None or x.shape != out.shape or merged.shape is None or merged.shape.rank() != 3:
        return None
    groups, channels = merged.shape[1], x.shape[1]
    if merged.shape[0] != x.shape[0] or not isinstance(groups, int) or not isinstance(channels, int):
        return None
    attributes = {"num_groups": groups, "epsilon": attribute(norm, "epsilon", 1e-5)}
    return Norm("GroupNormalization", x, (1,), attributes) if channels % groups == 0 else None


def _holds(value: ir.Value, number: float) -> bool:
    tensor = constant(value)
    return tensor is not None and not isinstance(tensor, Weight) and bool(np.all(tensor.numpy() == number))


def _affine(node: ir.Node, made: dict[ir.Value, Norm]) -> Norm | None:
    """A normalisation, made here and read by nobody else, times its scale or plus its bias."""
    if not is_onnx(node, "Mul", "Add"):
        return None
    for place in (0, 1):
        value, norm = input_of(node, place), made.get(input_of(node, place))
        if norm is None or len(value.uses()) > 1 or value.is_graph_output():
            continue
        part = _along(constant(node.inputs[1 - place]), norm)
        if part is None or norm.bias is not None:
            return None
        if node.op_type == "Mul":
            return changed(norm, scale=part) if norm.scale is None else None
        return changed(norm, bias=part) if norm.op != "RMSNormalization" else None
    return None


def _along(tensor: ir.TensorProtocol | None, norm: Norm) -> Weight | np.ndarray | None:
    """The numbers of `tensor` with the dims of the axes of `norm`, if they lie along these and no others."""
    dims = shape_of(norm.x)
    if tensor is None or len(tensor.shape) > len(dims):
        return None
    wanted = [dim if axis in norm.axes else 1 for axis, dim in enumerate(dims)]
    if [1] * (len(dims) - len(tensor.shape)) + list(tensor.shape) != wanted:
        return None
    return tensor.reshape(*norm.dims) if isinstance(tensor, Weight) else tensor.numpy().reshape(norm.dims)


def _emit(emit: Emitter, norm: Norm) -> ir.Value:
    x, grouped = norm.x, norm.op == "GroupNormalization"
    axes = range(rank(x))
    order = list(axes) if grouped else [a for a in axes if a not in norm.axes] + list(norm.axes)
    moved = order != list(axes)
    scale = np.ones(norm.dims) if norm.scale is None else norm.scale
    bias = np.zeros(norm.dims) if norm.bias is None and grouped else norm.bias
    weights = [_value(emit, weight, x) for weight in (scale, bias) if weight is not None]
    attributes = norm.attributes if grouped else {"axis": -len(norm.axes), **norm.attributes}
    y = emit(norm.op, _transposed(emit, x, order) if moved else x, *weights, **attributes)
    y = typed(y, [shape_of(x)[axis] for axis in order], x)
    return _transposed(emit, y, np.argsort(order).tolist()) if moved else y


def _transposed(emit: Emitter, x: ir.Value, perm: Sequence[int]) -> ir.Value:
    return typed(emit("Transpose", x, perm=list(perm)), [shape_of(x)[axis] for axis in perm], x)


def _value(emit: Emitter, weight: Weight | np.ndarray, like: ir.Value) -> ir.Value:
    return emit.tensor(weight) if isinstance(weight, Weight) else emit.constant(weight, numpy_type(like))
