"""Constants are computed; weights are not: moving a weight about extends its recipe.

Works out nodes whose inputs are all known (`evaluate.py`), if their outputs are within bounds. A node
that only moves the elements of a `Weight` (`moves.py`) gives a `Weight` with a longer recipe; other arithmetic on
weights gives a `Computed` recipe, which names its parameters but cannot go back, or stays in the graph where parameters
are trainable.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from bridge.errors import SourceError
from bridge.graph.decimals import decimal
from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import all_nodes, is_onnx, owner_graph, sizes
from bridge.passes.bounds import known_bytes
from bridge.passes.evaluate import evaluate
from bridge.passes.moves import move, stays_trainable
from bridge.weights.recipes import Computed
from bridge.weights.weight import Weight

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_GROWTH = 512 << 20  # bytes that constants may take beyond a few times what the file holds
MAX_STEPS = 1 << 34  # multiplications in one node
LOOP = 1 << 17  # that a step of the reference evaluator's own loops takes as long as
RANDOM = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
}


# Which become layers; the reference evaluator passes over lengths and more
RECURRENT = {"LSTM", "GRU", "RNN"}
LEFT = RANDOM | RECURRENT
NORMS = {"WeightNorm", "SpectralNorm"}  # ours, of weights

# Operators whose outputs are a choice of their inputs' elements or of their places
SELECTIONS = {"NonZero", "Compress", "Unique", "NonMaxSuppression"}
# and those that the evaluator works out in loops of Python
LOOPS = {
    "AffineGrid", "AveragePool", "Col2Im", "Conv", "ConvInteger", "ConvTranspose", "DFT", "DeformConv",
    "GridSample", "LRN", "LpPool", "MaxPool", "MaxUnpool", "MelWeightMatrix", "NonMaxSuppression",
    "QLinearConv", "Resize", "RoiAlign", "STFT", "ScatterElements", "ScatterND", "TfIdfVectorizer", "Unique",
    "Upsample",
}  # fmt: skip


def fold_constants(model: ir.Model) -> None:
    """Raises `SourceError` if constants unfold to more than memory should be asked for."""
    made: set[ir.Value] = set()
    held = (value for graph in model.graphs() for value in graph.initializers.values())
    room = MAX_GROWTH + 4 * sum(map(_bytes, held))
    for node in all_nodes(model):
        graph = owner_graph(node)
        inputs = [None if value is None else ir.convenience.get_const_tensor(value) for value in node.inputs]
        if not _foldable(node, inputs, graph):
            continue
        size = _size(node, inputs)
        if size is None:
            continue
        room -= size - sum(map(_bytes, _last_read(node, made)))
        if room < 0:
            raise SourceError(
                f"{node.op_type} at output {node.outputs[0].name}: the model's constants unfold to more than "
                f"{MAX_GROWTH >> 20} MiB beyond what the file holds"
            )
        if _steps(node, inputs, size) > MAX_STEPS:
            continue
        results = _fold_node(node, inputs)
        made.update(_replace(graph, value, t) for value, t in zip(node.outputs, results, strict=False))
        if results:
            _forget(graph, node, made)


def _bytes(value: ir.Value) -> int:
    """Of a constant."""
    return 0 if value.const_value is None else value.const_value.nbytes


def _foldable(node: ir.Node, inputs: Sequence[ir.TensorProtocol | None], graph: ir.Graph) -> bool:
    norms = node.domain == DOMAIN and node.op_type in NORMS
    if not (is_onnx(node) or norms) or node.op_type in LEFT or not node.outputs:
        return False
    if any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
        return False
    known = (
        tensor is not None for value, tensor in zip(node.inputs, inputs, strict=True) if value is not None
    )
    return all(known) and not any(_leaves(value, graph) for value in node.outputs)


def _size(node: ir.Node, inputs: Sequence[ir.TensorProtocol | None]) -> int | None:
    """The bytes of the outputs, at most; None if neither their shapes nor the inputs tell."""
    sizes = [known_bytes(value) for value in node.outputs]
    if None not in sizes:
        return sum(size for size in sizes if size is not None)
    tensors = [tensor for tensor in inputs if tensor is not None]
    if node.op_type in SELECTIONS:
        return sum(8 * tensor.size * (len(tensor.shape) + 3) for tensor in tensors)
    if node.op_type == "Range" and [tensor.size for tensor in tensors] == [1, 1, 1]:
        start, limit, step = (float(tensor.numpy().item()) for tensor in tensors)
        count = (limit - start) / step if step else math.nan
        return int(max(count, 0) + 1) * 8 if math.isfinite(count) else None
    return None


def _steps(node: ir.Node, inputs: Sequence[Any], size: int) -> int:
    """How much the reference evaluator has to do, roughly."""
    sizes = [tensor.size for tensor in inputs if tensor is not None]
    if node.op_type in LOOPS:
        return LOOP * (sum(sizes) + size // 4)
    if node.op_type == "Einsum":
        return math.prod(sizes)
    return size * max(inputs[0].shape, default=1) if node.op_type in ("MatMul", "Gemm") else size


def _forget(graph: ir.Graph, node: ir.Node, made: set[ir.Value]) -> None:
    """Take the folded `node` out, and the constants that only it read."""
    if any(value.uses() or value.is_graph_output() for value in node.outputs):
        return
    read = _last_read(node, made)
    graph.remove(node, safe=True)
    made -= read
    for value in read:
        graph.initializers.pop(str(value.name), None)


def _last_read(node: ir.Node, made: set[ir.Value]) -> set[ir.Value]:
    """The constants of `made` that nothing but `node` reads."""
    return {
        value
        for value in node.inputs
        if value in made and not value.is_graph_output() and all(user is node for user, _ in value.uses())
    }


def _leaves(value: ir.Value, graph: ir.Graph) -> bool:
    """Whether a graph inside `graph`, a branch of If for instance, gives `value` as its own output."""
    return value.is_graph_output() and not any(value is output for output in graph.outputs)


def _replace(graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> ir.Value:
    constant = ir.Value(name=f"{value.name}_folded", const_value=tensor)
    constant.shape, constant.dtype = ir.Shape(sizes(tensor)), tensor.dtype
    graph.register_initializer(constant)
    value.replace_all_uses_with(constant, replace_graph_outputs=True)
    return constant


def _fold_node(node: ir.Node, inputs: Sequence[ir.TensorProtocol | None]) -> list[ir.TensorProtocol]:
    weights = [tensor for tensor in inputs if isinstance(tensor, Weight)]
    if not weights:
        widened = _widened(node, inputs)
        return _evaluate(node, inputs) if widened is None else [widened]
    moved = move(node, inputs)
    if moved is not None:
        return moved
    if any(map(stays_trainable, weights)):
        return []
    parameters = tuple(dict.fromkeys(p for weight in weights for p in weight.recipe.parameters))
    return [
        Weight(Computed(t.numpy(), parameters, node.op_type.lower()), weights[0].state, t.dtype)
        if t.dtype.is_floating_point()
        else t
        for t in _evaluate(node, inputs)
    ]


def _widened(node: ir.Node, inputs: Sequence[Any]) -> ir.TensorProtocol | None:
    """A number that the exporter wrote in single precision and casts to double: the number that was meant."""
    value = inputs[0].numpy() if inputs and node.op_type in ("Cast", "CastLike") else None
    if value is None or value.size != 1 or value.dtype != np.float32 or not np.isfinite(value).all():
        return None
    double = inputs[1].dtype if node.op_type == "CastLike" else node.attributes["to"].value
    return ir.tensor(np.full(value.shape, decimal(value.item()))) if double == ir.DataType.DOUBLE else None


def _evaluate(node: ir.Node, inputs: Sequence[ir.TensorProtocol | None]) -> list[ir.TensorProtocol]:
    results = evaluate(node, inputs)
    return [ir.tensor(y, name=value.name) for y, value in zip(results, node.outputs, strict=bool(results))]
