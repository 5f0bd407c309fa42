"""A layer as the call that makes it, with the layers and models that are its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import keras

from bridge.build.as_code import settings
from bridge.errors import Refusal, UnsupportedError
from bridge.layers import Shared
from bridge.source.expressions import Expression, Literal, Node, Ref, call
from bridge.source.heads import ALIKE, EMPTY, alike, class_named, default_of, of_layer
from bridge.source.places import Places


class Reader(Protocol):
    """What is known of the whole model."""

    @property
    def places(self) -> Places: ...
    def layer_name(self, name: str) -> str: ...
    def inner(self, model: keras.Model, name: str) -> Node: ...


class Construction:
    """The calls that make the layers of a model."""

    def __init__(self, reader: Reader):
        self.reader = reader

    def layer(self, layer: Any) -> Node:
        if isinstance(layer, keras.Model):
            return self.reader.inner(layer, layer.name)
        kind = type(layer)
        head = self._head(kind, layer.name)
        made: dict[str, Expression] = {}
        if kind is Shared:
            made["layer"] = Ref(("layer", layer.layer.name))
        else:
            made |= self._settings(kind, layer.get_config(), layer)
        made["name"] = Literal(self.reader.layer_name(layer.name))
        return call(head, **made)

    def _head(self, kind: type, name: str) -> str:
        if head := of_layer(kind):
            return head
        reason = "is no layer of Keras's and none of bridge's, so that it is no source; save() writes a .keras file"
        where = ".".join(self.reader.places.by_name.get(name, ()))
        raise UnsupportedError([Refusal(kind.__name__, where, reason, name)])

    def _settings(self, kind: type, config: Mapping[str, Any], layer: Any = None) -> dict[str, Expression]:
        wanted = settings(kind, config)
        if kind is keras.layers.Bidirectional and _mirrored(config):
            wanted.pop("backward_layer", None)
        head = of_layer(kind)
        made = {
            name: self._setting(name, value, layer)
            for name, value in wanted.items()
            if value not in (None, False) or default_of(head, name) is not EMPTY
        }
        if not config.get("trainable", True):
            made["trainable"] = Literal(False)
        policy = config.get("dtype")
        policy = policy["config"].get("name") if isinstance(policy, Mapping) else policy
        if policy not in (None, "float32"):
            made["dtype"] = Literal(policy)
        return made

    def _setting(self, name: str, value: Any, layer: Any) -> Expression:
        if isinstance(value, Mapping) and "class_name" in value:
            found = getattr(layer, name, None)
            if isinstance(found, keras.Model):
                return self.reader.inner(found, f"{layer.name}_{name}")
            kind = class_named(str(value["class_name"]))
            if kind is None:
                raise UnsupportedError(
                    [
                        Refusal(
                            str(value["class_name"]), "", f"as {name} is nothing that one writes", str(layer)
                        )
                    ]
                )
            return call(of_layer(kind), **self._settings(kind, value["config"]))
        if isinstance(value, list | tuple):
            if any(isinstance(part, Mapping) for part in value):
                return Node("list", "", tuple(self._setting("", part, None) for part in value))
            return Literal(alike(_tuple(value)) if name in ALIKE else _tuple(value))
        return Literal(value)


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list | tuple) else value


def _mirrored(config: Mapping[str, Any]) -> bool:
    """Whether the layer that goes back is the one that goes forth, turned round."""
    forth, back = ({**config[side]["config"], "name": ""} for side in ("layer", "backward_layer"))
    return {**forth, "go_backwards": not forth["go_backwards"]} == back
