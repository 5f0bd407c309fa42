"""A layer as the call that one would write for it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras

LONGEST = 300  # characters of a setting; what is longer is a table of numbers
OUR_OWN = {"name", "trainable", "dtype"}  # settings that every layer has


def as_code(layer: keras.Layer) -> str:
    """`Conv2D(filters=32, kernel_size=(3, 3), padding="same")`: the settings that are not as Keras has them anyway."""
    return _call(type(layer).__name__, type(layer), layer.get_config())


def _call(name: str, kind: type | None, config: Mapping[str, Any]) -> str:
    written = (f"{key}={_value(value)}" for key, value in settings(kind, config).items())
    return f"{name}({', '.join(written)})"


def settings(kind: type | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a layer of class `kind` that are not as Keras has them anyway."""
    known = {} if kind is None else defaults(kind)
    return {
        key: value
        for key, value in config.items()
        if key not in OUR_OWN and not _is_default(value, known.get(key, inspect.Parameter.empty))
    }


def defaults(kind: type) -> dict[str, object]:
    """What a class has for the settings that it is not given; `inspect.Parameter.empty` for those it needs."""
    parameters: dict[str, object] = {}
    for base in reversed(kind.__mro__):
        own = inspect.signature(base).parameters if "__init__" in vars(base) and base is not object else {}
        parameters |= {name: parameter.default for name, parameter in own.items()}
    return parameters


def _is_default(value: object, default: object) -> bool:
    """Whether a setting is what it would be anyway; an initializer, which the weights have replaced, too."""
    if isinstance(value, Mapping):
        module = str(value.get("module"))
        return module == "keras.initializers"
    if isinstance(value, list | tuple) and isinstance(default, list | tuple):
        return list(value) == list(default)
    if isinstance(default, int) and isinstance(value, list | tuple) and not isinstance(default, bool):
        return all(item == default for item in value)  # one number for every axis
    if default is None and value in ("linear", "channels_last"):
        return True
    return bool(type(value) is type(default) and value == default)


def _value(value: object) -> str:
    if isinstance(value, Mapping) and isinstance(value.get("config"), Mapping):
        name = str(value.get("class_name"))
        return _call(name, getattr(keras.layers, name, None), value["config"])
    written = repr(tuple(value) if isinstance(value, list) else value).replace("'", '"')
    return written if len(written) <= LONGEST else f"{written[:LONGEST]}…"
