"""How a node of each operator that onnxruntime's optimiser writes is drawn: products with what follows them,
normalisations with what comes before, attention with its projections."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.fuzz.draft import Draft
from benchmarks.fuzz.networks import WEIGHT, stripped, window
from benchmarks.fuzz.operators import draws
from benchmarks.fuzz.quantized import BYTES, MICROSOFT

FLOAT = ["float32"]
ACTIVATIONS: dict[str, tuple[float, ...]] = {
    "Relu": (), "Tanh": (), "Sigmoid": (), "LeakyRelu": (0.2,), "Clip": (-0.5, 1.5), "HardSigmoid": (0.2, 0.5),
}  # fmt: skip


# --- activations and what they follow --------------------------------------------------------------------------


@draws(f"{MICROSOFT}:Gelu {MICROSOFT}:QuickGelu")
def gelu(d: Draft) -> None:
    d.node([d.tensor(FLOAT)], alpha=d.pick([None, 1.0, 1.5]) if "Quick" in d.op else None)


@draws(f"{MICROSOFT}:BiasGelu {MICROSOFT}:FastGelu")
def bias_gelu(d: Draft) -> None:
    x = d.tensor(FLOAT, rank=(2, 4), least=1)
    given = "Bias" in d.op or d.chance(0.6)
    d.node([x, d.leaf("float32", d.values[x].shape[-1:], roles=WEIGHT) if given else ""])


@draws(f"{MICROSOFT}:FusedConv")
def fused_conv(d: Draft) -> None:
    x = d.tensor(FLOAT, rank=(4, 4), least=1)
    _, channels, *sizes = d.values[x].shape
    given = window(d, tuple(sizes))
    w = d.leaf("float32", (d.random.randint(1, 4), channels, *given["kernel_shape"]), roles="w")
    b = d.leaf("float32", d.values[w].shape[:1], roles="w") if d.chance(0.6) else ""
    name = d.pick(list(ACTIVATIONS))
    d.node([x, w, b], activation=name, activation_params=list(ACTIVATIONS[name]) or None, **stripped(given))


@draws(f"{MICROSOFT}:FusedGemm")
def fused_gemm(d: Draft) -> None:
    a = d.tensor(FLOAT, rank=(2, 2), least=1)
    inner, columns, flipped = d.values[a].shape[1], d.random.randint(1, 4), d.pick([0, 1])
    b = d.leaf("float32", (columns, inner) if flipped else (inner, columns), roles=WEIGHT)
    c = d.leaf("float32", d.pick([(columns,), (1, columns)]), roles=WEIGHT) if d.chance(0.7) else ""
    name = d.pick(["Relu", "Tanh", "Sigmoid", "LeakyRelu"])
    alpha = 0.2 if name == "LeakyRelu" else None
    d.node([a, b, c], activation=name, activation_alpha=alpha, transB=flipped, alpha=d.pick([None, 0.5]))


@draws(f"{MICROSOFT}:FusedMatMul")
def fused_matmul(d: Draft) -> None:
    a = d.tensor(FLOAT, rank=(2, 4), least=1)
    *before, rows, inner = d.values[a].shape
    turned, flipped = d.pick([0, 0, 1]), d.pick([0, 1])
    inner = rows if turned else inner
    columns = d.random.randint(1, 4)
    b = d.leaf("float32", (*before, columns, inner) if flipped else (*before, inner, columns), roles=WEIGHT)
    d.node([a, b], transA=turned, transB=flipped, alpha=d.pick([None, 0.5]))


@draws(f"{MICROSOFT}:MatMulNBits")
def few_bits(d: Draft) -> None:
    inner, columns, block = d.pick([16, 20, 33]), d.random.randint(1, 5), d.pick([16, 32])
    blocks = -(-inner // block)
    packed = d.numbers.integers(0, 256, (columns, blocks, block // 2)).astype("uint8")
    scales = d.numbers.uniform(0.01, 0.1, columns * blocks).astype("float32")
    x = d.leaf("float32", (*d.shape(1, 2, 1), inner), roles="i")
    d.node(
        [x, d.given(packed, roles="w"), d.given(scales, roles="w")],
        K=inner,
        N=columns,
        bits=4,
        block_size=block,
    )


# --- normalisations ----------------------------------------------------------------------------------------------


@draws(f"{MICROSOFT}:SkipLayerNormalization {MICROSOFT}:SkipSimplifiedLayerNormalization")
def skip_normalization(d: Draft) -> None:
    x = d.tensor(FLOAT, rank=(3, 3), least=2)
    features = d.values[x].shape[-1:]
    count = 2 if "Simplified" in d.op else 3
    parts = [
        d.leaf("float32", features, roles=WEIGHT) if k < 2 or d.chance(0.5) else ""
        for k in range(1, count + 1)
    ]
    skip = d.leaf("float32", d.values[x].shape, roles="iiw")
    d.node([x, skip, *parts], [True, False, False, True] if d.chance(0.3) else 1, epsilon=d.pick([1e-5, 0.1]))


@draws(f"{MICROSOFT}:EmbedLayerNormalization")
def embed(d: Draft) -> None:
    batch, length, words, size = d.pick([1, 2]), d.random.randint(1, 5), 7, d.random.randint(2, 6)
    ids = d.leaf("int32", (batch, length), (0, words - 1), "i")
    kinds = d.leaf("int32", (batch, length), (0, 1), "i") if d.chance(0.5) else ""
    tables = [d.leaf("float32", (rows, size), roles="w") for rows in (words, 9)]
    third = d.leaf("float32", (2, size), roles="w") if kinds else ""
    d.node(
        [ids, kinds, *tables, third, *(d.leaf("float32", (size,), roles="w") for _ in range(2))],
        epsilon=1e-5,
    )


# --- attention ---------------------------------------------------------------------------------------------------


def _heads(d: Draft) -> tuple[int, int, int, int]:
    """The batch, how many steps and heads, and the size of all heads."""
    heads = d.pick([1, 2, 4])
    return d.pick([1, 2]), d.random.randint(1, 5), heads, heads * d.pick([2, 4])


@draws(f"{MICROSOFT}:Attention")
def attention(d: Draft) -> None:
    batch, length, heads, size = _heads(d)
    x = d.leaf("float32", (batch, length, size), roles="i")
    w, b = d.leaf("float32", (size, 3 * size), roles="w"), d.leaf("float32", (3 * size,), roles="w")
    mask = d.leaf("int32", (batch,), (1, length), "i") if d.chance(0.3) else ""
    d.node([x, w, b, mask], num_heads=heads, unidirectional=d.pick([0, 0, 1]), scale=d.pick([None, 0.3]))


@draws(f"{MICROSOFT}:MultiHeadAttention")
def multi_head(d: Draft) -> None:
    batch, length, heads, size = _heads(d)
    keys = d.random.randint(1, 5)
    parts = [d.leaf("float32", (batch, n, size), roles="i") for n in (length, keys, keys)]
    bias = d.leaf("float32", (3 * size,), roles="w") if d.chance(0.4) else ""
    mask = d.leaf("int32", (batch,), (1, keys), "i") if d.chance(0.3) else ""
    added = d.leaf("float32", (1, heads, length, keys), roles="iw") if d.chance(0.3) else ""
    d.node([*parts, bias, mask, added], num_heads=heads, scale=d.pick([None, 0.3]))


@draws(f"{MICROSOFT}:RotaryEmbedding")
def rotary(d: Draft) -> None:
    batch, length, heads, size = _heads(d)
    half = size // heads // 2
    x = d.leaf("float32", (batch, length, size), roles="i")
    places = d.leaf("int64", (batch, length), (0, 8), "iw")
    caches = [d.leaf("float32", (9, half), (-1, 1), "w") for _ in range(2)]
    d.node([x, places, *caches], interleaved=d.pick([0, 1]))


@draws(f"{MICROSOFT}:NhwcMaxPool")
def channels_last(d: Draft) -> None:
    sizes = tuple(d.random.randint(2, 6) for _ in range(2))
    dtype: Any = d.pick(BYTES)
    limits = np.iinfo(dtype)
    x = d.leaf(dtype, (d.pick([1, 2]), *sizes, d.pick([1, 3])), (limits.min, limits.max), "i")
    d.node([x], **window(d, sizes))
