"""What stands before the brackets: Keras's functions and classes, by what is called, and what they need to be given."""

from __future__ import annotations

import builtins
import inspect
import keyword
import re
from collections.abc import Container
from functools import cache
from itertools import count
from typing import Any

import keras

from bridge import layers as own_layers
from bridge.build.as_code import defaults

OTHERWISE = {  # operations that are called otherwise than their class
    "BatchNorm": "batch_normalization",
    "LayerNorm": "layer_normalization",
    "RMSNorm": "rms_normalization",
}
OPERATORS = {
    "Add": "+",
    "Subtract": "-",
    "Multiply": "*",
    "Divide": "/",
    "TrueDivide": "/",
    "Matmul": "@",
    "Power": "**",
    "Greater": ">",
    "GreaterEqual": ">=",
    "Less": "<",
    "LessEqual": "<=",
}
PLACES = {
    "ops": keras.ops,
    "ops.image": keras.ops.image,
    "ops.nn": keras.ops.nn,
    "ops.linalg": keras.ops.linalg,
}
ALIKE = ("kernel_size", "strides", "pool_size", "dilation_rate", "size", "padding", "cropping")
MODULES = {"keras", "layers", "ops", "np", "Path"}
RESERVED = {*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *MODULES, "model", "weights", "Table"}
LONGEST = 24  # characters of a name
EMPTY = inspect.Parameter.empty


def free(name: str, taken: Container[str]) -> str:
    """`name`, with a number behind it where that is taken."""
    numbered = (f"{name}_{number}" for number in count(2))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def identifier(text: str) -> str:
    """A name of Python's that is made of `text`."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").lower()[:LONGEST].strip("_")
    name = f"x{name}" if name[:1].isdigit() else name or "x"
    return f"{name}_" if name in RESERVED else name


def snake(name: str) -> str:
    """As Keras names what has no name: `GetItem` is get_item."""
    parts = re.sub(r"\W+", "", name, flags=re.ASCII)
    parts = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", parts)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", parts).lower()


def of_operation(operation: keras.Operation) -> str:
    """The function of `keras.ops` that an operation is a call of; "" if there is none."""
    name = OTHERWISE.get(type(operation).__name__) or snake(type(operation).__name__)
    return next((f"{place}.{name}" for place, room in PLACES.items() if hasattr(room, name)), "")


def of_layer(kind: type) -> str:
    """The name of a class of layers, of Keras or of ours; "" if it is neither's."""
    if getattr(keras.layers, kind.__name__, None) is kind:
        return f"layers.{kind.__name__}"
    return kind.__name__ if getattr(own_layers, kind.__name__, None) is kind else ""


def class_named(name: str) -> type | None:
    found = getattr(keras.layers, name, None) or getattr(own_layers, name, None)
    return found if isinstance(found, type) else None


@cache
def parameters(head: str) -> dict[str, Any]:
    """The parameters of what has the name `head`, with their defaults; none of a function of the source itself."""
    place, _, name = head.rpartition(".")
    if place in PLACES:
        signature = inspect.signature(getattr(PLACES[place], name))
        return {key: parameter.default for key, parameter in signature.parameters.items()}
    kind = class_named(name) if place in ("layers", "") else None
    if kind is None:
        return {}
    own = [key for key in inspect.signature(kind).parameters if key != "kwargs"]
    known = defaults(kind)
    return {key: known[key] for key in own if key in known}


def needed(head: str) -> list[str]:
    """The parameters that `head` has no default for, which stand first and need no name."""
    names = []
    for name, default in parameters(head).items():
        if default is not EMPTY:
            break
        names.append(name)
    return names


def default_of(head: str, setting: str) -> Any:
    """What a setting is that is not given; `EMPTY` where nobody knows."""
    if setting == "trainable":
        return True
    default = parameters(head).get(setting, EMPTY)
    return alike(default) if setting in ALIKE else default


def alike(value: Any) -> Any:
    """One number in the place of several that are the same."""
    if not isinstance(value, tuple):
        return value
    flat = {item for part in value for item in (part if isinstance(part, tuple) else (part,))}
    return flat.pop() if len(flat) == 1 else value
