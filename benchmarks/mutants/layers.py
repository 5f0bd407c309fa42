"""What can be wrong with a layer of Keras: which layers it fits, and what puts it in."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Layer = keras.layers.Layer


def _set(name: str, change: Callable[[Any], Any]) -> tuple[Callable[[Layer], bool], Callable[..., None]]:
    def put(layer: Layer, draw: random.Random) -> None:
        setattr(layer, name, change(getattr(layer, name)))

    return lambda layer: isinstance(getattr(layer, name, None), float) and bool(getattr(layer, name)), put


def _matrix(layer: Layer) -> Any:
    """The first kernel of a layer, or of its cell."""
    return next((w for w in layer.trainable_variables if "kernel" in w.path), None)


def _is_square(layer: Layer) -> bool:
    kernel = _matrix(layer)
    return kernel is not None and len(kernel.shape) == 2 and kernel.shape[0] == kernel.shape[1] > 1


def _transpose(layer: Layer, draw: random.Random) -> None:
    kernel = _matrix(layer)
    kernel.assign(np.asarray(kernel).T.copy())


def _bias(layer: Layer) -> Any:
    return next((w for w in layer.trainable_variables if "bias" in w.path or "beta" in w.path), None)


def _lost_bias(layer: Layer, draw: random.Random) -> None:
    bias = _bias(layer)
    bias.assign(0 * np.asarray(bias))


def _one_weight(layer: Layer, draw: random.Random) -> None:
    variable = draw.choice(layer.trainable_variables)
    array = np.array(variable)
    place = draw.randrange(array.size)
    array.flat[place] *= 1.01
    variable.assign(array)


def _gates(layer: Layer, draw: random.Random) -> None:
    kernel = _matrix(layer)
    parts = np.split(np.asarray(kernel), 4 if "lstm" in kernel.path else 3, -1)
    kernel.assign(np.concatenate([parts[1], parts[0], *parts[2:]], -1))


def _half(layer: Layer, draw: random.Random) -> None:
    call = layer.call

    def rounded(*given: Any, **options: Any) -> Any:
        made = call(*given, **options)
        return keras.ops.cast(keras.ops.cast(made, "float16"), made.dtype) if hasattr(made, "dtype") else made

    layer.call = rounded


def _freeze(layer: Layer, draw: random.Random) -> None:
    draw.choice(layer.trainable_variables).trainable = False


def _forward(layer: Layer, draw: random.Random) -> None:
    layer.backward_layer.go_backwards = False


def _tanh(layer: Layer, draw: random.Random) -> None:
    layer.activation = lambda x: keras.activations.gelu(x, approximate=True)


def _axis(layer: Layer, draw: random.Random) -> None:
    layer.axis = 1 if layer.axis in (-1, 2) else -1


def _is_exact_gelu(layer: Layer) -> bool:
    return getattr(getattr(layer, "activation", None), "__name__", "") == "gelu"


LAYERS: dict[str, tuple[Callable[[Layer], bool], Callable[[Layer, random.Random], None]]] = {
    "epsilon": _set("epsilon", lambda x: 3 * x),
    "momentum": _set("momentum", lambda x: 0.5 * x),
    "dropout rate": _set("rate", lambda x: 0.5 * x + 0.3),
    "transposed kernel": (_is_square, _transpose),
    "lost bias": (lambda layer: _bias(layer) is not None, _lost_bias),
    "weight": (lambda layer: bool(layer.trainable_variables), _one_weight),
    "gates": (lambda layer: any(kind in type(layer).__name__ for kind in ("LSTM", "GRU", "Bidirectional")), _gates),
    "half": (lambda layer: bool(layer.trainable_variables), _half),
    "frozen parameter": (lambda layer: bool(layer.trainable_variables), _freeze),
    "direction": (lambda layer: isinstance(layer, keras.layers.Bidirectional), _forward),
    "tanh": (_is_exact_gelu, _tanh),
    "softmax axis": (lambda layer: isinstance(layer, keras.layers.Softmax) and isinstance(layer.axis, int), _axis),
}  # fmt: skip
