"""Matrix products and transposes: Dense, plain MatMul."""

from __future__ import annotations

from collections.abc import Sequence

from keras import layers, ops

from bridge.graph.functions import DOMAIN
from bridge.ops import dims
from bridge.ops.contract import Site, Tensor
from bridge.ops.layouts import LAST, MATMUL, TRANSPOSES
from bridge.ops.products import einsum, integers
from bridge.ops.registry import op
from bridge.weights.weight import Weight


@op("Transpose", layout=TRANSPOSES)
def transpose(x, *, perm=None):
    """Nothing moves here: the plan has renamed the axes, and whoever needs another order asks for it."""
    return x


@op("Linear", domain=DOMAIN, layout=LAST, features={"w": 0}, units={"w": 1, "b": 0}, makes=(layers.Dense,))
def linear(site: Site, x, w: Weight, b: Weight):
    if x.shape[-1] is None:  # of which Keras makes no layer
        return dims.add(ops.matmul(x, site.tensor(w)), site.tensor(b))
    return site.layer(layers.Dense, units=w.dims[1], weights={"kernel": w, "bias": b})(x)


@op("MatMul", layout=MATMUL, features={"b": 0}, units={"b": 1}, makes=(layers.Dense,))
def matmul(site: Site, a, b: Weight | Tensor):
    """x W with a parameter is a Dense without bias; anything else is a product of tensors."""
    if isinstance(b, Weight) and len(b.dims) == 2 and len(a.shape) > 1 and a.shape[-1] is not None:
        return site.layer(layers.Dense, units=b.dims[1], use_bias=False, weights={"kernel": b})(a)
    b = site.tensor(b) if isinstance(b, Weight) else b
    orders = [*(operand.perm for operand in site.step.operands), *site.step.perms]
    ranks = len(a.shape), len(b.shape)
    orders = orders if ranks[0] == ranks[1] else [None] * 3
    if not any(orders) and not integers(a, b):
        return ops.matmul(a, b)
    return einsum(_product(*ranks, orders), a, b)


def _product(first: int, second: int, orders: Sequence[Sequence[int] | None]) -> str:
    """The matrix product of operands of so many axes as einsum writes it, for operands and result stored in these
    orders."""
    batch = "abcdefgh"[: max(first, second, 2) - 2]
    i, k = "i" * (first > 1), "k" * (second > 1)
    names = (
        batch[len(batch) - max(first - 2, 0) :] + i + "j",
        batch[len(batch) - max(second - 2, 0) :] + "j" + k,
    )
    stored = zip((*names, batch + i + k), orders, strict=True)
    a, b, y = (name if order is None else "".join(name[axis] for axis in order) for name, order in stored)
    return f"{a},{b}->{y}"


def _tied(site: Site, w: Weight):
    rows, columns = w.dims
    return site.layer(
        layers.ReversibleEmbedding, input_dim=rows, output_dim=columns, weights={"embeddings": w}
    )


@op("Det")
def det(x):
    return ops.linalg.det(x)


@op("TiedEmbedding", domain=DOMAIN, makes=(layers.ReversibleEmbedding,))
def tied_embedding(site: Site, w: Weight, ids):
    return _tied(site, w)(ids)


@op("TiedProjection", domain=DOMAIN, layout=LAST, makes=(layers.ReversibleEmbedding,))
def tied_projection(site: Site, x, w: Weight):
    return _tied(site, w)(x, reverse=True)


@op("WeightNorm", domain=DOMAIN)
def weight_norm(v, g, *, axes):
    """Of a direction and a length that are no parameters of one layer."""
    return v * (g / ops.sqrt(ops.sum(ops.square(v), axis=tuple(axes), keepdims=True)))


@op("SpectralNorm", domain=DOMAIN)
def spectral_norm(site: Site, w, u, v, *, perm):
    rows = ops.reshape(ops.transpose(w, perm), (site.shape()[perm[0]], -1))
    return w / ops.sum(u * ops.sum(rows * v, axis=-1))


@op("Parameter", domain=DOMAIN)
def parameter(site: Site, w: Weight):
    """A parameter that several products read."""
    return site.tensor(w)
