"""Models that take a sequence in pieces and keep their state between calls: what Keras's stateful layers lack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from bridge.keras_compat import all_layers
from bridge.package import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class Past(keras.layers.Layer):
    """The last frames of the pieces before this one, in front of it. They lie along `axis`, of the first piece they are
    `fill`. The batch is fixed; a saved model holds no frames."""

    stateful = True  # as Keras's recurrent layers are

    def __init__(self, frames: int, axis: int = 1, fill: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.frames, self.axis, self.fill = frames, axis, fill

    def build(self, input_shape: Sequence[int | None]) -> None:
        shape = [self.frames if place == self.axis else size for place, size in enumerate(input_shape)]
        if None in shape:
            raise ValueError(f"it keeps frames of one size, and not of {tuple(input_shape)}: fix the batch")
        filled = keras.initializers.Constant(self.fill)
        self.state = self.add_weight(
            shape=tuple(shape), initializer=filled, trainable=False, name="past", dtype=self.compute_dtype
        )

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        before = ops.cast(ops.copy(self.state.value), x.dtype)
        whole = ops.concatenate([before, x], axis=self.axis)
        last = (slice(None),) * self.axis + (slice(-self.frames, None),)
        self.state.assign(ops.cast(ops.stop_gradient(whole[last]), self.state.dtype))
        return whole

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        longer = (
            n if n is None or place != self.axis else n + self.frames for place, n in enumerate(input_shape)
        )
        return tuple(longer)

    def reset_state(self) -> None:
        self.state.assign(ops.full(self.state.shape, self.fill, dtype=self.state.dtype))

    def save_own_variables(self, store: Mapping[str, Any]) -> None:
        """Nothing: a model starts anew where it is loaded, as Keras's own stateful layers do."""

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        self.reset_state()

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"frames": self.frames, "axis": self.axis, "fill": self.fill}


def stateful_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Those that keep something from call to call, inside of other layers too."""
    return [layer for layer in all_layers(model) if getattr(layer, "stateful", False)]


def without_frames(model: keras.Model) -> list[keras.Variable]:
    """The variables of a model that do not train, but for the frames that it keeps."""
    kept = {id(layer.state) for layer in stateful_layers(model) if isinstance(layer, Past)}
    return [variable for variable in model.non_trainable_variables if id(variable) not in kept]


def reset_states(model: keras.Model) -> None:
    """Let a model that keeps its state between calls start anew, as with the first piece of a sequence.

    Args:
        model: made by `bridge.convert(…, stateful=True)`, or any that has stateful layers. Others stay as they are.

    Examples:
        >>> for sound in sounds:
        ...     bridge.reset_states(result.model)
        ...     heard = [result.model(piece) for piece in pieces(sound)]
    """
    for layer in stateful_layers(model):
        layer.reset_state()
