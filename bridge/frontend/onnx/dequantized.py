"""A model that computes with integers -> the model of numbers that it stands for, which can be trained.

Integers that a QuantizeLinear makes and a DequantizeLinear takes back are the numbers in front of them, also behind
operators that only move them; a product of integers is the product of what they stand for. Where a quantiser has
taken a ReLU for what its range does, it is there again. What reads integers in any other way keeps them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from bridge.frontend.onnx.integers import BOTH, dequantize_linear
from bridge.frontend.onnx.lowered import (
    LOWERINGS,
    MICROSOFT,
    Expression,
    Ranks,
    Weights,
    Writer,
    enter,
    known,
    lower,
)
from bridge.frontend.onnx.microsoft import laid_out
from bridge.graph.rewriting import attribute, is_onnx, numpy_type
from bridge.graph.rewriting import replace as hand_over
from bridge.graph.shapes import rank

MOVERS = {
    "Concat", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Resize", "Slice", "Squeeze", "Tile",
    "Transpose", "Unsqueeze",
}  # fmt: skip
AT_LEAST_ZERO = {"Abs", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Sqrt"}  # what gives no negative number
NUMBERS: dict[tuple[str, str], Expression] = {}


def dequantize(model: ir.Model) -> None:
    """Turn `model`, of the newest opset, into one of numbers in place."""
    weights: Weights = {}
    for node in list(model.graph):
        if is_onnx(node, "MatMulInteger", "ConvInteger"):
            _dynamic(node, Writer(node, Ranks(), weights))
    RemoveUnusedNodesPass()(model)
    lower(model, LOWERINGS | NUMBERS, weights)
    ranks, standing = Ranks(), dict[ir.Value, tuple[ir.Value, Any]]()
    for node in list(model.graph):
        _follow(node, Writer(node, ranks, weights), standing)
    RemoveUnusedNodesPass()(model)


# --- integers that are made of numbers and taken back ----------------------------------------------------------------


def _follow(node: ir.Node, write: Writer, numbers: dict[ir.Value, tuple[ir.Value, Any]]) -> None:
    """Enter what the integers of `node` stand for, and replace numbers that are taken back."""
    given = [numbers.get(value) if value is not None else None for value in node.inputs]
    if is_onnx(node, "QuantizeLinear"):
        scale = _scale(node)
        if scale is not None and node.inputs[0] is not None:
            numbers[node.outputs[0]] = _bounded(write, node.inputs[0], node), scale
    elif is_onnx(node, "DequantizeLinear") and given[0] is not None and given[0][1] == _scale(node):
        hand_over(node.outputs[0], given[0][0])
    elif node.op_type in MOVERS and is_onnx(node) and given and given[0] is not None:
        moved = given if node.op_type == "Concat" else given[:1]
        scales = {pair[1] if pair else None for pair in moved}
        if len(scales) == 1 and given[0][1][2] is None:
            inputs = [pair[0] if pair else value for pair, value in zip(given, node.inputs, strict=True)]
            attributes = {name: a.value for name, a in node.attributes.items()}
            numbers[node.outputs[0]] = write(node.op_type, *inputs, **attributes), given[0][1]


def _scale(node: ir.Node) -> tuple[bytes, bytes, int | None] | None:
    """Scale, zero point and axis; None where they are not known before it runs."""
    scale, zero = known(node.inputs[1]), known(node.inputs[2] if len(node.inputs) > 2 else None)
    if scale is None or (zero is None and len(node.inputs) > 2 and node.inputs[2] is not None):
        return None
    place = b"" if zero is None or not zero.any() else zero.tobytes()
    return scale.tobytes(), place, attribute(node, "axis", 1) if scale.size > 1 else None


def _bounded(write: Writer, x: ir.Value, node: ir.Node) -> ir.Value:
    """x; where the integers begin at zero and x does not, what is between zero and their largest number."""
    scale, zero = known(node.inputs[1]), known(node.inputs[2] if len(node.inputs) > 2 else None)
    limits = np.iinfo(np.uint8 if zero is None else numpy_type(node.outputs[0]))
    place = 0 if zero is None or zero.size != 1 else int(zero.item())
    if scale is None or scale.size != 1 or place != limits.min or _no_negative(x):
        return x
    return write("Clip", x, write.number(0, x), write.number((limits.max - place) * float(scale.item()), x))


def _no_negative(x: ir.Value) -> bool:
    maker = x.producer()
    while maker is not None and maker.op_type in MOVERS - {"Concat"} and maker.inputs[0] is not None:
        maker = maker.inputs[0].producer()
    low = known(maker.inputs[1]) if maker is not None and maker.op_type == "Clip" else None
    return maker is not None and (
        maker.op_type in AT_LEAST_ZERO or low is not None and bool((low >= 0).all())
    )


# --- products --------------------------------------------------------------------------------------------------------


def _dynamic(node: ir.Node, write: Writer) -> None:
    """A product with integers that are made while it runs, times both scales -> the product of numbers."""
    quantized, kernel = node.inputs[0].producer() if node.inputs[0] else None, node.inputs[1]
    following = _only_reader(_only_reader(node))
    others = (
        [] if following is None else [value for value in following.inputs if value and not _is_cast(value)]
    )
    factor = others[0].producer() if others else None
    if quantized is None or not is_onnx(quantized, "DynamicQuantizeLinear") or not is_onnx(factor, "Mul"):
        return
    scales = [value for value in factor.inputs if value is not quantized.outputs[1]]
    scale = known(scales[0]) if len(scales) == 1 else None
    if (
        scale is None
        or kernel is None
        or known(kernel) is None
        or scale.size > 1
        and node.op_type == "ConvInteger"
    ):
        return
    zero = node.inputs[3] if len(node.inputs) > 3 else None
    weight = dequantize_linear(write, kernel, scales[0], zero, axis=max(rank(kernel) - 1, 0))
    attributes = {name: a.value for name, a in node.attributes.items()}
    y = write(node.op_type.removesuffix("Integer"), quantized.inputs[0], weight, **attributes)
    assert following is not None
    hand_over(following.outputs[0], y)


def _only_reader(node: ir.Node | None) -> ir.Node | None:
    uses = [] if node is None else list(node.outputs[0].uses())
    return uses[0].node if len(uses) == 1 else None


def _is_cast(value: ir.Value) -> bool:
    return is_onnx(value.producer(), "Cast")


def numbers(*names: str, domain: str | tuple[str, ...] = MICROSOFT):
    return enter(NUMBERS, names, domain)


def _taken(write: Writer, x: ir.Value, scale: ir.Value, zero: ir.Value | None, axis: int = 0) -> ir.Value:
    return dequantize_linear(write, x, scale, zero, axis=axis)


def _bias(write: Writer, b: ir.Value | None, *scales: ir.Value) -> ir.Value | None:
    """A bias in integers, whose scale is the product of `scales`."""
    if b is None:
        return None
    number = np.ones((), np.float64)
    for value in (b, *scales):
        array = known(value)
        if array is None:
            write.refuse("its bias or the scales of it are not known; dequantize=False keeps the integers")
        number = number * array.ravel()
    return write.weight(b, scales, number.astype(np.float32))


@numbers("QLinearConv", domain=BOTH)
def _conv(
    write: Writer,
    x,
    x_scale,
    x_zero,
    w,
    w_scale,
    w_zero,
    y_scale,
    y_zero,
    b=None,
    *,
    channels_last=0,
    **window,
):
    kernel, bias = _taken(write, w, w_scale, w_zero), _bias(write, b, x_scale, w_scale)
    number = _taken(write, x, x_scale, x_zero)
    y = laid_out(write, number, channels_last, lambda x: write("Conv", x, kernel, bias, **window))
    return write("QuantizeLinear", y, y_scale, y_zero, axis=0)


@numbers("QLinearMatMul", domain="")
def _matmul(write: Writer, a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero):
    y = write("MatMul", _taken(write, a, a_scale, a_zero), _taken(write, b, b_scale, b_zero, rank(b) - 1))
    return write("QuantizeLinear", y, y_scale, y_zero, axis=0)


@numbers("MatMulIntegerToFloat")
def _matmul_to_float(write: Writer, a, b, a_scale, b_scale, a_zero=None, b_zero=None, bias=None):
    y = write("MatMul", _taken(write, a, a_scale, a_zero), _taken(write, b, b_scale, b_zero, rank(b) - 1))
    return y if bias is None else write("Add", y, bias)


@numbers("DynamicQuantizeMatMul")
def _dynamic_matmul(write: Writer, a, b, b_scale, b_zero=None, bias=None):
    y = write("MatMul", a, _taken(write, b, b_scale, b_zero, rank(b) - 1))
    return y if bias is None else write("Add", y, bias)


@numbers("QGemm")
def _gemm(
    write: Writer,
    a,
    a_scale,
    a_zero,
    b,
    b_scale,
    b_zero,
    c=None,
    y_scale=None,
    y_zero=None,
    *,
    transB=0,
    **how,
):
    left, right = _taken(write, a, a_scale, a_zero), _taken(write, b, b_scale, b_zero, 1 - transB)
    y = write("Gemm", left, right, _bias(write, c, a_scale, b_scale), transB=transB, **how)
    return y if y_scale is None else write("QuantizeLinear", y, y_scale, y_zero, axis=0)


@numbers("QLinearAdd", "QLinearMul")
def _binary(write: Writer, a, a_scale, a_zero, b, b_scale, b_zero, c_scale, c_zero=None):
    pair = _taken(write, a, a_scale, a_zero), _taken(write, b, b_scale, b_zero)
    y = write(write.node.op_type.removeprefix("QLinear"), *pair)
    return write("QuantizeLinear", y, c_scale, c_zero, axis=0)


@numbers("QLinearGlobalAveragePool")
def _global_average_pool(write: Writer, x, x_scale, x_zero, y_scale, y_zero, *, channels_last=0):
    number = _taken(write, x, x_scale, x_zero)
    y = laid_out(write, number, channels_last, lambda x: write("GlobalAveragePool", x))
    return write("QuantizeLinear", y, y_scale, y_zero, axis=0)


@numbers("QLinearSoftmax")
def _softmax(write: Writer, x, x_scale, x_zero, y_scale, y_zero, *, opset, axis=-1):
    y = write("Softmax", _taken(write, x, x_scale, x_zero), axis=axis)
    return write("QuantizeLinear", y, y_scale, y_zero, axis=0)


@numbers("DynamicQuantizeLSTM")
def _lstm(
    write: Writer, x, w, r, b, lens, h, c, p, w_scale, w_zero, r_scale, r_zero, **attributes: object
):  # fmt: skip
    """Its matrices stand the other way round than those of an LSTM."""
    turned = []
    for matrix, scale, zero in ((w, w_scale, w_zero), (r, r_scale, r_zero)):
        stored, factor, place = known(matrix), known(scale), known(zero)
        if stored is None or factor is None or place is None:
            write.refuse("its matrices, scales and zero points are not all constant")
        factor, place = (
            v.reshape(len(v), 1, -1) if v.ndim else v for v in (factor, place.astype(np.float32))
        )
        number = ((stored.astype(np.float32) - place) * factor).transpose(0, 2, 1)
        turned.append(write.weight(matrix, scale, np.ascontiguousarray(number)))
    return write("LSTM", x, *turned, b, lens, h, c, p, outputs=3, **attributes)
