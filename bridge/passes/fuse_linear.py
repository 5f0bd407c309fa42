"""Gemm, and MatMul followed by Add, -> `Linear`: x W + b with W (in, out), as Keras's Dense has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from bridge.graph.decimals import number
from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import (
    Emitter,
    all_nodes,
    attribute,
    constant,
    input_of,
    is_onnx,
    numpy_type,
    replace,
    typed,
)
from bridge.graph.shapes import Dim, shape_of
from bridge.weights.weight import Weight


def fuse_linear(model: ir.Model) -> None:
    for node in all_nodes(model):
        if is_onnx(node, "Gemm", "MatMul"):
            {"Gemm": _gemm, "MatMul": _matmul}[node.op_type](node)


def _bias(value: ir.Value | None, units: int) -> Weight | None:
    """The weight behind `value`, if it is one number for each unit."""
    weight = constant(value)
    if isinstance(weight, Weight) and weight.dims in ((units,), (1, units)):
        return weight.reshape(units)
    return None


def _gemm(node: ir.Node) -> None:
    x, w, c = input_of(node, 0), input_of(node, 1), [*node.inputs, None][2]
    alpha, beta = (number(attribute(node, name, 1.0)) for name in ("alpha", "beta"))
    emit = Emitter(node)
    dims = list(shape_of(node.outputs[0]))

    def made(shape: Sequence[Dim], op: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        return typed(emit(op, *inputs, **attributes), shape, x)

    if attribute(node, "transA", 0):
        x = made(shape_of(x)[::-1], "Transpose", x, perm=[1, 0])
    weight, bias = constant(w), None
    if isinstance(weight, Weight):
        weight = weight.transpose(1, 0) if attribute(node, "transB", 0) else weight
        bias = _bias(c, weight.dims[1])
        kernel = emit.tensor(weight.scale(alpha))
    else:
        kernel = made(shape_of(w)[::-1], "Transpose", w, perm=[1, 0]) if attribute(node, "transB", 0) else w
    if bias is not None and beta:
        out = emit("Linear", x, kernel, emit.tensor(bias.scale(beta)), domain=DOMAIN)
    else:
        out = made(dims, "MatMul", x, kernel)
        if alpha != 1 and not isinstance(weight, Weight):
            out = made(dims, "Mul", out, emit.constant(alpha, numpy_type(x)))
        if c is not None and beta:
            scaled = c if beta == 1 else made(shape_of(c), "Mul", c, emit.constant(beta, numpy_type(x)))
            out = made(dims, "Add", out, scaled)
    replace(node.outputs[0], out)


def _matmul(node: ir.Node) -> None:
    weight = constant(node.inputs[1])
    uses = list(node.outputs[0].uses())
    if (
        not isinstance(weight, Weight)
        or len(weight.dims) != 2
        or len(uses) != 1
        or node.outputs[0].is_graph_output()
    ):
        return
    add = uses[0].node
    if not is_onnx(add, "Add"):
        return
    bias = _bias(add.inputs[1 - uses[0].idx], weight.dims[1])
    if bias is not None and len(input_of(node, 0).shape or ()) > 1:
        emit = Emitter(add)
        replace(
            add.outputs[0], emit("Linear", node.inputs[0], node.inputs[1], emit.tensor(bias), domain=DOMAIN)
        )
