"""What each Keras backend needs to be told."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras

from bridge.errors import BridgeError

ITEMSIZE = 4  # bytes of a number, as good as any


@contextlib.contextmanager
def channels_last() -> Iterator[None]:
    """Keras making layers that have their channels last; it is left as it was found."""
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_image_data_format(before)


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Keras computing in float64 on every backend, left afterwards as it was found.

    Only with TensorFlow does it by itself: elsewhere a private table of Keras makes float32 of float64, and jax has
    no 64 bits unless told. Raises `BridgeError` where a Keras cannot be told.
    """
    from keras.src.backend.common import dtypes

    backend, double, table = keras.backend.backend(), "float64", getattr(dtypes, "BIT64_TO_BIT32_DTYPE", {})
    kept = dict(table)
    with contextlib.ExitStack() as stack:
        stack.callback(table.update, kept)
        table[double] = double
        stack.callback(keras.config.set_floatx, keras.config.floatx())
        keras.config.set_floatx(double)  # of numbers, which torch's side of Keras would round to it
        if keras.backend.result_type(double, double) != double:
            raise BridgeError(
                f"Keras does not compute in float64 on {backend}; compare with KERAS_BACKEND=tensorflow"
            )
        if backend == "jax":
            import jax

            stack.enter_context(jax.enable_x64(True))
        yield


def largest_bytes(model: keras.Model) -> int:
    """What the largest value between the layers of `model` takes, of the models inside it too, where every free axis
    is 1."""
    found = {id(step): step for step in model._flatten_layers()}
    for layer in list(found.values()):
        found.update((id(step), step) for step in getattr(layer, "operations", ()))
    values = [
        value for step in found.values() for node in step._inbound_nodes for value in node.output_tensors
    ]
    return max(math.prod(size or 1 for size in value.shape) * ITEMSIZE for value in values)


def count_elements(config: dict[str, Any]) -> int:
    """How many elements the variables of a saved model have, by its config alone: none of them is allocated."""
    from keras.src.backend.common import global_state

    with keras.StatelessScope(initialize_variables=False):
        try:
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
            return sum(math.prod(variable.shape) for variable in model.variables)
        finally:
            global_state.set_global_attribute("uninitialized_variables", [])
