"""What an input of the model may hold: numbers like the example's, indices within their table, lengths within their
sequence, masks that leave something of every row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bridge.graph.functions import DOMAIN
from bridge.graph.recurrent import RECURRENT
from bridge.graph.rewriting import constant, input_of, inputs_of, numpy_type
from bridge.graph.shapes import Dim, shape_of
from bridge.verification.inputs.sizes import Sizes, evaluate

# The same numbers, moved
SAME = frozenset("Cast Expand Identity Reshape Slice Squeeze Transpose Unsqueeze".split())
COMPARED = frozenset("Less LessOrEqual Greater GreaterOrEqual".split())
ASKED = 0.5  # the part of draws in which an input holds one of the integers that it is compared with
INTEGERS = 10  # integers of which nothing is known are drawn below it, or up to the largest size


@dataclass(frozen=True)
class Slot:
    """One input, and what the graph and the example say of its values."""

    value: ir.Value
    example: np.ndarray | None = None
    longest: Dim | None = None  # the dim that bounds the lengths which it holds
    table: Dim | None = None  # the dim of what it holds indices into
    mask: bool = False
    divides: bool = False  # something is divided by it, so that none is 0
    asked: tuple[int, ...] = ()  # the integers that the graph asks whether it holds

    @property
    def dtype(self) -> np.dtype:
        return numpy_type(self.value) if self.example is None else self.example.dtype

    def draw(self, sizes: Sizes, rng: np.random.Generator) -> np.ndarray:
        shape = tuple(evaluate(dim, sizes) for dim in shape_of(self.value))
        if self.longest is not None:
            return self.lengths(shape, evaluate(self.longest, sizes), rng)
        if self.mask:
            return self._mask(shape, rng).astype(self.dtype)
        if self.asked and self.example is None and math.prod(shape) == 1 and rng.random() < ASKED:
            return np.full(shape, rng.choice(self.asked), self.dtype)
        if self.dtype.kind in "ui":
            return self._integers(shape, sizes, rng)
        return self._floats(shape, rng)

    def _floats(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Numbers of the example's; where it holds -inf it is added to scores, and masks some of every row."""
        if self.example is None or self.example.size < 2 or np.all(self.example == self.example.flat[0]):
            return rng.standard_normal(shape).astype(self.dtype)
        count, masked = math.prod(shape), np.isneginf(self.example)
        finite = self.example[~masked] if masked.any() else self.example
        drawn = rng.permutation(np.resize(finite, max(count, 1)))[:count].reshape(shape)
        return np.where(self._mask(shape, rng), -np.inf, drawn).astype(self.dtype) if masked.any() else drawn

    def lengths(
        self, shape: tuple[int, ...], longest: int, rng: np.random.Generator, full: bool = True
    ) -> np.ndarray:
        """From 1 to `longest`, one of which is sure to be there: the longest if `full`, else 1."""
        drawn = rng.integers(1, longest + 1, shape)
        drawn.reshape(-1)[:1] = longest if full else 1
        return self._sorted(drawn)

    def _sorted(self, lengths: np.ndarray) -> np.ndarray:
        """Packing may insist on lengths that fall."""
        if self.example is not None and self.example.ndim == 1 and np.all(np.diff(self.example) <= 0):
            lengths = np.sort(lengths)[::-1]
        return lengths.astype(self.dtype, order="C")

    def _mask(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Of every row something is kept and something masked, whichever of the two is True."""
        drawn = rng.random(shape)
        if not shape or shape[-1] < 2:
            usual = True if self.example is None or not self.example.size else np.median(self.example) > 0
            return np.full(shape, usual)
        ranks = drawn.argsort(-1).argsort(-1)
        return (drawn < 0.5) & (ranks < shape[-1] - 1) | (ranks == 0)

    def _integers(self, shape: tuple[int, ...], sizes: Sizes, rng: np.random.Generator) -> np.ndarray:
        """Over the whole range, its ends among them."""
        low, high = self._range(sizes)
        drawn = rng.integers(low, high + 1, shape)
        if self.divides or self.example is not None and self.example.size and 0 not in self.example:
            drawn = np.where(drawn == 0, high or 1, drawn)
        if self.table is not None and drawn.size > 1:
            places = rng.choice(drawn.size, 2, replace=False)
            drawn.reshape(-1)[places] = low, high
        return drawn.astype(self.dtype)

    def _range(self, sizes: Sizes) -> tuple[int, int]:
        if self.table is not None:
            rows = evaluate(self.table, sizes)
            negative = self.example is not None and self.example.size and self.example.min() < 0
            return (-rows if negative else 0), max(rows - 1, 0)
        if self.example is not None and self.example.size:
            return int(self.example.min()), int(self.example.max())
        return 0, max(INTEGERS - 1, *sizes.values(), 0)


def slots(graph: ir.Graph, examples: list[np.ndarray] | None) -> list[Slot]:
    """One for every input of a graph as `passes.simplify` left it."""
    lengths, tables = _lengths(graph), _tables(graph)
    return [
        Slot(
            value,
            None if examples is None else examples[index],
            lengths.get(value),
            tables.get(value),
            value not in tables and _masks(value),
            any(n.op_type in ("Div", "Mod") and n.inputs[1] is read for n, read in _readers(value)),
            _asked(value) if value not in tables else (),
        )
        for index, value in enumerate(graph.inputs)
    ]


def _root(value: ir.Value | None) -> ir.Value | None:
    """The value whose numbers `value` holds, moved about."""
    while value is not None and (node := value.producer()) is not None and node.op_type in SAME:
        value = node.inputs[0]
    return value


def _lengths(graph: ir.Graph) -> dict[ir.Value, Dim]:
    """The axis that bounds the numbers of each input which holds lengths: a recurrent layer reads them, or the numbers
    of the axis' places are compared with them."""
    found: dict[ir.Value, Dim] = {}
    for node in graph:
        pairs: list[tuple[ir.Value | None, Dim | None]] = []
        layer = RECURRENT.get(node.op_type) if node.domain == DOMAIN else None
        if layer is not None and len(node.inputs) > 4 and not layer.is_cell:
            time = 0 if layer.is_projected else 1
            pairs.append((node.inputs[4], shape_of(input_of(node, 0))[time]))
        elif node.op_type in COMPARED:
            one, other = inputs_of(node)
            pairs += [(one, _places(other)), (other, _places(one))]
        elif node.op_type == "ReverseSequence" and input_of(node, 0).shape is not None:
            time = node.attributes["time_axis"].as_int() if "time_axis" in node.attributes else 0
            pairs.append((node.inputs[1], shape_of(input_of(node, 0))[time]))
        for lengths, longest in pairs:
            root = _root(lengths)
            if longest is not None and root is not None and root.is_graph_input() and _is_integer(root):
                found[root] = longest
    return found


def _places(value: ir.Value) -> Dim | None:
    """The size of an axis where `value` holds the numbers of its places, 0 and on, moved about."""
    root = _root(value)
    if root is None:
        return None
    node, tensor = root.producer(), root.const_value
    if node is not None and node.op_type == "Range" and root.shape is not None:
        first, _, step = map(constant, inputs_of(node))
        if first is not None and step is not None and first.numpy() == 0 and step.numpy() == 1:
            return root.shape[0]
    if tensor is None or tensor.size < 2 or not tensor.dtype.is_integer():
        return None
    flat = tensor.numpy().reshape(-1)
    return flat.size if np.array_equal(flat, np.arange(flat.size)) else None


def _tables(graph: ir.Graph) -> dict[ir.Value, Dim]:
    """The axis from which each input chooses, the shortest where there are several; known to run before unknown."""
    found: dict[ir.Value, Dim] = {}
    for node in graph:
        if node.op_type not in ("Gather", "GatherElements") or input_of(node, 0).shape is None:
            continue
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        dim, root = shape_of(input_of(node, 0))[axis], _root(node.inputs[1])
        if root is None or not root.is_graph_input():
            continue
        before = found.get(root)
        if before is None or isinstance(dim, int) and (not isinstance(before, int) or dim < before):
            found[root] = dim
    return found


def _masks(value: ir.Value) -> bool:
    """Whether `value` says which of something counts: it is bool, or an integer that is made one, or taken from 1."""
    if value.dtype == ir.DataType.BOOL:
        return True
    return _is_integer(value) and any(_is_asked(node, place) for node, place in _readers(value))


def _asked(value: ir.Value) -> tuple[int, ...]:
    """The integers that `value` is compared with for being equal, such as a rate that a branch is for."""
    if not _is_integer(value):
        return ()
    others = (
        other
        for node, read in _readers(value)
        if node.op_type == "Equal"
        for other in node.inputs
        if other is not read
    )
    tensors = [tensor for other in others if (tensor := constant(other)) is not None and tensor.size == 1]
    return tuple(dict.fromkeys(int(tensor.numpy().item()) for tensor in tensors))


def _is_integer(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_integer()


def _readers(value: ir.Value) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Every node that reads `value`, moved about or not, with what it reads."""
    for node, _ in value.uses():
        yield node, value
        if node.op_type in SAME and node.inputs[0] is value:
            yield from _readers(node.outputs[0])


def _is_asked(node: ir.Node, value: ir.Value) -> bool:
    if node.op_type == "Cast":
        return node.attributes["to"].as_int() == ir.DataType.BOOL
    tensor = ir.convenience.get_const_tensor(input_of(node, 0)) if node.op_type == "Sub" else None
    return tensor is not None and node.inputs[1] is value and bool(np.all(tensor.numpy() == 1))
