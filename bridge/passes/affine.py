"""A value as a sum of products: x W + h R + b, seen through Split, Slice and Concat along the features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from bridge.graph.decimals import number
from bridge.graph.rewriting import attribute, constant, integers, is_onnx
from bridge.weights.weight import Weight

DEEP = 8  # nodes between a sum and the furthest of its products


@dataclass(frozen=True)
class Term:
    """A product: `source` (…, in) times `matrix` (in, out); or, of a `source` that is None, the bias `matrix` (out)."""

    source: ir.Value | None
    matrix: Weight

    @property
    def units(self) -> int:
        return self.matrix.dims[-1]

    def narrow(self, start: int, stop: int) -> Term:
        return replace(self, matrix=self.matrix.narrow(-1, start, stop))

    def scale(self, factor: float) -> Term:
        return replace(self, matrix=self.matrix.scale(factor))


@dataclass(frozen=True)
class Affine:
    """The terms of a sum, in the order in which they are added."""

    terms: tuple[Term, ...]

    @property
    def units(self) -> int:
        return self.terms[0].units

    @property
    def sources(self) -> tuple[ir.Value, ...]:
        """The values that are multiplied, each once."""
        return tuple(dict.fromkeys(term.source for term in self.terms if term.source is not None))

    @property
    def biases(self) -> tuple[Weight, ...]:
        return tuple(term.matrix for term in self.terms if term.source is None)

    def scale(self, factor: float) -> Affine:
        return Affine(tuple(term.scale(factor) for term in self.terms))

    def renamed(self, new: Mapping[ir.Value, ir.Value]) -> Affine:
        """The sum with other values in the place of some that it reads."""
        renamed = (
            term if term.source is None else replace(term, source=new.get(term.source, term.source))
            for term in self.terms
        )
        return Affine(tuple(renamed))

    def matrix(self, source: ir.Value) -> Weight | None:
        """The one matrix that `source` is multiplied with, or None."""
        found = [term.matrix for term in self.terms if term.source is source]
        return found[0] if len(found) == 1 else None


def affine(value: ir.Value | None, deep: int = DEEP) -> Affine | None:
    """`value` as such a sum, in which something is multiplied; None if it is none."""
    terms = _terms(value, deep)
    return Affine(tuple(terms)) if terms and any(term.source is not None for term in terms) else None


def _terms(value: ir.Value | None, deep: int) -> list[Term] | None:
    if value is None or not deep:
        return None
    bias = constant(value)
    if bias is not None:
        return _bias(bias)
    node = value.producer()
    read = READ.get(node.op_type) if is_onnx(node) else None
    return None if read is None or node is None else read(node, value, deep - 1)


def _bias(weight: object) -> list[Term] | None:
    if not isinstance(weight, Weight) or not weight.dims or any(size != 1 for size in weight.dims[:-1]):
        return None
    return [Term(None, weight.reshape(weight.dims[-1]))]


def _number(value: ir.Value | None, beside: list[Term] | None) -> list[Term] | None:
    """One number that is added to all units, such as TensorFlow's bias of the forget gate."""
    tensor = constant(value)
    if tensor is None or tensor.size != 1 or not beside:
        return None
    return [Term(None, beside[0].matrix.fill(float(tensor.numpy().item()), (beside[0].units,)))]


def _same(node: ir.Node, value: ir.Value, deep: int) -> list[Term] | None:
    return _terms(node.inputs[0], deep)


def _negated(node: ir.Node, value: ir.Value, deep: int) -> list[Term] | None:
    terms = _terms(node.inputs[0], deep)
    return terms and [term.scale(-1) for term in terms]


def _sum(node: ir.Node, value: ir.Value, deep: int) -> list[Term] | None:
    left, right = (_terms(part, deep) for part in node.inputs)
    left, right = left or _number(node.inputs[0], right), right or _number(node.inputs[1], left)
    if not left or not right or left[0].units != right[0].units:
        return None
    return left + [term.scale(-1) for term in right] if node.op_type == "Sub" else left + right


def _matmul(node: ir.Node, value: ir.Value, deep: int) -> list[Term] | None:
    matrix = constant(node.inputs[1])
    if not isinstance(matrix, Weight) or len(matrix.dims) != 2:
        return None
    return _products(node.inputs[0], matrix)


def _gemm(node: ir.Node, value: ir.Value, deep: int) -> list[Term] | None:
    matrix, added = constant(node.inputs[1]), [*node.inputs, None][2]
    if not isinstance(matrix, Weight) or attribute(node, "transA", 0):
        return None
    matrix = matrix.transpose(1, 0) if attribute(node, "transB", 0) else matrix
    alpha, beta = (number(attribute(node, name, 1.0)) for name in ("alpha", "beta"))
    products = _products(node.inputs[0], matrix.scale(alpha))
    if products is None or added is None or not beta:
        return products
    terms = _terms(added, deep)
    if not terms or terms[0].units != products[0].units:
        return None
    return products + [term.scale(beta) for term in terms]


def _products(source: ir.Value | None, matrix: Weight) -> list[Term] | None:
    """One for each part of a `source` that is joined along its features."""
    if source is None or source.shape is None:
        return None
    node, rank = source.producer(), source.shape.rank()
    if not is_onnx(node, "Concat") or attribute(node, "axis", 0) % rank != rank - 1:
        return [Term(source, matrix)]
    parts = [part for part in node.inputs if part is not None]
    sizes = [None if part.shape is None else part.shape[-1] for part in parts]
    ends = [sum(size for size in sizes[: place + 1] if isinstance(size, int)) for place in range(len(sizes))]
    if any(not isinstance(size, int) for size in sizes) or ends[-1] != matrix.dims[0]:
        return [Term(source, matrix)]
    starts = [0, *ends[:-1]]
    return [
        Term(part, matrix.narrow(0, start, end)) for part, start, end in zip(parts, starts, ends, strict=True)
    ]


def _part(node: ir.Node, value: ir.Value, deep: int) -> list[Term] | None:
    place = _place(node, value)
    terms = None if place is None else _terms(node.inputs[0], deep)
    return terms and place and [term.narrow(*place) for term in terms]


def _place(node: ir.Node, value: ir.Value) -> tuple[int, int] | None:
    """Which of the features `value` is, one output of a Split or Slice along the last axis; None if it is no such."""
    shape = None if node.inputs[0] is None else node.inputs[0].shape
    if shape is None or not isinstance(shape[-1], int):
        return None
    whole, last = shape[-1], shape.rank() - 1
    if node.op_type == "Split":
        sizes = [out.shape[-1] if out.shape else None for out in node.outputs]
        widths = [size for size in sizes if isinstance(size, int)]
        if attribute(node, "axis", 0) % (last + 1) != last or len(widths) < len(sizes):
            return None
        place = value.index() or 0
        return sum(widths[:place]), sum(widths[: place + 1])
    starts, ends, axes, steps = (integers(v) for v in [*node.inputs[1:], None, None][:4])
    given = [v is not None for v in [*node.inputs[1:], None, None][:4]]
    if starts is None or ends is None or (given[3] and steps != [1]):
        return None
    axes = list(range(len(starts))) if not given[2] else axes
    if axes is None or [axis % (last + 1) for axis in axes] != [last]:
        return None
    low, high, _ = slice(starts[0], ends[0]).indices(whole)
    return (low, high) if low < high else None


READ = {
    "Identity": _same,
    "Neg": _negated,
    "Add": _sum,
    "Sub": _sum,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Split": _part,
    "Slice": _part,
}
