"""Attention: `keras.ops.dot_product_attention`, which wants (batch, length, heads, size), and the whole layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from keras import layers, ops, tree

from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import input_of, inputs_of, owner_graph
from bridge.graph.shapes import shape_of
from bridge.keras_compat import Config, with_exact_scale
from bridge.ops import dims
from bridge.ops.contract import Site, Step, Tensor
from bridge.ops.halves import HALVES, as_half, single
from bridge.ops.layouts import HEADS
from bridge.ops.registry import op
from bridge.weights.recipes import Recipe
from bridge.weights.weight import Weight

if TYPE_CHECKING:
    import onnx_ir as ir


def _check_attention(step: Step) -> str | None:
    if step.used(3):
        return "its scores before the softmax are used (qk_matmul_output); compute them with MatMul"
    if step.argument("nonpad_kv_seqlen") is not None:
        return "nonpad_kv_seqlen gives lengths by data; give a mask"
    if len(step.shape()) == 3 and not step.argument("q_num_heads"):
        return "three axes and no q_num_heads"
    heads = [step.shape(index)[1] for index in (0, 1)] if len(step.shape()) == 4 else []
    if len(set(heads)) > 1 and not all(isinstance(count, int) for count in heads):
        return (
            f"{heads[0]} heads of queries share {heads[1]} of keys, and how many is not known; fix the axes"
        )
    if step.argument("is_causal") and step.argument("past_key") and step.shape(0)[-2] != step.shape(1)[-2]:
        return "is_causal beside past keys, with more or fewer new keys than queries; give a mask"
    return None


@op("Attention", layout=HEADS, check=_check_attention, makes=(layers.Reshape,))
def attention(
    site: Site, q, k, v, attn_mask=None, past_key=None, past_value=None, nonpad_kv_seqlen=None,
    *, is_causal=0, kv_num_heads=None, q_num_heads=None, qk_matmul_output_mode=0, scale=None, softcap=0.0,
    softmax_precision=None,
):  # fmt: skip
    """In a mask of booleans True is allowed; a mask of numbers is added. Causal: key j for queries from j on. Scores of
    halves are taken in single precision, as torch does: they leave the range of a half where attention stays within."""
    apart = len(q.shape) == 3
    if apart:
        counts = (q_num_heads, kv_num_heads, kv_num_heads)
        q, k, v = (_heads(site, i, x, n) for i, (x, n) in enumerate(zip((q, k, v), counts, strict=True)))
    if past_key is not None:
        k, v = ops.concatenate([past_key, k], axis=1), ops.concatenate([past_value, v], axis=1)
    attn_mask = _of_all_keys(site, attn_mask, k)
    given = attn_mask is not None and "bool" in str(attn_mask.dtype)
    if is_causal and (given or past_key is not None):
        attn_mask, is_causal = _causal(q, k, past_key, attn_mask), 0
    size, width = _size(site, 0, q_num_heads), _size(site, 2, kv_num_heads)
    q, scale = _scaled(site, single(q), size, scale)
    options = _mask(site, attn_mask) | {"is_causal": bool(is_causal), "scale": scale}
    sees = None  # of a query that may look at nothing, which sees zeros
    if given:
        sees = ops.any(options["mask"], axis=-1, keepdims=True)
    elif "bias" in options and _may_hide(input_of(site.node, 3)):
        sees = ops.any(options["bias"] > -np.inf, axis=-1, keepdims=True)
        options["bias"] = ops.where(sees, options["bias"], ops.zeros_like(options["bias"]))
    groups = 1 if q.shape[2] is None else q.shape[2] // k.shape[2]  # which Keras has not on every backend
    keys, values = (single(ops.repeat(t, groups, axis=2) if groups > 1 else t) for t in (k, v))
    # Keras has no cap, and expects values like queries
    if softcap > 0 or size != width or not isinstance(size, int):
        y = ops.einsum("bnts,bsnh->btnh", _weights(q, keys, softcap, **options), values)
    else:
        y = ops.dot_product_attention(q, keys, values, **options)
    y = as_half(y, site.dtype)
    if sees is not None:
        y = y * ops.cast(ops.transpose(sees, (0, 2, 1, 3)), site.dtype)
    if apart:
        have = [*site.shape()[:2], q_num_heads, width]
        y = dims.reshape(site, y, have, [*have[:2], q_num_heads * width])
    return (y, k, v) if site.used(1) or site.used(2) else y


def _size(site: Site, index: int, heads: int) -> dims.Dim:
    """Of one head of an input."""
    *rest, last = site.shape(index)
    return last // heads if len(rest) == 2 else last


def _scaled(site: Site, q: Tensor, size: dims.Dim, scale: float | None) -> tuple[Tensor, float]:
    """The queries, and the scale of their scores: in the queries where only the run shows their `size`, and where the
    kernel takes it in single precision."""
    if scale is None:
        if not isinstance(size, int):
            root = ops.sqrt(dims.size(site, size, "float64" if site.dtype == "float64" else "float32"))
            return ops.divide(q, ops.cast(root, q.dtype)), 1.0
        scale = size**-0.5
    scale = float(scale)
    return (q * scale, 1.0) if site.twin("dot_product_attention") else (q, scale)


def _of_all_keys(site: Site, mask: Tensor, k: Tensor) -> Tensor:
    """From opset 24 on, a mask may be of fewer keys than there are: the others are masked."""
    node = site.node
    if mask is None or owner_graph(node).opset_imports[""] < 24:
        return mask
    if not site.given(4) and shape_of(input_of(node, 3))[-1] == shape_of(input_of(node, 1))[-2]:
        return mask
    nothing = False if "bool" in str(mask.dtype) else -np.inf
    longer = ops.concatenate([mask, ops.full_like(mask[..., :1], nothing)], axis=-1)
    places = _counted(k) - 1
    last = dims.size(site, shape_of(input_of(node, 3))[-1])
    return ops.take(longer, ops.minimum(places, last), axis=-1)


def _may_hide(mask: ir.Value) -> bool:
    """Whether a mask of numbers may hold minus infinity: a constant that it is made of does, or its numbers come from
    outside."""
    seen, left = set[object](), [mask]
    while left:
        value = left.pop()
        if value in seen or value.dtype is None or not value.dtype.is_floating_point():
            continue
        seen.add(value)
        constant, node = value.const_value, value.producer()
        if constant is not None:
            if np.isneginf(constant.numpy()).any():
                return True
        elif node is None:  # an input
            return True
        else:
            left.extend(value for value in node.inputs if value is not None)
    return False


def _counted(x: Tensor) -> Tensor:
    """1, 2, … as many as there are steps in x (batch, steps, heads, features)."""
    return ops.cumsum(ops.ones_like(x[0, :, 0, 0], dtype="int32"))


def _causal(q: Tensor, k: Tensor, past: Tensor, mask: Tensor) -> Tensor:
    """The causal mask of queries that stand behind what is past, together with `mask`."""
    rows, columns = _counted(q), _counted(k)
    before = 0 if past is None else ops.sum(ops.ones_like(past[0, :, 0, 0], dtype="int32"))
    seen = columns[None, :] <= rows[:, None] + before
    if mask is None:
        return seen
    if "bool" in str(mask.dtype):
        return ops.logical_and(seen, mask)
    return ops.where(seen, mask, ops.cast(-1e30 if "16" not in str(mask.dtype) else -6e4, mask.dtype))


def _heads(site: Site, index: int, x: Tensor, heads: int) -> Tensor:
    """(batch, length, heads * size) -> (batch, length, heads, size)"""
    have = site.shape(index)
    return dims.reshape(site, x, have, [*have[:2], heads, have[2] // heads])


def _mask(site: Site, mask: Tensor | None) -> Config:
    if mask is None:
        return {}
    places = tuple(range(4 - len(mask.shape)))
    mask = np.expand_dims(mask, places) if isinstance(mask, np.ndarray) else ops.expand_dims(mask, places)
    return {"mask": mask} if "bool" in str(mask.dtype) else {"bias": single(mask)}


def _weights(q, k, softcap: float = 0.0, *, bias=None, mask=None, is_causal: bool, scale: float) -> Tensor:
    """What each query takes of each value; the scores are held between -softcap and softcap, if that is above 0."""
    scores = ops.einsum("btnh,bsnh->bnts", q, k) * scale
    scores = softcap * ops.tanh(scores / softcap) if softcap > 0 else scores
    if bias is not None:
        scores = dims.add(scores, bias)
    if is_causal:
        ones = ops.ones_like(scores, dtype="int32")
        mask = ops.cumsum(ones, axis=-1) <= ops.cumsum(ones, axis=-2) if mask is None else mask
    if mask is not None:
        scores = ops.where(mask, scores, -1e30)
    return ops.softmax(scores, axis=-1)


def _dense(site: Site, x: Tensor, w: Weight, b: Weight | Tensor) -> Tensor:
    biased = isinstance(b, Weight)
    weights = {"kernel": w} | ({"bias": cast("Weight", b)} if biased else {})
    return site.layer(layers.Dense, units=w.dims[1], use_bias=biased, weights=weights)(x)


def _calls_read(site: Site) -> list[ir.Node]:
    """The calls of this node's layer of which something reads the weights."""
    node = site.node
    alike = (n for n in owner_graph(node) if (n.domain, n.op_type) == (node.domain, node.op_type))
    calls = (n for n in alike if _recipe(n) == _recipe(node))
    return [n for n in calls if n.outputs[1].uses() or n.outputs[1].is_graph_output()]


def _recipe(node: ir.Node) -> Recipe | None:
    matrix = input_of(node, 3).const_value
    return matrix.recipe if isinstance(matrix, Weight) else None


def _misstated(node: ir.Node) -> bool:
    """Whether Keras gives the scores a wrong shape: it takes the length of the queries for that of the keys."""
    queries, keys = (shape_of(x)[1] for x in inputs_of(node)[:2])
    return isinstance(queries, int) and queries != keys


def _in_steps(
    site: Site, parts: tuple[tuple[Tensor, Weight, Weight | Tensor], ...], wo: Weight, bo: Weight | Tensor,
    heads: int, dropout: float, is_causal: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """torch's layer in single steps, and its weights behind the dropout. `parts` are an input, a matrix and a bias."""
    width = wo.dims[0]

    def split(index: int, x: Tensor, w: Weight, b: Weight | Tensor) -> Tensor:
        rows = site.shape(index)[:2]
        return dims.reshape(site, _dense(site, x, w, b), [*rows, width], [*rows, heads, width // heads])

    q, k, v = (split(index, *part) for index, part in enumerate(parts))
    weights = _weights(single(q), single(k), is_causal=bool(is_causal), scale=q.shape[-1] ** -0.5)
    weights = as_half(weights, site.dtype)
    weights = site.layer(layers.Dropout, rate=dropout)(weights) if dropout else weights
    rows = site.shape()[:2]
    y = ops.einsum("bnts,bsnh->btnh", weights, v)
    y = dims.reshape(site, y, [*rows, heads, width // heads], [*rows, width])
    return _dense(site, y, wo, bo), weights


@op(
    "MultiHeadAttention",
    domain=DOMAIN,
    makes=(layers.MultiHeadAttention, layers.Dense, layers.Dropout, layers.Reshape),
)
def multi_head_attention(
    site: Site, q, k, v, wq: Weight, wk: Weight, wv: Weight, wo: Weight,
    bq: Weight | Tensor, bk: Weight | Tensor, bv: Weight | Tensor, bo: Weight | Tensor,
    *, heads, dropout, is_causal,
):  # fmt: skip
    """Biases that are no parameters are zeros. All calls of a layer give their scores if one does: Keras expects as
    many outputs as the first call has. For halves the layer computes in single precision, as torch does with scores."""
    size = wq.dims[1] // heads
    biased = isinstance(bq, Weight)
    read = _calls_read(site)
    # Keras's layer gives the scores before its dropout, and takes such biases for those of as many steps (`dims.add`)
    lost = read and (dropout or any(map(_misstated, read)))
    if lost or (biased and size == 1 < heads):
        return _in_steps(site, ((q, wq, bq), (k, wk, bk), (v, wv, bv)), wo, bo, heads, dropout, is_causal)
    weights = {
        f"{part}_dense.kernel": w.reshape(w.dims[0], heads, size)
        for part, w in (("query", wq), ("key", wk), ("value", wv))
    }
    weights["output_dense.kernel"] = wo.reshape(heads, size, wo.dims[1])
    if biased:
        for part, b in (("query", bq), ("key", bk), ("value", bv)):
            weights[f"{part}_dense.bias"] = cast("Weight", b).reshape(heads, size)
        weights["output_dense.bias"] = cast("Weight", bo)
    layer = site.layer(
        layers.MultiHeadAttention,
        num_heads=heads, key_dim=size, dropout=dropout, use_bias=biased, weights=weights,
        dtype="float32" if site.dtype in HALVES else site.dtype,
    )  # fmt: skip
    double = site.twin("MultiHeadAttention")
    if double:
        layer = with_exact_scale(layer)
    scored = double or bool(read)  # with its scores asked for, no kernel of JAX's works in single precision
    made = layer(q, v, k, use_causal_mask=bool(is_causal), return_attention_scores=scored)
    return tree.map_structure(lambda x: as_half(x, site.dtype), made)
