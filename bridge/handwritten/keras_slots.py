"""The Keras side of a transfer: places that one torch part fills each.

Classes are known by name, so that layers of `keras` and of `tf_keras` (Keras 2) are filled alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from bridge.errors import WeightsError

DEPTHWISE, POINTWISE = "depthwise", "pointwise"
SEPARABLE = ("SeparableConv1D", "SeparableConv2D")


class Layer(Protocol):
    """A layer of Keras 3 or of Keras 2 (`tf_keras`), which have no class in common. What one of its kind has besides is
    read by name."""

    name: str
    built: bool

    def __call__(self, *args: object, **kwargs: object) -> object: ...
    def get_config(self) -> dict[str, object]: ...
    def __getattr__(self, name: str, /) -> Any: ...


Target: TypeAlias = "Layer | Sequence[Target]"


@dataclass(frozen=True)
class Slot:
    """Variables that go together, in the layer that has them, and the layers around it that have settings too."""

    layer: Layer
    around: tuple[Layer, ...] = ()  # from the outside in
    role: str = ""  # which part of the outermost layer, where it has several: "reverse", "query"

    @property
    def unit(self) -> Layer:
        """The layer that a person wrote."""
        return self.around[0] if self.around else self.layer

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.unit.name, self.role)))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in (*self.around, self.layer))

    def __str__(self) -> str:
        return described(self.unit) + (f" ({self.role})" if self.role else "")


def layers_in_a_row(target: Target) -> Iterator[Layer]:
    """The layers and models of a sequence, and of those in it, in order."""
    for item in target if isinstance(target, Sequence) else ():
        yield from layers_in_a_row(item)
    if not isinstance(target, Sequence):
        yield target


def described(layer: Layer) -> str:
    return f"{type(layer).__name__} {layer.name!r}"


def nearest(thing: object, names: Iterable[str]) -> str | None:
    """The nearest of the classes of `thing` that has one of the names."""
    return next((cls.__name__ for cls in type(thing).__mro__ if cls.__name__ in names), None)


def slots_of(target: Target, around: tuple[Layer, ...] = (), role: str = "") -> Iterator[Slot]:
    """What is to be filled in a layer, a model or a sequence of them, in order.

    Raises `WeightsError` for what is none of them.
    """
    if isinstance(target, Sequence):
        for item in target:
            yield from slots_of(item)
    elif nearest(target, {"Model"}):
        yield from slots_of(list(target.layers))
    elif not hasattr(target, "weights"):
        raise WeightsError(
            f"cannot fill a {type(target).__name__}; give a Keras layer or model, or a list of them"
        )
    elif inner := _inner(target):
        for layer, part in inner:
            yield from slots_of(layer, (*around, target), part or role)
    elif nearest(target, SEPARABLE):
        yield Slot(target, around, DEPTHWISE)
        yield Slot(target, around, POINTWISE)
    elif target.weights or not target.built:
        yield Slot(target, around, role)


def _inner(layer: Layer) -> list[tuple[Layer, str]]:
    """The layers that hold the variables of `layer`, with their roles in it; none for one that holds them itself."""
    if nearest(layer, {"TimeDistributed"}):
        return [(layer.layer, "")]
    if nearest(layer, {"Bidirectional"}):
        return [(layer.forward_layer, ""), (layer.backward_layer, "reverse")]
    if nearest(layer, {"MultiHeadAttention"}) and getattr(layer, "query_dense", None) is not None:
        roles = ("query", "key", "value", "output")
        return [(getattr(layer, f"{role}_dense"), role) for role in roles]
    cell = getattr(layer, "cell", layer)
    cells = getattr(cell, "cells", [] if cell is layer else [cell])
    return [(one, "") for one in cells if hasattr(one, "weights")]  # cuDNN's is none
