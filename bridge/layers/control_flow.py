"""Control flow that the data decide, over models: `If` runs one of two. `Shared` is a layer that several call."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from bridge.keras_compat import Config
from bridge.package import PACKAGE

Tensors = Sequence[keras.KerasTensor]


class OverModels(keras.layers.Layer):
    """A layer whose settings are functional models, which are saved within it."""

    def __init__(self, models: dict[str, keras.Model], **kwargs: object):
        super().__init__(**kwargs)
        self._names = tuple(models)
        for name, model in models.items():
            setattr(self, name, model)

    def build(self, input_shape: object = None) -> None:
        self.built = True  # as the models are

    def get_config(self) -> Config:
        models = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self._names}
        return super().get_config() | models

    @classmethod
    def from_config(cls, config: Config) -> OverModels:
        read = {
            name: keras.saving.deserialize_keras_object(value)
            if isinstance(value, dict) and "class_name" in value and name != "dtype"
            else value
            for name, value in config.items()
        }
        return cls(**read)


@keras.saving.register_keras_serializable(package=PACKAGE)
class Shared(keras.layers.Layer):
    """Another layer, called. A file numbers the calls of a layer within each model, so that one which two models call
    is read back wrong: the second calls it through this one."""

    def __init__(self, layer: keras.layers.Layer, **kwargs: object):
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, *shapes: object, **more: object) -> None:
        self.built = True  # as the layer is

    def call(self, *args: object, **kwargs: object) -> keras.KerasTensor | list[keras.KerasTensor]:
        return self.layer(*args, **kwargs)

    def get_config(self) -> Config:
        return super().get_config() | {"layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config: Config) -> Shared:
        return cls(**config | {"layer": keras.saving.deserialize_keras_object(config["layer"])})


def outputs_of(model: keras.Model, inputs: Sequence[keras.KerasTensor]) -> list[keras.KerasTensor]:
    """What `model` gives, a list even of one."""
    outputs = model(list(inputs))
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


@keras.saving.register_keras_serializable(package=PACKAGE)
class If(OverModels):
    """One of two models, whose outputs are alike in number, rank and dtype: of `[condition, given, given]` the first
    runs on the first `given` where the condition, one boolean, is true, and the other on the other where it is not."""

    def __init__(self, then_branch: keras.Model, else_branch: keras.Model, **kwargs: object):
        super().__init__({"then_branch": then_branch, "else_branch": else_branch}, **kwargs)

    def call(self, inputs: tuple[keras.KerasTensor, Tensors, Tensors]) -> list[keras.KerasTensor]:
        condition, given, otherwise = inputs
        return ops.cond(
            ops.reshape(condition, ()),
            lambda: outputs_of(self.then_branch, given),
            lambda: outputs_of(self.else_branch, otherwise),
        )

    def compute_output_spec(
        self, inputs: tuple[keras.KerasTensor, Tensors, Tensors]
    ) -> list[keras.KerasTensor]:
        pairs = zip(self.then_branch.outputs, self.else_branch.outputs, strict=True)
        return [keras.KerasTensor(_common(a.shape, b.shape), dtype=a.dtype) for a, b in pairs]


def _common(shape: Sequence[int | None], other: Sequence[int | None]) -> tuple[int | None, ...]:
    """The sizes that both have, None where they are not one."""
    return tuple(a if a == b else None for a, b in zip(shape, other, strict=True))
