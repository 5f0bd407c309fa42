"""Operators of onnxruntime's own domain in ONNX's, as its optimiser writes them: products with what follows them,
normalisations with what comes before, attention with its projections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.frontend.onnx_lowered import MICROSOFT, Writer, known, lowers
from bridge.graph.shapes import rank, shape_of

INT64, FLOAT = ir.DataType.INT64, ir.DataType.FLOAT
MASKED = -10000.0  # what onnxruntime adds to the score of a key that is masked


# --- activations and what they follow --------------------------------------------------------------------------


@lowers("Gelu", domain=MICROSOFT)
def gelu(write: Writer, x):
    return write("Gelu", x)


@lowers("BiasGelu", domain=MICROSOFT)
def bias_gelu(write: Writer, a, b):
    return write("Gelu", write("Add", a, b))


@lowers("FastGelu", domain=MICROSOFT)
def fast_gelu(write: Writer, x, bias=None):
    return write("Gelu", _added(write, x, bias), approximate="tanh")


@lowers("QuickGelu", domain=MICROSOFT)
def quick_gelu(write: Writer, x, *, alpha=1.702):
    part = x if alpha == 1 else write("Mul", x, write.number(alpha, x))
    return write("Mul", x, write("Sigmoid", part))


def _added(write: Writer, *values: ir.Value | None) -> ir.Value:
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
    return activated(write, _added(write, y, z), activation, list(activation_params))


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
    blocks = -(-K // block_size)
    numbers = _unpacked(packed.reshape(N, blocks, -1), bits)[..., :block_size]
    if zero is None:
        middle: Any = 1 << (bits - 1)
    else:
        whole = zero.reshape(N, -1)
        middle = (_unpacked(whole, bits)[:, :blocks] if zero.dtype == np.uint8 else whole)[..., None]
    matrix = ((numbers - middle) * scale.reshape(N, blocks, 1)).reshape(N, -1)[:, :K]
    kernel = np.ascontiguousarray(matrix.T.astype(scale.dtype))
    return _added(write, write("MatMul", a, write.weight(b, (scales, zero_points), kernel)), bias)


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


@lowers("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_normalization(write: Writer, input, skip, gamma, beta=None, bias=None, *, epsilon=1e-12):
    total = _added(write, input, skip, bias)
    return write("LayerNormalization", total, gamma, beta, axis=-1, epsilon=epsilon), None, None, total


@lowers("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_simplified_layer_normalization(write: Writer, input, skip, gamma, bias=None, *, epsilon=1e-12):
    total = _added(write, input, skip, bias)
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
    total = _added(write, words, places, kinds)
    y = write("LayerNormalization", total, gamma, beta, axis=-1, epsilon=epsilon)
    index = mask if mask is None else write("ReduceSum", mask, write.constant([1]), keepdims=0)
    return y, index, total


# --- attention ---------------------------------------------------------------------------------------------------


@lowers("Attention", domain=MICROSOFT)
def attention(
    write: Writer, input, weights, bias=None, mask_index=None, past=None, attention_bias=None,
    *, num_heads, do_rotary=0, mask_filter_value=MASKED, past_present_share_buffer=0, qkv_hidden_sizes=None,
    rotary_embedding_dim=0, scale=None, unidirectional=0,
):  # fmt: skip
    """One matrix projects to queries, keys and values side by side; past and present are stacked on a first axis."""
    if do_rotary or past_present_share_buffer:
        write.refuse("do_rotary and past_present_share_buffer are not handled")
    width = shape_of(weights)[1]
    if not isinstance(width, int):
        write.refuse("the size of its weights is not known")
    sizes = qkv_hidden_sizes or [width // 3] * 3
    kernels = write("Split", weights, write.constant(sizes), axis=1, outputs=3)
    biases = (None,) * 3 if bias is None else write("Split", bias, write.constant(sizes), axis=0, outputs=3)
    projected = [
        _added(write, write("MatMul", input, kernel), one)
        for kernel, one in zip(kernels, biases, strict=True)
    ]
    return attended(
        write,
        projected,
        (mask_index, attention_bias),
        past,
        num_heads,
        unidirectional,
        scale,
        mask_filter_value,
    )


def attended(
    write: Writer, projected: Any, masks: Any, past: ir.Value | None, heads: int, causal: int, scale: float | None,
    masked: float,
) -> tuple[ir.Value, ir.Value | None]:  # fmt: skip
    """Attention over queries, keys and values (batch, length, heads * size), and its keys and values on one axis."""
    before: tuple[ir.Value | None, ...] = (None, None)
    if past is not None:
        stacked = write("Split", past, axis=0, num_outputs=2, outputs=2)
        before = tuple(write("Squeeze", one, write.constant([0])) for one in stacked)
    y, keys, values = _attention(write, projected, masks, before, heads, causal, scale, masked)
    if past is None and not _reads(write.node, 1):
        return y, None
    present = [write("Unsqueeze", one, write.constant([0])) for one in (keys, values)]
    return y, write("Concat", *present, axis=0)


def _reads(node: ir.Node, place: int) -> bool:
    value = node.outputs[place] if place < len(node.outputs) else None
    return value is not None and (bool(value.uses()) or value.is_graph_output())


@lowers("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(
    write: Writer, query, key=None, value=None, bias=None, key_padding_mask=None, attention_bias=None, past_key=None,
    past_value=None, *, num_heads, mask_filter_value=MASKED, scale=None, unidirectional=0,
):  # fmt: skip
    if key is None or value is None or any(x.shape is None or len(x.shape) != 3 for x in (query, key, value)):
        write.refuse(
            "its queries, keys and values are packed, or already parted into heads; give all three apart"
        )
    projected = [query, key, value]
    if bias is not None:
        sizes = write.constant([x.shape[2] for x in projected])
        parts = write("Split", bias, sizes, axis=0, outputs=3)
        projected = [write("Add", x, part) for x, part in zip(projected, parts, strict=True)]
    masks, past = (key_padding_mask, attention_bias), (past_key, past_value)
    return _attention(write, projected, masks, past, num_heads, unidirectional, scale, mask_filter_value)


def _attention(write: Writer, projected, masks, past, heads, causal, scale, masked) -> Any:
    queries, keys, _ = projected
    mask = _added(write, *masks) if masks[0] is None and masks[1] is not None else None
    if masks[0] is not None:
        mask = _added(write, _mask(write, masks[0], keys, past[0], masked), masks[1])
    return write(
        "Attention", *projected, mask, *past, q_num_heads=heads, kv_num_heads=heads, is_causal=causal,
        scale=scale or None, outputs=3,
    )  # fmt: skip


def _mask(write: Writer, mask: ir.Value, keys: ir.Value, past: ir.Value | None, masked: float) -> ir.Value:
    """What is added to the scores (batch, heads, queries, keys) for a mask of ones and zeros, or of lengths."""
    axes = rank(mask)
    if axes == 1 and shape_of(mask)[0] != shape_of(keys)[0] or axes not in (1, 2, 3, 4):
        write.refuse("its mask is neither the length of each sequence nor ones and zeros of keys that count")
    if axes == 1:
        places = write("Range", write.constant(0), _length(write, keys, past), write.constant(1))
        lengths = write("Unsqueeze", write.cast(mask, INT64), write.constant([1]))
        hidden = write("GreaterOrEqual", places, lengths)
    else:
        hidden = write("LessOrEqual", mask, write.number(0, mask))
    off = write.cast(hidden, keys.dtype or FLOAT)
    before = {1: [1, 2], 2: [1, 2], 3: [1], 4: []}[axes]
    off = write("Unsqueeze", off, write.constant(before)) if before else off
    return write("Mul", off, write.number(masked, keys))


def _length(write: Writer, keys: ir.Value, past: ir.Value | None) -> ir.Value:
    """How many keys there are, with those that are past."""
    counts = [write("Shape", keys, start=1, end=2)]
    counts += [] if past is None else [write("Shape", past, start=2, end=3)]
    return write("Squeeze", _added(write, *counts), write.constant([0]))


@lowers("RotaryEmbedding", domain=MICROSOFT)
def rotary_embedding(
    write: Writer, input, position_ids, cos_cache, sin_cache,
    *, interleaved=0, is_packed_batching=0, num_heads=0, rotary_embedding_dim=0, scale=1.0,
):  # fmt: skip
    if is_packed_batching or scale != 1:
        write.refuse("is_packed_batching, or a scale other than 1")
    if position_ids.shape is None or len(position_ids.shape) != 2:
        write.refuse(
            "its position_ids are where the first step stands; give those of all steps (batch, length)"
        )
    heads = num_heads or _heads(write, input, cos_cache, rotary_embedding_dim)
    kind = {"interleaved": interleaved, "num_heads": heads, "rotary_embedding_dim": rotary_embedding_dim}
    return write("RotaryEmbedding", input, cos_cache, sin_cache, position_ids, **kind)


def _heads(write: Writer, x: ir.Value, cache: ir.Value, width: int) -> int | None:
    """How many heads x has, which it says itself where they are an axis."""
    if rank(x) == 4:
        return None
    features, half = shape_of(x)[2], shape_of(cache)[1]
    if width or not isinstance(features, int) or not isinstance(half, int):
        write.refuse("how many heads there are is not known; give num_heads")
    return features // (2 * half)


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
