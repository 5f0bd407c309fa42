"""Normalisations: Keras's layers with ONNX's epsilon, along the channels wherever the stored order has them.

A scale or a bias that changes nothing is left out; one that the graph computes is applied after the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from bridge.ops.registry import FIRST, op
from bridge.weights import Weight

if TYPE_CHECKING:
    from bridge.plan import Step


def _position(site, axis: int) -> int:
    """Where the value's axis is stored; -1 for the last, as Keras writes it."""
    perm = site.step.operands[0].perm
    rank = len(site.shape())
    position = axis % rank if perm is None else perm.index(axis % rank)
    return -1 if position == rank - 1 else position


def _normalised(
    site, cls: type, x: Any, axes: Sequence[int], scale: Any, bias: Any, weights: dict[str, Weight] | None = None, **config
) -> Any:  # fmt: skip
    """`cls(**config)` on x, with scale and bias over the stored `axes`."""
    scale, bias = (None if _is_constant(value, neutral) else value for value, neutral in ((scale, 1), (bias, 0)))
    inside = all(value is None or isinstance(value, Weight) for value in (scale, bias))
    weights = dict(weights or {})
    if inside:
        weights |= {name: value for name, value in (("gamma", scale), ("beta", bias)) if value is not None}
    if cls is keras.layers.RMSNormalization:
        config |= {} if inside else {}
    else:
        config |= {"scale": "gamma" in weights, "center": "beta" in weights}
    y = site.layer(cls, weights=weights, **config)(x)
    if inside:
        return y
    shape = [x.shape[axis] if axis in axes or axis - len(x.shape) in axes else 1 for axis in range(len(x.shape))]
    scale, bias = (site.array(v.numpy()) if isinstance(v, Weight) else v for v in (scale, bias))
    y = y if scale is None else y * ops.reshape(scale, shape)
    return y if bias is None else y + ops.reshape(bias, shape)


def _is_constant(value: Any, number: float) -> bool:
    return isinstance(value, np.ndarray) and bool(np.all(value == number))


def _check_batch(step: Step) -> str | None:
    if step.argument("training_mode"):
        return "training_mode=1, statistics of the batch; export the module in eval mode, with running statistics"
    return None


@op(
    "BatchNormalization", layout=FIRST, check=_check_batch,
    features={"scale": 0, "b": 0, "input_mean": 0, "input_var": 0},
)  # fmt: skip
def batch_normalization(
    site, x, scale: Weight | None, b: Weight | None, input_mean: Weight, input_var: Weight,
    *, epsilon=1e-5, momentum=0.9, training_mode=0,
):  # fmt: skip
    axis = _position(site, 1)
    statistics = {"moving_mean": input_mean, "moving_variance": input_var}
    return _normalised(
        site, keras.layers.BatchNormalization, x, [axis], scale, b, statistics,
        axis=axis, epsilon=epsilon, momentum=momentum,
    )  # fmt: skip


@op("LayerNormalization", layout=FIRST, features={"scale": -1, "b": -1})
def layer_normalization(site, x, scale: Weight | None, b: Weight | None = None, *, axis=-1, epsilon=1e-5, stash_type=1):
    axes, scale, b = _trailing(site, axis, scale, b)
    config = {"axis": axes[0] if axes == [-1] else axes, "epsilon": epsilon}
    return _normalised(site, keras.layers.LayerNormalization, x, axes, scale, b, **config)


def _trailing(site, axis: int, *weights: Any) -> tuple[list[int], ...]:
    """The stored places of the axes from `axis` on, in order, and the weights over them in that order."""
    rank = len(site.shape())
    first = axis % rank
    places = [_position(site, a) % rank for a in range(first, rank)]
    order = np.argsort(places).tolist()
    moved = [w.transpose(*order) if isinstance(w, Weight | np.ndarray) and len(order) > 1 else w for w in weights]
    return [-1] if places == [rank - 1] else sorted(places), *moved


@op("GroupNormalization", layout=FIRST)
def group_normalization(site, x, scale: Weight | None, bias: Weight | None, *, num_groups, epsilon=1e-5, stash_type=1):
    axis = _position(site, 1)
    return _normalised(
        site, keras.layers.GroupNormalization, x, [axis], scale, bias, groups=num_groups, axis=axis, epsilon=epsilon
    )


@op("InstanceNormalization", layout=FIRST)
def instance_normalization(site, input, scale: Weight | None, b: Weight | None, *, epsilon=1e-5):
    axis = _position(site, 1)
    return _normalised(
        site, keras.layers.GroupNormalization, input, [axis], scale, b, groups=-1, axis=axis, epsilon=epsilon
    )
