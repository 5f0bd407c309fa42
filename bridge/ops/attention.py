"""Attention: `keras.ops.dot_product_attention`, which wants (batch, length, heads, size), and the whole layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from bridge.ops import dims
from bridge.ops.registry import HEADS, op
from bridge.weights import Weight

if TYPE_CHECKING:
    from bridge.plan import Step


def _check_attention(step: Step) -> str | None:
    if step.used(3):
        return "its scores before the softmax are used (qk_matmul_output); compute them with MatMul"
    if step.argument("nonpad_kv_seqlen") is not None:
        return "nonpad_kv_seqlen gives lengths by data; give a mask"
    if len(step.shape()) == 3 and not step.argument("q_num_heads"):
        return "three axes and no q_num_heads"
    return None


@op("Attention", layout=HEADS, check=_check_attention)
def attention(
    site, q, k, v, attn_mask=None, past_key=None, past_value=None, nonpad_kv_seqlen=None,
    *, is_causal=0, kv_num_heads=None, q_num_heads=None, qk_matmul_output_mode=0, scale=None, softcap=0.0,
    softmax_precision=None,
):  # fmt: skip
    """In a mask of booleans True is allowed; a mask of numbers is added. Causal: key j for queries from j on."""
    apart = len(q.shape) == 3
    if apart:
        counts = (q_num_heads, kv_num_heads, kv_num_heads)
        q, k, v = (_heads(site, i, x, n) for i, (x, n) in enumerate(zip((q, k, v), counts, strict=True)))
    if past_key is not None:
        k, v = ops.concatenate([past_key, k], axis=1), ops.concatenate([past_value, v], axis=1)
    given = attn_mask is not None and "bool" in str(attn_mask.dtype)
    if is_causal and (given or past_key is not None):
        attn_mask, is_causal = _causal(q, k, past_key, attn_mask), 0
    scale = float(scale) if scale is not None else q.shape[-1] ** -0.5
    if site.dtype == "float64":  # TensorFlow takes the scale in single precision
        q, scale = q * scale, 1.0
    options = _mask(site, attn_mask) | {"is_causal": bool(is_causal), "scale": scale}
    if softcap or v.shape[-1] != q.shape[-1]:  # Keras has no cap, and expects values as long as queries
        y = _written_out(q, k, v, softcap, **options)
    else:
        y = ops.dot_product_attention(q, k, v, **options)
    if given:  # a query that may look at nothing sees zeros
        y = y * ops.cast(
            ops.transpose(ops.any(options["mask"], axis=-1, keepdims=True), (0, 2, 1, 3)), site.dtype
        )
    if apart:
        have = [*site.shape()[:2], q_num_heads, v.shape[-1]]
        y = dims.reshape(site, y, have, [*have[:2], q_num_heads * v.shape[-1]])
    return (y, k, v) if site.used(1) or site.used(2) else y


def _causal(q: Any, k: Any, past: Any, mask: Any) -> Any:
    """The causal mask of queries that stand behind what is past, together with `mask`."""
    rows, columns = (ops.cumsum(ops.ones_like(x[0, :, 0, 0], dtype="int32")) for x in (q, k))
    before = 0 if past is None else ops.sum(ops.ones_like(past[0, :, 0, 0], dtype="int32"))
    seen = columns[None, :] <= rows[:, None] + before
    if mask is None:
        return seen
    if "bool" in str(mask.dtype):
        return ops.logical_and(seen, mask)
    return ops.where(seen, mask, ops.cast(-1e30 if "16" not in str(mask.dtype) else -6e4, mask.dtype))


def _heads(site, index: int, x: Any, heads: int) -> Any:
    """(batch, length, heads * size) -> (batch, length, heads, size)"""
    have = site.shape(index)
    return dims.reshape(site, x, have, [*have[:2], heads, have[2] // heads])


def _mask(site, mask: Any) -> dict[str, Any]:
    if mask is None:
        return {}
    places = tuple(range(4 - len(mask.shape)))
    mask = np.expand_dims(mask, places) if isinstance(mask, np.ndarray) else ops.expand_dims(mask, places)
    return {"mask" if "bool" in str(mask.dtype) else "bias": mask}


def _written_out(q, k, v, softcap: float, *, bias=None, mask=None, is_causal: bool, scale: float) -> Any:
    """Attention in single steps; the scores are held between -softcap and softcap, if that is not 0."""
    groups = q.shape[2] // k.shape[2]
    k, v = (ops.repeat(t, groups, axis=2) for t in (k, v)) if groups > 1 else (k, v)
    scores = ops.einsum("btnh,bsnh->bnts", q, k) * scale
    scores = softcap * ops.tanh(scores / softcap) if softcap else scores
    if bias is not None:
        scores = dims.add(scores, bias)
    if is_causal:
        ones = ops.ones_like(scores, dtype="int32")
        mask = ops.cumsum(ones, axis=-1) <= ops.cumsum(ones, axis=-2) if mask is None else mask
    if mask is not None:
        scores = ops.where(mask, scores, -1e30)
    return ops.einsum("bnts,bsnh->btnh", ops.softmax(scores, axis=-1), v)


@op("MultiHeadAttention", domain="bridge")
def multi_head_attention(
    site, q, k, v, wq: Weight, wk: Weight, wv: Weight, wo: Weight,
    bq: Weight | None, bk: Weight | None, bv: Weight | None, bo: Weight | None,
    *, heads, dropout, is_causal,
):  # fmt: skip
    """Biases that are no parameters are zeros."""
    size = wq.dims[1] // heads
    weights = {
        f"{part}_dense.kernel": w.reshape(w.dims[0], heads, size)
        for part, w in (("query", wq), ("key", wk), ("value", wv))
    }
    weights["output_dense.kernel"] = wo.reshape(heads, size, wo.dims[1])
    biased = isinstance(bq, Weight)
    if biased:
        for part, b in (("query", bq), ("key", bk), ("value", bv)):
            weights[f"{part}_dense.bias"] = b.reshape(heads, size)
        weights["output_dense.bias"] = bo
    layer = site.layer(
        keras.layers.MultiHeadAttention,
        num_heads=heads, key_dim=size, dropout=dropout, use_bias=biased, weights=weights,
    )  # fmt: skip
    double = site.dtype == "float64"
    if double:  # TensorFlow takes the scale in single precision
        layer._inverse_sqrt_key_dim = np.float64(layer._inverse_sqrt_key_dim)
    y = layer(q, v, k, use_causal_mask=bool(is_causal), return_attention_scores=double)
    return y[0] if double else y  # with its scores asked for, no kernel of JAX's works in single precision
