"""How much a node computes, known from shapes before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import onnx_ir as ir

from bridge.graph.functions import DOMAIN
from bridge.graph.recurrent import RECURRENT
from bridge.graph.rewriting import attribute

Dims: TypeAlias = tuple[int | ir.SymbolicDim, ...]
# Products of matrices
FAST = frozenset({"MatMul", "Gemm", "Linear", "TiedProjection", "Conv", "ConvTranspose", *RECURRENT})
SLOW = 64  # times as long takes one step of all others


def products(node: ir.Node) -> Iterator[Dims]:
    """Sizes whose product is how many steps the node takes; several such, if it takes as many as their sum."""
    read = [() if value is None or value.shape is None else tuple(value.shape) for value in node.inputs]
    made = [tuple(value.shape) for value in node.outputs if value.shape is not None]
    if node.domain not in ("", DOMAIN) or not read or not made or not all(read[:2]):
        yield from made[:1]
        return
    out, x = made[0], read[0]
    match node.op_type:
        case "MatMul" | "Linear" | "TiedProjection":
            yield (*out, x[-1])
        case "Gemm":
            yield (*out, x[0 if attribute(node, "transA") else -1])
        case "Conv":
            yield (*out, *read[1][1:])
        case "ConvTranspose":
            yield (*x, *read[1][1:])
        case kind if kind in RECURRENT:
            yield from ((*x[:-1], *weight) for weight in read[1:3])
        case "MaxPool" | "AveragePool" | "LpPool":
            yield (*out, *attribute(node, "kernel_shape", []))
        case "LRN":
            yield (*out, attribute(node, "size", 1))
        case "Attention" | "MultiHeadAttention":
            scores = (*x, read[1][-2])
            yield from (scores, scores)  # and as many steps with the values
            yield from ((*x[:-1], *matrix) for matrix in read[3:7] if node.domain and len(matrix) > 1)
        case "Einsum":
            yield _labelled(attribute(node, "equation", ""), read)
        case _:
            yield from (*made, *read)


def _labelled(equation: str, read: list[Dims]) -> Dims:
    """The size of every label of an Einsum, those of its dots among them."""
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int | ir.SymbolicDim] = {}
    for term, shape in zip(terms, read, strict=False):
        before, dots, after = term.partition("...")
        middle = [f".{place}" for place in range(len(shape) - len(before) - len(after))] if dots else []
        sizes |= dict(zip([*before, *middle, *after], shape, strict=False))
    return tuple(sizes.values())
