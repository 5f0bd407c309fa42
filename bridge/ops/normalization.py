"""Normalisations: Keras's layers with ONNX's epsilon, along the channels wherever the stored order has them.

A scale or a bias that changes nothing is left out; one that the graph computes is applied after the layer.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from bridge.graph.rewriting import input_of
from bridge.graph.shapes import shape_of
from bridge.ops import dims
from bridge.ops.contract import Site, Step, Tensor
from bridge.ops.halves import in_single
from bridge.ops.layouts import ANY, CHANNELS_LAST, FIRST_INPUT
from bridge.ops.registry import op
from bridge.weights.weight import Weight

MANY = 512  # views of one tensor that are added


def _position(site: Site, axis: int) -> int:
    """Where the value's axis is stored; -1 for the last, as Keras writes it."""
    rank = len(site.shape())
    position = site.perm().index(axis % rank)
    return -1 if position == rank - 1 else position


def _normalised(
    site: Site, cls: type[keras.Layer], x: Tensor, axes: Sequence[int],
    scale: Any, bias: Any,
    weights: dict[str, Weight] | None = None, **config,
) -> Tensor:  # fmt: skip
    """`cls(**config)` on x, with scale and bias over the stored `axes`."""
    scale, bias = (
        None if _is_constant(value, neutral) else value for value, neutral in ((scale, 1), (bias, 0))
    )
    places = sorted(axis % len(x.shape) for axis in axes)
    inside = all(
        value is None or isinstance(value, Weight) and value.dims == tuple(x.shape[place] for place in places)
        for value in (scale, bias)
    )
    weights = dict(weights or {})
    if inside:
        weights |= {name: value for name, value in (("gamma", scale), ("beta", bias)) if value is not None}
    config |= {"scale": "gamma" in weights, "center": "beta" in weights}
    y = site.layer(cls, weights=weights, **config)(x)
    if inside:
        return y
    scale, bias = (_along(site, value, places, len(x.shape)) for value in (scale, bias))
    y = y if scale is None else y * scale
    return y if bias is None else dims.add(y, bias)


def _along(site: Site, value: Weight | Tensor | None, places: Sequence[int], rank: int) -> Tensor | None:
    """A scale or a bias over the stored axes `places`, shaped so that it broadcasts."""
    if value is None:
        return None
    value = site.tensor(value) if isinstance(value, Weight) else value
    sizes = dict(zip(places, value.shape, strict=True))
    return ops.reshape(
        value, [-1 if sizes.get(axis, 1) is None else sizes.get(axis, 1) for axis in range(rank)]
    )


def _is_constant(value: Weight | Tensor | None, number: float) -> bool:
    return isinstance(value, np.ndarray) and bool(np.all(value == number))


@op(
    "BatchNormalization", layout=FIRST_INPUT,
    features={"scale": 0, "b": 0, "input_mean": 0, "input_var": 0}, feature_axis=1, makes=(layers.BatchNormalization,),
)  # fmt: skip
def batch_normalization(
    site: Site, x, scale: Weight | Tensor, b: Weight | Tensor, input_mean: Weight | Tensor, input_var: Weight | Tensor,
    *, epsilon=1e-5, momentum=0.9, training_mode=0,
):  # fmt: skip
    """Statistics that the graph computes (of the batch, in a module that keeps none) are no layer's."""
    axis = _position(site, 1)
    if training_mode or not (isinstance(input_mean, Weight) and isinstance(input_var, Weight)):
        given = (input_mean, input_var, b, scale)
        mean, variance, offset, gamma = (site.tensor(v) if isinstance(v, Weight) else v for v in given)
        if training_mode:
            return _of_this_batch(x, mean, variance, axis, offset, gamma, epsilon, momentum)
        return ops.batch_normalization(x, mean, variance, axis, offset, gamma, epsilon)
    statistics = {"moving_mean": input_mean, "moving_variance": input_var}
    return _normalised(
        site, layers.BatchNormalization, x, [axis], scale, b, statistics,
        axis=axis, epsilon=epsilon, momentum=momentum,
    )  # fmt: skip


def _of_this_batch(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    axis: int,
    offset: Tensor,
    gamma: Tensor,
    epsilon: float,
    momentum: float,
) -> tuple[Tensor, ...]:
    """Normalised by its own statistics, and the running ones that follow from them."""
    others = [place for place in range(len(x.shape)) if place != axis % len(x.shape)]
    found = ops.mean(x, axis=others), ops.var(x, axis=others)
    y = ops.batch_normalization(x, *found, axis, offset, gamma, epsilon)
    running = (
        ops.add(ops.multiply(ops.cast(now, old.dtype), 1 - momentum), ops.multiply(old, momentum))
        for old, now in zip((mean, variance), found, strict=True)
    )
    return y, *running


@op(
    "LayerNormalization",
    layout=FIRST_INPUT,
    features={"scale": -1, "b": -1},
    makes=(layers.LayerNormalization,),
)
def layer_normalization(
    site: Site,
    x,
    scale: Weight | Tensor,
    b: Weight | Tensor | None = None,
    *,
    axis=-1,
    epsilon=1e-5,
    stash_type=1,
):
    apart = [] if _spans(site, axis, scale) and _spans(site, axis, b) else [scale, b]
    axes, scale, b = _trailing(site, axis, *([None, None] if apart else [scale, b]))
    config = {"axis": axes[0] if axes == [-1] else axes, "epsilon": epsilon}
    y = _normalised(site, layers.LayerNormalization, x, axes, scale, b, **config)
    return _scaled(site, y, *apart) if apart else y


def _spans(site: Site, axis: int, weight: Weight | Tensor | None) -> bool:
    """Whether `weight` is left out or has one element for each of the axes from `axis` on."""
    dims = shape_of(input_of(site.node, 0))[axis % len(site.shape()) :]
    shape = weight.dims if isinstance(weight, Weight) else None if weight is None else tuple(weight.shape)
    return (
        shape is None
        or _is_constant(weight, 0)
        or len(shape) == len(dims)
        and all(
            size == (dim if isinstance(dim, int) else None) for size, dim in zip(shape, dims, strict=True)
        )
    )


def _scaled(
    site: Site, y: Tensor, scale: Weight | Tensor | None, bias: Weight | Tensor | None = None
) -> Tensor:
    """y times a scale and plus a bias that broadcast against it, last axis to last axis."""
    scale, bias = (_beside(site, value) for value in (scale, bias))
    y = y if scale is None else y * scale
    return y if bias is None else dims.add(y, bias)


def _beside(site: Site, value: Weight | Tensor | None) -> Tensor | None:
    if value is None:
        return None
    rank, perm = len(site.shape()), site.step.operands[0].perm
    value = site.tensor(value) if isinstance(value, Weight) else value
    missing = rank - len(value.shape)
    value = ops.expand_dims(value, list(range(missing))) if missing else value
    return value if perm is None else ops.transpose(value, perm)


def _trailing(site: Site, axis: int, *weights: Weight | Tensor | None) -> tuple[Any, ...]:
    """The stored places of the axes from `axis` on, in order, and the weights over them in that order."""
    rank = len(site.shape())
    first = axis % rank
    places = [_position(site, a) % rank for a in range(first, rank)]
    order = np.argsort(places).tolist()
    moved = [w if w is None or len(order) < 2 else _transposed(w, order) for w in weights]
    return [-1] if places == [rank - 1] else sorted(places), *moved


def _transposed(weight: Any, order: Sequence[int]) -> Weight | Tensor:
    known = isinstance(weight, Weight | np.ndarray)
    return weight.transpose(*order) if known else ops.transpose(weight, order)


@op("RMSNormalization", layout=FIRST_INPUT, features={"scale": -1}, makes=(layers.RMSNormalization,))
def rms_normalization(site: Site, x, scale: Weight | Tensor, *, axis=-1, epsilon=1e-5, stash_type=1):
    """Keras has its scale run along the last axes only, wherever those are that it normalises."""
    apart = None if _spans(site, axis, scale) else scale
    axes, scale = _trailing(site, axis, scale if apart is None else None)
    last = list(range(-len(axes), 0))
    moved = axes != last and axes != [place + len(x.shape) for place in last]
    x = ops.moveaxis(x, axes, last) if moved else x
    if isinstance(scale, Weight):
        config = {"axis": -1 if last == [-1] else last, "epsilon": epsilon, "weights": {"scale": scale}}
        y = site.layer(layers.RMSNormalization, **config)(x)
    else:
        y = ops.rms_normalization(x, scale, last, epsilon)
    y = ops.moveaxis(y, last, axes) if moved else y
    return y if apart is None else _scaled(site, y, apart)


@op("GroupNormalization", layout=FIRST_INPUT, batch_first=True, makes=(layers.GroupNormalization,))
def group_normalization(
    site: Site, x, scale: Weight | Tensor, bias: Weight | Tensor, *, num_groups, epsilon=1e-5, stash_type=1
):
    axis = _position(site, 1)
    return _normalised(
        site,
        layers.GroupNormalization,
        x,
        [axis],
        scale,
        bias,
        groups=num_groups,
        axis=axis,
        epsilon=epsilon,
    )


@op("InstanceNormalization", layout=FIRST_INPUT, batch_first=True, makes=(layers.GroupNormalization,))
def instance_normalization(site: Site, input, scale: Weight | Tensor, b: Weight | Tensor, *, epsilon=1e-5):
    axis = _position(site, 1)
    return _normalised(
        site, layers.GroupNormalization, input, [axis], scale, b, groups=-1, axis=axis, epsilon=epsilon
    )


# --- without weights ---------------------------------------------------------------------------------------------


def _check_lrn(step: Step) -> str | None:
    size = step.argument("size")
    if size < 1:
        return f"size={size}: it has to be 1 or more"
    return f"size={size}: Keras adds neighbours one by one, and no more than {MANY}" if size > MANY else None


@op("LRN", layout=CHANNELS_LAST, check=_check_lrn)
@in_single
def lrn(site: Site, x, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    """Each element by the squares of its neighbours among the channels."""
    before = (size - 1) // 2
    squares = ops.pad(ops.square(x), [(0, 0)] * (len(x.shape) - 1) + [(before, size - 1 - before)])
    views = [squares[..., start : start - (size - 1) or None] for start in range(size)]
    total = functools.reduce(ops.add, views)
    return x / (bias + alpha / size * total) ** beta


@op("MeanVarianceNormalization", layout=ANY, axes="axes")
@in_single
def mean_variance_normalization(x, *, axes=(0, 2, 3)):
    mean, variance = ops.moments(x, tuple(axes), keepdims=True)
    return (x - mean) / (ops.sqrt(variance) + 1e-9)


def _check_lp(step: Step) -> str | None:
    p = step.argument("p")
    return None if p in (1, 2) else f"p={p}, of which ONNX says nothing; it has norms of 1 and 2"


@op("LpNormalization", layout=ANY, axes="axis", check=_check_lp)
@in_single
def lp_normalization(x, *, axis=-1, p=2):
    norm = (
        ops.sum(ops.abs(x), axis, keepdims=True)
        if p == 1
        else ops.sqrt(ops.sum(ops.square(x), axis, keepdims=True))
    )
    return x / ops.where(ops.equal(norm, 0), ops.ones_like(norm), norm)
