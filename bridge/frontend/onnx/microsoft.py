"""Operators of onnxruntime's own domain in ONNX's, as its optimiser writes them: products with what follows them,
normalisations with what comes before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.frontend.onnx.lowered import MICROSOFT, Writer, known, lowers
from bridge.graph.shapes import rank

INT64, FLOAT = ir.DataType.INT64, ir.DataType.FLOAT


# --- activations and what they follow --------------------------------------------------------------------------


@lowers("Gelu", domain=MICROSOFT)
def gelu(write: Writer, x):
    return write("Gelu", x)


@lowers("BiasGelu", domain=MICROSOFT)
def bias_gelu(write: Writer, a, b):
    return write("Gelu", write("Add", a, b))


@lowers("FastGelu", domain=MICROSOFT)
def fast_gelu(write: Writer, x, bias=None):
    return write("Gelu", added(write, x, bias), approximate="tanh")


@lowers("QuickGelu", domain=MICROSOFT)
def quick_gelu(write: Writer, x, *, alpha=1.702):
    part = x if alpha == 1 else write("Mul", x, write.number(alpha, x))
    return write("Mul", x, write("Sigmoid", part))


def added(write: Writer, *values: ir.Value | None) -> ir.Value:
    first, *others = (value for value in values if value is not None)
    for other in others:
        first = write("Add", first, other)
    return first


ACTIVATIONS: dict[str, tuple[str, ...]] = {  # the attributes that their numbers are, in order
    "": (), "Relu": (), "Tanh": (), "Sigmoid": (), "Softplus": (), "Softsign": (), "LeakyRelu": ("alpha",),
    "Elu": ("alpha",), "ThresholdedRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max"),
}  # fmt: skip


def activated(write: Writer, x: ir.Value, activation: str | None, numbers: list[float]) -> ir.Value:
    if (activation or "") not in ACTIVATIONS:
        write.refuse(f"its activation {activation!r} is none of {', '.join(filter(None, ACTIVATIONS))}")
    if not activation:
        return x
    if activation == "Clip":
        return write("Clip", x, *(write.number(number, x) for number in numbers))
    return write(activation, x, **dict(zip(ACTIVATIONS[activation], numbers, strict=False)))


@lowers("FusedConv", domain=MICROSOFT)
def fused_conv(
    write: Writer, x, w, b=None, z=None,
    *, activation=None, activation_params=(), auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None,
    strides=None,
):  # fmt: skip
    y = write(
        "Conv", x, w, b, auto_pad=None if pads else auto_pad, dilations=dilations, group=group,
        kernel_shape=kernel_shape, pads=pads, strides=strides,
    )  # fmt: skip
    return activated(write, added(write, y, z), activation, list(activation_params))


@lowers("FusedGemm", domain=MICROSOFT)
def fused_gemm(
    write: Writer, a, b, c=None,
    *, activation=None, activation_alpha=None, activation_beta=None, activation_gamma=None, alpha=1.0, beta=1.0,
    transA=0, transB=0,
):  # fmt: skip
    y = write("Gemm", a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    numbers = [n for n in (activation_alpha, activation_beta, activation_gamma) if n is not None]
    return activated(write, y, activation, numbers)


@lowers("FusedMatMul", "TransposeMatMul", domain=MICROSOFT)
def fused_matmul(write: Writer, a, b, *, alpha=1.0, transA=0, transB=0, transBatchA=0, transBatchB=0):
    a, b = _turned(write, a, transA, transBatchA), _turned(write, b, transB, transBatchB)
    y = write("MatMul", a, b)
    return y if alpha == 1 else write("Mul", y, write.number(alpha, y))


def _turned(write: Writer, x: ir.Value, last: int, batch: int) -> ir.Value:
    """x whose last two axes change places; with `batch` its first axis stands before the last one before."""
    if x.shape is None:
        write.refuse("the number of axes of its inputs is not known; give them shapes")
    axes = list(range(len(x.shape)))
    if batch:
        axes = [*axes[1:-1], 0, axes[-1]]
    if last and len(axes) > 1:
        axes[-2:] = axes[:-3:-1]
    return x if axes == sorted(axes) else write("Transpose", x, perm=axes)


@lowers("FusedMatMulActivation", domain=MICROSOFT)
def fused_matmul_activation(
    write: Writer, a, b,
    *, activation, activation_alpha=None, activation_axis=None, activation_beta=None, activation_gamma=None, alpha=1.0,
    transA=0, transB=0, transBatchA=0, transBatchB=0,
):  # fmt: skip
    y = fused_matmul(write, a, b, alpha=alpha, transA=transA, transB=transB, transBatchA=transBatchA,
                     transBatchB=transBatchB)  # fmt: skip
    if activation == "Softmax":
        return write("Softmax", y, axis=-1 if activation_axis is None else activation_axis)
    numbers = [n for n in (activation_alpha, activation_beta, activation_gamma) if n is not None]
    return activated(write, y, activation, numbers)


BITS = (2, 4, 8)  # of which whole bytes are made


@lowers("MatMulNBits", domain=MICROSOFT)
def matmul_n_bits(
    write: Writer, a, b, scales, zero_points=None, g_idx=None, bias=None,
    *, K, N, block_size, bits=4, accuracy_level=0, weight_prepacked=0,
):  # fmt: skip
    """A matrix (N, K) of few bits, each block of a row with its scale."""
    packed, scale, zero = map(known, (b, scales, zero_points))
    if packed is None or scale is None or g_idx is not None or weight_prepacked:
        write.refuse(
            "its matrix is no constant, or its rows stand in another order (g_idx, weight_prepacked)"
        )
    if accuracy_level > 1:
        write.refuse("it may compute in integers of 8 bits or in half precision; leave accuracy_level out")
    blocks = -(-K // max(block_size, 1))
    wanted = N * blocks * block_size * bits // 8, N * blocks
    zeros = N * -(-blocks * bits // 8) if zero is not None and zero.dtype == np.uint8 else N * blocks
    fits = (packed.size, scale.size) == wanted and (zero is None or zero.size == zeros)
    if bits not in BITS or min(wanted) < 1 or not fits:
        write.refuse(f"its matrix and scales do not hold {N} rows of {K} numbers of {bits} bits")
    numbers = _unpacked(packed.reshape(N, blocks, -1), bits)[..., :block_size]
    if zero is None:
        middle: Any = 1 << (bits - 1)
    else:
        whole = zero.reshape(N, -1)
        middle = (_unpacked(whole, bits)[:, :blocks] if zero.dtype == np.uint8 else whole)[..., None]
    matrix = ((numbers - middle) * scale.reshape(N, blocks, 1)).reshape(N, -1)[:, :K]
    kernel = np.ascontiguousarray(matrix.T.astype(scale.dtype))
    return added(write, write("MatMul", a, write.weight(b, (scales, zero_points), kernel)), bias)


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """The numbers of so many bits that bytes hold, the lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    apart = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return apart.reshape(*packed.shape[:-1], -1).astype(np.float32)


# --- normalisations ----------------------------------------------------------------------------------------------


@lowers("LayerNormalization", domain=MICROSOFT)
def layer_normalization(write: Writer, x, scale, b=None, *, axis=-1, epsilon=1e-5, stash_type=1):
    return write("LayerNormalization", x, scale, b, axis=axis, epsilon=epsilon)


@lowers("SimplifiedLayerNormalization", domain=MICROSOFT)
def simplified_layer_normalization(write: Writer, x, scale, *, axis=-1, epsilon=1e-5, stash_type=1):
    return write("RMSNormalization", x, scale, axis=axis, epsilon=epsilon)


def skipped(write: Writer, x: ir.Value, skip: ir.Value, bias: ir.Value | None) -> ir.Value:
    """The sum that is normalised. A skip of other rows is none: onnxruntime reads it from its beginning again."""
    if x.shape is not None and skip.shape is not None and len(x.shape) == len(skip.shape):
        rows, others = x.shape[0], skip.shape[0]
        if rows != others != 1 and None not in (rows, others):
            write.refuse(f"its skip has {others} rows for {rows} of its input; give both the same first axis")
    return added(write, x, skip, bias)


@lowers("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_normalization(write: Writer, input, skip, gamma, beta=None, bias=None, *, epsilon=1e-12):
    total = skipped(write, input, skip, bias)
    return write("LayerNormalization", total, gamma, beta, axis=-1, epsilon=epsilon), None, None, total


@lowers("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_simplified_layer_normalization(write: Writer, input, skip, gamma, bias=None, *, epsilon=1e-12):
    total = skipped(write, input, skip, bias)
    return write("RMSNormalization", total, gamma, axis=-1, epsilon=epsilon), None, None, total


@lowers("EmbedLayerNormalization", domain=MICROSOFT)
def embed_layer_normalization(
    write: Writer, input_ids, segment_ids, word_embedding, position_embedding, segment_embedding, gamma, beta,
    mask=None, position_ids=None, *, epsilon=1e-12, mask_index_type=0,
):  # fmt: skip
    words = write("Gather", word_embedding, input_ids, axis=0)
    if position_ids is None:
        length = write("Shape", input_ids, start=1, end=2)
        places = write("Slice", position_embedding, write.constant([0]), length, write.constant([0]))
    else:
        places = write("Gather", position_embedding, position_ids, axis=0)
    kinds = None if segment_ids is None else write("Gather", segment_embedding, segment_ids, axis=0)
    total = added(write, words, places, kinds)
    y = write("LayerNormalization", total, gamma, beta, axis=-1, epsilon=epsilon)
    index = mask if mask is None else write("ReduceSum", mask, write.constant([1]), keepdims=0)
    return y, index, total


# --- channels last -----------------------------------------------------------------------------------------------


def channels_first(write: Writer, x: ir.Value) -> ir.Value:
    return write("Transpose", x, perm=[0, rank(x) - 1, *range(1, rank(x) - 1)])


def channels_last(write: Writer, x: ir.Value) -> ir.Value:
    return write("Transpose", x, perm=[0, *range(2, rank(x)), 1])


def laid_out(write: Writer, x: ir.Value, last: int, make: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """`make(x)`, which wants its channels on axis 1, where with `last` they are on the last one."""
    return channels_last(write, make(channels_first(write, x))) if last else make(x)


@lowers("NhwcMaxPool", domain=MICROSOFT)
def nhwc_max_pool(
    write: Writer, x,
    *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, dilations=None, pads=None, strides=None,
):  # fmt: skip
    y = write(
        "MaxPool", channels_first(write, x), auto_pad=None if pads else auto_pad, ceil_mode=ceil_mode,
        dilations=dilations, kernel_shape=kernel_shape, pads=pads, strides=strides,
    )  # fmt: skip
    return channels_last(write, y)
