"""A saved model read, with the layers that Keras lacks."""

from __future__ import annotations

import os

import keras

from bridge.files.archives import unpacked
from bridge.keras_memory import weights_read_one_by_one, weights_to_come


def load_model(path: str | os.PathLike[str]) -> keras.Model:
    """A `.keras` file in safe mode; its weights are read, and not drawn before. The layers of this package are known
    to Keras by then, whose import registers them."""
    with weights_to_come(), weights_read_one_by_one(unpacked):
        return keras.saving.load_model(path, compile=False, safe_mode=True)
