"""Matrix products and transposes: Dense, plain MatMul."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from bridge.ops.registry import LAST, PRODUCT, RENAMES, op
from bridge.weights import Weight


@op("Transpose", layout=RENAMES)
def transpose(x, *, perm=None):
    """Nothing moves here: the plan has renamed the axes, and whoever needs another order asks for it."""
    return x


@op("Linear", domain="bridge", layout=LAST, features={"w": 0}, units={"w": 1, "b": 0})
def linear(site, x, w: Weight, b: Weight):
    return site.layer(keras.layers.Dense, units=w.dims[1], weights={"kernel": w, "bias": b})(x)


@op("MatMul", layout=PRODUCT, features={"b": 0}, units={"b": 1})
def matmul(site, a, b: Weight | None):
    """x W with a parameter is a Dense without bias; anything else is a product of tensors."""
    if isinstance(b, Weight) and len(b.dims) == 2 and len(a.shape) > 1:
        return site.layer(keras.layers.Dense, units=b.dims[1], use_bias=False, weights={"kernel": b})(a)
    b = site.tensor(b) if isinstance(b, Weight) else b
    orders = [operand.perm for operand in site.step.operands] + site.step.perms
    if not any(orders) or len(a.shape) != len(b.shape):
        return ops.matmul(a, b)
    return ops.einsum(_product([order or tuple(range(len(a.shape))) for order in orders]), a, b)


def _product(orders: Sequence[Sequence[int]]) -> str:
    """The matrix product as einsum writes it, for operands and result stored in these orders."""
    rank = len(orders[0])
    batch = "abcdefgh"[: rank - 2]
    names = [batch + "ij", batch + "jk", batch + "ik"]
    a, b, y = ("".join(name[axis] for axis in order) for name, order in zip(names, orders, strict=True))
    return f"{a},{b}->{y}"


def _tied(site, w: Weight):
    rows, columns = w.dims
    return site.layer(
        keras.layers.ReversibleEmbedding, input_dim=rows, output_dim=columns, weights={"embeddings": w}
    )


@op("TiedEmbedding", domain="bridge")
def tied_embedding(site, w: Weight, ids):
    return _tied(site, w)(ids)


@op("TiedProjection", domain="bridge", layout=LAST)
def tied_projection(site, x, w: Weight):
    return _tied(site, w)(x, reverse=True)
