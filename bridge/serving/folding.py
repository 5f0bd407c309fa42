"""A Keras model without what only training needs: normalisations folded into the layer before them, dropouts left out.

The layers that stay are the model's own, so that a weight is held once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers

from bridge.keras_compat import calls
from bridge.keras_memory import weights_to_come

# Layers that a scale and shift of their features folds into: which axes of the kernel are the features
FOLDS: dict[type[keras.Layer], tuple[int, ...]] = {
    layers.Dense: (-1,),
    layers.Conv1D: (-1,),
    layers.Conv2D: (-1,),
    layers.Conv3D: (-1,),
    layers.DepthwiseConv1D: (-2, -1),
    layers.DepthwiseConv2D: (-2, -1),
    layers.Conv1DTranspose: (-2,),
    layers.Conv2DTranspose: (-2,),
    layers.Conv3DTranspose: (-2,),
}
TRAINING = (  # layers that do nothing but in training
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
)


@dataclass
class Served:
    """The model, and by the names of layers what was done to them."""

    model: keras.Model
    folded: dict[str, str] = field(default_factory=dict)  # a normalisation, and the layer that it is part of
    dropped: list[str] = field(default_factory=list)


def served_of(model: keras.Model) -> Served:
    """`model` with the same inputs and outputs, without what only training needs."""
    pairs = dict(_pairs(model))
    idle = [layer for layer in model.layers if isinstance(layer, TRAINING)]
    gone = {id(layer) for layer in (*pairs.values(), *idle)}
    made = {id(before): _with_bias(before) for before in pairs}

    def chosen(layer: keras.Layer) -> keras.Layer:
        return made.get(id(layer), layer)

    def called(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        return args[0] if id(layer) in gone else layer(*args, **kwargs)

    with weights_to_come():
        served = keras.models.clone_model(model, clone_function=chosen, call_function=called)
    for before, norm in pairs.items():
        _fold(before, norm, made[id(before)])
    return Served(
        served,
        {norm.name: before.name for before, norm in pairs.items()},
        [layer.name for layer in idle],
    )


def _pairs(model: keras.Model) -> Iterator[tuple[keras.Layer, keras.Layer]]:
    """The layers into which a normalisation folds, and it: nobody else reads what they give, or calls either."""
    made = calls(model)
    times = Counter(id(call.operation) for call in made)
    readers = Counter(id(tensor) for call in made for tensor in call.reads)
    readers.update(id(tensor) for tensor in model.outputs)
    makers = {id(tensor): call.operation for call in made for tensor in call.gives}
    for norm, reads, *_ in made:
        if type(norm) is not layers.BatchNormalization or times[id(norm)] > 1:
            continue
        (given,) = reads
        before = makers.get(id(given))
        if before is not None and readers[id(given)] == 1 == times[id(before)] and _fits(before, norm, given):
            yield before, norm


def _fits(before: keras.Layer, norm: keras.Layer, given: keras.KerasTensor) -> bool:
    axis = norm.axis if isinstance(norm.axis, int) else norm.axis[0]
    return (
        type(before) in FOLDS
        and before.activation is keras.activations.linear
        and axis % len(given.shape) == len(given.shape) - 1
        and getattr(before, "data_format", "channels_last") == "channels_last"
        and before.dtype_policy == norm.dtype_policy
    )


def _with_bias(layer: keras.Layer) -> keras.Layer:
    return type(layer).from_config({**layer.get_config(), "use_bias": True})


def _fold(before: keras.Layer, norm: keras.Layer, made: keras.Layer) -> None:
    """Fill `made` with what `before` and `norm` are together: gamma (y - mean) / sqrt(variance + epsilon) + beta."""
    mean, variance = (_wide(x) for x in (norm.moving_mean, norm.moving_variance))
    scale = (_wide(norm.gamma) if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    shift = _wide(norm.beta) if norm.center else 0.0
    bias = _wide(before.bias) if before.use_bias else 0.0
    kernel, axes = _wide(before.kernel), FOLDS[type(before)]
    shape = [1] * kernel.ndim
    for axis in axes:
        shape[axis] = kernel.shape[axis]
    made.kernel.assign((kernel * scale.reshape(shape)).astype(made.kernel.dtype))
    made.bias.assign(((bias - mean) * scale + shift).astype(made.bias.dtype))


def _wide(variable: keras.Variable) -> np.ndarray:
    return np.asarray(variable, np.float64)
