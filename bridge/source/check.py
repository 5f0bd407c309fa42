"""What was written is run, and the model that it makes compared with the one that it was written of, call by call."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from bridge.errors import BridgeError, InternalError, short_message
from bridge.keras_compat import Call, call_of, channels_last, ends, made_by, to_numpy
from bridge.keras_memory import weights_to_come
from bridge.source.calls import said
from bridge.source.reading import TABLE

DEEP = 50  # of Python's frames, at most, for an operation
DIVISIONS = {"Divide", "TrueDivide"}  # which are one
NAMES = ("name", "shared_object_id", "build_config")  # in a config, what says nothing of the numbers


def run(text: str, build: str, steps: int) -> keras.Model:
    """The model that the function `build` of a source makes, whatever the session's settings are; its weights are to
    come."""
    space: dict[str, Any] = {"__name__": "source", "__file__": "source.py"}
    try:
        with _plain_session(), weights_to_come(), _room(steps):
            exec(compile(text, "source.py", "exec"), space)
            made = space[build]()
    except Exception as error:
        raise InternalError(f"the source that was written does not run: {short_message(error)}") from error
    assert isinstance(made, keras.Model)
    return made


@contextlib.contextmanager
def _plain_session() -> Iterator[None]:
    """Keras as it is before anybody has set anything."""
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    try:
        with channels_last():
            yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


@contextlib.contextmanager
def _room(steps: int) -> Iterator[None]:
    """For Keras, which walks through a model by a call within a call."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + DEEP * steps)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


class Comparison:
    """Two models, call beside call. `layers` are the pairs of their layers."""

    def __init__(self, tables: Mapping[str, np.ndarray]):
        self.tables = tables
        self.layers: dict[int, tuple[keras.layers.Layer, keras.layers.Layer]] = {}
        self._tensors: dict[int, Any] = {}
        self._left: list[tuple[Any, Any]] = []
        self._calls: set[tuple[int, int]] = set()

    def models(self, model: keras.Model, made: keras.Model) -> None:
        """Raise `InternalError` unless both are the same."""
        before, self._left = self._left, []
        self._same(ends(model), ends(made), model.name)
        while self._left:
            x, y = self._left.pop()
            call, other = made_by(x), made_by(y)
            if call is None or other is None or (known := (id(call[0]), call[1])) in self._calls:
                continue
            self._calls.add(known)
            self._operations(call_of(*call), call_of(*other))
        self._left = before

    def _operations(self, one: Call, other: Call) -> None:
        layer, made = one.operation, other.operation
        where = layer.name
        if type(layer) is not type(made) and {type(layer).__name__, type(made).__name__} != DIVISIONS:
            raise _apart(where, type(layer).__name__, type(made).__name__)
        known = self.layers.setdefault(id(layer), (layer, made))
        if known[1] is not made:
            if isinstance(layer, keras.layers.Layer):
                raise _apart(where, "one layer", "two")
        elif isinstance(layer, keras.layers.Layer):
            self._settings(layer, made)
        if not isinstance(layer, keras.layers.Layer):
            self._same(_config(layer), _config(made), where)
        self._same((_args(one), said(one)), (_args(other), said(other)), where)
        self._same(one.gives, other.gives, where)

    def _settings(self, layer: Any, made: Any) -> None:
        """Likewise of the models that are settings of a layer, and of a layer that another calls."""
        inner = [name for name in ("body", "then_branch", "else_branch") if hasattr(layer, name)]
        for name in inner:
            self.models(getattr(layer, name), getattr(made, name))
        if isinstance(layer, keras.Model):
            self.models(layer, made)
            return
        configs = [_config(one) for one in (layer, made)]
        if type(layer).__name__ == "Shared":
            inner.append("layer")
            known = self.layers.setdefault(id(layer.layer), (layer.layer, made.layer))
            if known[1] is not made.layer:
                raise _apart(layer.name, "one layer", "two")
        for config in configs:
            for name in inner:
                config.pop(name)
        self._same(configs[0], configs[1], layer.name)

    def _same(self, one: Any, other: Any, where: str) -> None:
        if isinstance(one, keras.KerasTensor) and isinstance(other, keras.KerasTensor):
            self._tensor(one, other, where)
        elif isinstance(one, Mapping) and isinstance(other, Mapping):
            if one.keys() != other.keys():
                raise _apart(where, list(one), list(other))
            for name, value in one.items():
                self._same(value, other[name], where)
        elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
            if len(one) != len(other):
                raise _apart(where, one, other)
            for a, b in zip(one, other, strict=True):
                self._same(a, b, where)
        elif not self._is_same(one, other):
            raise _apart(where, one, other)

    def _tensor(self, one: keras.KerasTensor, other: keras.KerasTensor, where: str) -> None:
        if id(one) not in self._tensors:
            if (one.shape, one.dtype) != (other.shape, other.dtype):
                raise _apart(where, (one.shape, one.dtype), (other.shape, other.dtype))
            self._tensors[id(one)] = other
            self._left.append((one, other))
        elif self._tensors[id(one)] is not other:
            raise _apart(where, one.name, other.name)

    def _is_same(self, one: Any, other: Any) -> bool:
        if _is_array(one):
            have, found = _array(one), self._table(other)
            if found is None:
                found = _array(other) if _is_array(other) else np.asarray(other)
                if not _is_array(other) and not have.ndim:
                    found = found.astype(have.dtype)
            return (have.dtype, have.shape, have.tobytes()) == (found.dtype, found.shape, found.tobytes())
        if isinstance(one, slice) and isinstance(other, slice):
            return (one.start, one.stop, one.step) == (other.start, other.stop, other.step)
        return type(one) is type(other) and (one == other or one != one and other != other)

    def _table(self, value: Any) -> np.ndarray | None:
        made = made_by(value)
        return self.tables.get(made[0].name) if made and type(made[0]).__name__ == TABLE else None


def _args(one: Call) -> Any:
    """What stands in the brackets of a call; of an index one place and a list of one are the same, and what takes the
    axes that are left says nothing."""
    if type(one.operation).__name__ != "GetItem":
        return one.args
    x, key = one.args
    places = list(key) if isinstance(key, list | tuple) else [key]
    return x, places[:-1] if places[-1:] == [Ellipsis] else places


def _is_array(value: object) -> bool:
    return hasattr(value, "__array__") and not isinstance(value, keras.KerasTensor)


def _array(value: Any) -> np.ndarray:
    return np.asarray(value if isinstance(value, np.ndarray | np.generic) else to_numpy(value))


def _config(operation: Any) -> dict[str, Any]:
    """The settings of a layer or an operation, without names, and without what its variables begin with."""
    config: dict[str, Any] = _plain(operation.get_config())
    return config


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.get("module") == "keras.initializers":
            return "an initializer"
        return {name: _plain(part) for name, part in value.items() if name not in NAMES}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _apart(where: str, one: object, other: object) -> BridgeError:
    return InternalError(
        f"the source that was written makes another model: {where} has {short_message(ValueError(other))} where the "
        f"model has {short_message(ValueError(one))}; save() writes it as a .keras file"
    )
