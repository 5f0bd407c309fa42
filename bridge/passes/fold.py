"""Constants are computed; weights are not: moving a weight about extends its recipe.

Runs the ONNX reference evaluator on nodes whose inputs are all known, whatever their size. A node that only moves
the elements of a `Weight` (`MOVES`) gives a `Weight` with a longer recipe; other arithmetic on weights gives a
`Computed` recipe, which names its parameters but cannot go back, or stays in the graph where parameters are trainable.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from bridge.functions import OPSET
from bridge.passes.emit import attribute, is_onnx
from bridge.recipes import Computed
from bridge.weights import Weight
from bridge.written import decimal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_ELEMENTS = 1 << 26  # a constant that is larger was not meant to be folded
PARAMETRISED = re.compile(r"parametrizations\.|_(g|v|u|orig)$")  # torch's weight norm and spectral norm
RANDOM = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
}


def fold(model: ir.Model) -> None:
    graph = model.graph
    for node in list(graph):
        if not is_onnx(node) or node.op_type in RANDOM or not node.outputs:
            continue
        if any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
            continue
        inputs = [None if value is None else ir.convenience.get_const_tensor(value) for value in node.inputs]
        if any(
            value is not None and tensor is None for value, tensor in zip(node.inputs, inputs, strict=True)
        ):
            continue
        if any(_size(value.shape) > MAX_ELEMENTS or _leaves(value, graph) for value in node.outputs):
            continue
        for value, tensor in zip(node.outputs, _fold_node(node, inputs), strict=False):
            _replace(graph, value, tensor)


def _leaves(value: ir.Value, graph: ir.Graph) -> bool:
    """Whether a graph inside `graph`, a branch of If for instance, gives `value` as its own output."""
    return value.is_graph_output() and not any(value is output for output in graph.outputs)


def _size(shape: ir.Shape | None) -> int:
    dims = [] if shape is None else list(shape)
    return math.prod(dim for dim in dims if isinstance(dim, int))


def _replace(graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> None:
    constant = ir.Value(name=f"{value.name}_folded", const_value=tensor)
    constant.shape, constant.dtype = ir.Shape(tensor.shape), tensor.dtype
    graph.register_initializer(constant)
    value.replace_all_uses_with(constant, replace_graph_outputs=True)


def _fold_node(node: ir.Node, inputs: Sequence[Any]) -> list[Any]:
    weights = [tensor for tensor in inputs if isinstance(tensor, Weight)]
    if not weights:
        widened = _widened(node, inputs)
        return _evaluate(node, inputs) if widened is None else [widened]
    moved = MOVES[node.op_type](node, *inputs) if node.op_type in MOVES else None
    if moved is not None:
        return moved
    if any(map(_stays, weights)):
        return []
    results = _evaluate(node, inputs)
    return [
        Weight(
            Computed(t.numpy(), tuple(w.recipe for w in weights), node.op_type.lower()),
            weights[0].source,
            t.dtype,
        )
        if t.dtype.is_floating_point()
        else t
        for t in results
    ]


def _widened(node: ir.Node, inputs: Sequence[Any]) -> ir.TensorProtocol | None:
    """A number that the exporter wrote in single precision and casts to double: the number that was meant."""
    value = inputs[0].numpy() if inputs and node.op_type in ("Cast", "CastLike") else None
    if value is None or value.size != 1 or value.dtype != np.float32 or not np.isfinite(value).all():
        return None
    double = inputs[1].dtype if node.op_type == "CastLike" else node.attributes["to"].value
    return ir.tensor(np.full(value.shape, decimal(value.item()))) if double == ir.DataType.DOUBLE else None


def _stays(weight: Weight) -> bool:
    """Whether arithmetic on a parameter is left for the run, so that the parameter stays trainable. Weight norm and
    spectral norm are not: their weights come out as what they amount to."""
    names = weight.recipe.names
    return weight.is_parameter and weight.trainable and not any(PARAMETRISED.search(name) for name in names)


def _evaluate(node: ir.Node, inputs: Sequence[Any]) -> list[ir.TensorProtocol]:
    proto = ir.to_proto(node)
    names = [value.name for value in node.inputs if value is not None]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [proto],
            "fold",
            [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in dict.fromkeys(names)],
            [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in proto.output if name],
        ),
        opset_imports=[onnx.helper.make_opsetid("", node.version or OPSET)],
    )
    feeds = {v.name: t.numpy() for v, t in zip(node.inputs, inputs, strict=True) if v is not None}
    results = ReferenceEvaluator(model).run(None, feeds)
    return [
        ir.tensor(np.asarray(result), name=name) for result, name in zip(results, proto.output, strict=True)
    ]


# --- operators that move a weight's elements and change none: node, input tensors -> weights, or None ------------


def _identity(node, w):
    return [w]


def _transpose(node, w):
    return [w.transpose(*attribute(node, "perm", range(len(w.dims))[::-1]))]


def _reshape(node, w, *_):
    shape = node.outputs[0].shape
    return [w.reshape(*shape)] if shape is not None and all(isinstance(dim, int) for dim in shape) else None


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
    if any(map(_stays, weights)) and not all(
        isinstance(part, Weight) and part.is_parameter for part in parts
    ):
        return None  # a variable trains as a whole
    filled = [part if isinstance(part, Weight) else _as_fill(weights[0], part) for part in parts]
    if any(part is None for part in filled):
        return None
    return [Weight.concat([part for part in filled if part is not None], axis % len(weights[0].dims))]


def _as_fill(beside: Weight, tensor: Any) -> Weight | None:
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
    ends = np.cumsum(sizes).tolist()
    return [w.narrow(axis, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _gather(node, w, indices):
    index = indices.numpy()
    if index.ndim or not isinstance(w, Weight):
        return None
    axis = attribute(node, "axis", 0) % len(w.dims)
    return [w.select(axis, int(index) % w.dims[axis])]


def _cast(node, w):
    return [w] if attribute(node, "to", None) == w.dtype else None


def _cast_like(node, w, like):
    return [w] if isinstance(w, Weight) and like.dtype == w.dtype else None


MOVES: dict[str, Callable[..., list[Any] | None]] = {
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
}
