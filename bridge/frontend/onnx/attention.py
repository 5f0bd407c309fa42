"""Attention in onnxruntime's own domain, with its projections and masks, in ONNX's."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from bridge.frontend.onnx.lowered import MICROSOFT, Writer, lowers
from bridge.frontend.onnx.microsoft import added
from bridge.graph.shapes import rank, shape_of

INT64, FLOAT = ir.DataType.INT64, ir.DataType.FLOAT
MASKED = -10000.0  # what onnxruntime adds to the score of a key that is masked


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
        added(write, write("MatMul", input, kernel), one) for kernel, one in zip(kernels, biases, strict=True)
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
    write: Writer, projected: object, masks: object, past: ir.Value | None, heads: int, causal: int,
    scale: float | None, masked: float,
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
    mask = added(write, *masks) if masks[0] is None and masks[1] is not None else None
    if masks[0] is not None:
        mask = added(write, _mask(write, masks[0], keys, past[0], masked), masks[1])
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
    return write("Squeeze", added(write, *counts), write.constant([0]))


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


@lowers("TensorScatter")
def tensor_scatter(
    write: Writer, past_cache, update, write_indices=None, *, axis=-2, mode="linear"
):  # fmt: skip
    """Each place of the cache is how many steps behind the first that is written: those of the update, or the past."""
    wide = rank(past_cache)
    axis %= wide
    longest, count = (write("Shape", x, start=axis, end=axis + 1) for x in (past_cache, update))
    since = write("Range", write.constant(0), write("Squeeze", longest), write.constant(1))
    if write_indices is not None:
        since = write("Sub", since, write("Unsqueeze", write_indices, write.constant([1])))
        since = write("Unsqueeze", since, write.constant(list(range(1, axis))))
    if mode == "circular":
        since = write("Mod", since, longest)
    since = (
        write("Unsqueeze", since, write.constant(list(range(-1, axis - wide, -1))))
        if axis < wide - 1
        else since
    )
    written = write("And", write("GreaterOrEqual", since, write.constant(0)), write("Less", since, count))
    last = write("Sub", count, write.constant([1]))
    row = write("Min", write("Max", since, write.constant(0)), last)
    rows = write("Expand", row, write("Shape", past_cache))
    return write("Where", written, write("GatherElements", update, rows, axis=axis), past_cache)
