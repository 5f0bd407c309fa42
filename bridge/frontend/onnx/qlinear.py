"""Operators of onnxruntime's own domain that compute with integers in the place of numbers, in ONNX's."""

from __future__ import annotations

import onnx_ir as ir

from bridge.frontend.onnx.attention import MASKED, attended
from bridge.frontend.onnx.integers import (
    FLOAT,
    by_row,
    centred,
    dynamic_quantize_linear,
    matmul_integer,
    qlinear_conv,
    rescaled,
)
from bridge.frontend.onnx.lowered import MICROSOFT, Writer, lowers
from bridge.frontend.onnx.microsoft import laid_out
from bridge.graph.rewriting import numpy_type

# --- products ----------------------------------------------------------------------------------------------------


@lowers("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(
    write: Writer, a, b, a_scale, b_scale, a_zero_point=None, b_zero_point=None, bias=None
):
    total = matmul_integer(write, a, b, a_zero_point, b_zero_point)
    factor = write("Mul", by_row(write, a_scale), b_scale)
    y = write("Mul", write.cast(total, FLOAT), factor)
    return y if bias is None else write("Add", y, bias)


@lowers("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(write: Writer, a, b, b_scale, b_zero_point=None, bias=None):
    q, a_scale, a_zero_point = dynamic_quantize_linear(write, a)
    return matmul_integer_to_float(write, q, b, a_scale, b_scale, a_zero_point, b_zero_point, bias)


@lowers("DynamicQuantizeLSTM", domain=MICROSOFT)
def dynamic_quantize_lstm(write: Writer, *inputs, **attributes):
    write.refuse("it makes integers of its state at every step; dequantize=True makes it an LSTM of numbers")


@lowers("QGemm", domain=MICROSOFT)
def qgemm(
    write: Writer, a, a_scale, a_zero_point, b, b_scale, b_zero_point, c=None, y_scale=None, y_zero_point=None,
    *, alpha=1.0, transA=0, transB=0,
):  # fmt: skip
    a, b = (write("Transpose", x, perm=[1, 0]) if turn else x for x, turn in ((a, transA), (b, transB)))
    total = matmul_integer(write, a, b, a_zero_point, b_zero_point)
    total = total if c is None else write("Add", total, c)
    factor = write("Mul", a_scale, b_scale)
    factor = factor if alpha == 1 else write("Mul", factor, write.number(alpha, factor))
    if y_scale is None:
        return write("Mul", write.cast(total, FLOAT), factor)
    return rescaled(write, total, write("Div", factor, y_scale), y_zero_point)


@lowers("QLinearConv", domain=MICROSOFT)
def qlinear_conv_anywhere(
    write: Writer, x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, b=None,
    *, auto_pad="NOTSET", channels_last=0, dilations=None, group=1, kernel_shape=None, pads=None, strides=None,
):  # fmt: skip
    given = (x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, b)
    window = {"auto_pad": auto_pad, "dilations": dilations, "group": group, "kernel_shape": kernel_shape,
              "pads": pads, "strides": strides}  # fmt: skip
    return laid_out(write, x, channels_last, lambda x: qlinear_conv(write, x, *given, **window))


@lowers("QAttention", domain=MICROSOFT)
def qattention(
    write: Writer, input, weight, bias, input_scale, weight_scale, mask_index=None, input_zero_point=None,
    weight_zero_point=None, past=None,
    *, num_heads, do_rotary=0, mask_filter_value=MASKED, past_present_share_buffer=0, scale=None, unidirectional=0,
):  # fmt: skip
    if do_rotary or past_present_share_buffer:
        write.refuse("do_rotary and past_present_share_buffer are not handled")
    y = matmul_integer_to_float(
        write, input, weight, input_scale, weight_scale, input_zero_point, weight_zero_point, bias
    )
    projected = write("Split", y, axis=-1, num_outputs=3, outputs=3)
    return attended(
        write, projected, (mask_index, None), past, num_heads, unidirectional, scale, mask_filter_value
    )


# --- of every number for itself, and pools -------------------------------------------------------------------------


def _number(write: Writer, x, scale, zero) -> ir.Value:
    return write("DequantizeLinear", x, scale, zero, axis=0)


def _integer(write: Writer, x, scale, zero) -> ir.Value:
    return write("QuantizeLinear", x, scale, zero, axis=0)


@lowers("QLinearMul", domain=MICROSOFT)
def qlinear_mul(
    write: Writer, a, a_scale, a_zero_point, b, b_scale, b_zero_point, c_scale, c_zero_point=None
):
    product = write("Mul", centred(write, a, a_zero_point), centred(write, b, b_zero_point))
    factor = write("Div", write("Mul", a_scale, b_scale), c_scale)
    return _rounded(write, write("Mul", product, factor), _place(write, c_zero_point, factor), a)


@lowers("QLinearAdd", domain=MICROSOFT)
def qlinear_add(
    write: Writer, a, a_scale, a_zero_point, b, b_scale, b_zero_point, c_scale, c_zero_point=None
):
    """All that is constant is one number, as in onnxruntime's own kernel, so that both round alike."""
    left, right = write("Div", a_scale, c_scale), write("Div", b_scale, c_scale)
    before = (write("Mul", f, _place(write, z, f)) for f, z in ((left, a_zero_point), (right, b_zero_point)))
    fixed = write("Sub", _place(write, c_zero_point, left), write("Add", *before))
    scaled = write("Mul", write.cast(a, FLOAT), left), write("Mul", write.cast(b, FLOAT), right)
    return _rounded(write, write("Add", scaled[0], scaled[1]), fixed, a)


def _place(write: Writer, zero: ir.Value | None, like: ir.Value) -> ir.Value:
    return write.number(0, like) if zero is None else write.cast(zero, FLOAT)


def _rounded(write: Writer, x: ir.Value, place: ir.Value, like: ir.Value) -> ir.Value:
    """x behind a zero point, rounded to the type of `like`."""
    return rescaled(
        write, write("Add", x, place), write.number(1, place), write.constant(0, numpy_type(like))
    )


@lowers("QLinearSigmoid", domain=MICROSOFT)
def qlinear_sigmoid(write: Writer, x, x_scale, x_zero_point, y_scale, y_zero_point=None):
    return _integer(write, write("Sigmoid", _number(write, x, x_scale, x_zero_point)), y_scale, y_zero_point)


@lowers("QLinearLeakyRelu", domain=MICROSOFT)
def qlinear_leaky_relu(write: Writer, x, x_scale, x_zero_point, y_scale, y_zero_point=None, *, alpha=0.01):
    y = write("LeakyRelu", _number(write, x, x_scale, x_zero_point), alpha=alpha)
    return _integer(write, y, y_scale, y_zero_point)


@lowers("QLinearSoftmax", domain=MICROSOFT)
def qlinear_softmax(write: Writer, x, x_scale, x_zero_point, y_scale, y_zero_point, *, opset, axis=-1):
    if opset < 13 and axis not in (-1, len(x.shape) - 1):
        write.refuse("a Softmax over several axes; give opset 13 and one axis")
    y = write("Softmax", _number(write, x, x_scale, x_zero_point), axis=axis)
    # As onnxruntime's own kernel has it
    whole = write("Floor", write("Div", write.number(1, y_scale), y_scale))
    return rescaled(write, y, whole, y_zero_point)


@lowers("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(write: Writer, y_scale, y_zero_point, *inputs, axis):
    parts = [_number(write, *inputs[place : place + 3]) for place in range(0, len(inputs), 3)]
    return _integer(write, write("Concat", *parts, axis=axis), y_scale, y_zero_point)


@lowers("QLinearWhere", domain=MICROSOFT)
def qlinear_where(
    write: Writer, condition, x, x_scale, x_zero_point, y, y_scale, y_zero_point, z_scale, z_zero_point
):
    numbers = _number(write, x, x_scale, x_zero_point), _number(write, y, y_scale, y_zero_point)
    return _integer(write, write("Where", condition, *numbers), z_scale, z_zero_point)


@lowers("QLinearGlobalAveragePool", domain=MICROSOFT)
def qlinear_global_average_pool(
    write: Writer, x, x_scale, x_zero_point, y_scale, y_zero_point, *, channels_last=0
):
    steps = centred(write, x, x_zero_point)
    y = laid_out(write, steps, channels_last, lambda x: write("GlobalAveragePool", x))
    return rescaled(write, y, write("Div", x_scale, y_scale), y_zero_point)


@lowers("QLinearAveragePool", domain=MICROSOFT)
def qlinear_average_pool(
    write: Writer, x, x_scale, x_zero_point, y_scale, y_zero_point=None,
    *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, channels_last=0, count_include_pad=0, pads=None, strides=None,
):  # fmt: skip
    window = {"auto_pad": None if pads else auto_pad, "ceil_mode": ceil_mode, "kernel_shape": kernel_shape,
              "count_include_pad": count_include_pad, "pads": pads, "strides": strides}  # fmt: skip
    numbers = _number(write, x, x_scale, x_zero_point)
    means = laid_out(write, numbers, channels_last, lambda x: write("AveragePool", x, **window))
    y = write("Div", means, y_scale)
    # a half goes to the even one behind the zero point
    return _rounded(write, y, _place(write, y_zero_point, y), x)
