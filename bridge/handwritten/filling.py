"""What a Keras variable gets from torch in a transfer, and all that does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bridge.handwritten.flattened import Orders
from bridge.handwritten.keras_slots import Layer, Slot, described
from bridge.handwritten.kinds import KINDS, differences, kind_of, other_class, own_class
from bridge.handwritten.matching import Pair
from bridge.handwritten.settings import When
from bridge.handwritten.torch_parts import Part
from bridge.weights.entry import Entry, Variable
from bridge.weights.weight import Weight

NEUTRAL = {
    "bias": 0.0,
    "beta": 0.0,
    "depthwise_bias": 0.0,
    "gamma": 1.0,
    "scale": 1.0,
}  # what a missing one is


@dataclass
class Filling:
    """The variables with their weights. `problems` forbid it; `doubts` do too unless running both shows otherwise;
    `unknown` is not compared."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def assign(self) -> None:
        for entry in self.entries:
            entry.fill()


def filling(pairs: Sequence[Pair], orders: Mapping[int, Orders]) -> Filling:
    """`orders` are those of features that are not torch's, by the id of the unit."""
    found = Filling()
    met: set[int] = set()
    for slot, part in pairs:
        if _can_be_filled(slot, part, found):
            _compare(slot, part, found)
            met |= _fill(slot, part, orders.get(id(slot.unit), Orders()), found)
    for unit in {id(slot.unit): slot.unit for slot, _ in pairs}.values():
        left = [variable.name for variable in unit.weights if id(variable) not in met]
        if left and not found.problems:
            found.problems.append(f"{described(unit)} has {', '.join(left)}, for which torch has nothing")
    found.problems = list(dict.fromkeys(found.problems))
    found.doubts = list(dict.fromkeys(found.doubts))
    found.unknown = list(dict.fromkeys(found.unknown))
    return found


def _can_be_filled(slot: Slot, part: Part, found: Filling) -> bool:
    if kind_of(slot) is None:
        found.problems.append(
            f"{described(slot.layer)} is of a class that no rule fills from torch: give it its "
            "numbers with layer.set_weights, and transfer the layers around it by themselves"
        )
    elif not slot.layer.built:
        found.problems.append(f"{described(slot.unit)} is not built; call it once")
    elif other := other_class(slot, part):
        found.problems.append(f"{slot} does not compute what torch's {part} does ({other})")
    else:
        return True
    return False


def _compare(slot: Slot, part: Part, found: Filling) -> None:
    for when, said in differences(slot, part):
        (found.doubts if when is When.BY_ITSELF else found.problems).append(said)
    own = own_class(slot, part)
    if own:
        found.unknown.append(f"what {own} computes at {slot}")


def _fill(slot: Slot, part: Part, orders: Orders, found: Filling) -> set[int]:
    """Adds the variables of a slot with the weights that fit them; gives the ids of all that it has met."""
    kind = KINDS[str(kind_of(slot))]
    holding = kind.rule(slot.layer, part) if kind.rule else {}
    met = set()
    for path, weight in holding.items():
        variable = _variable(slot.layer, path)
        met.add(id(getattr(variable, "inner", variable)))
        problem = _misfit(slot, path, variable, weight, part)
        if problem:
            found.problems.append(problem)
        elif variable is not None and weight is not None:
            for order, axes in ((orders.read, kind.features), (orders.given, kind.outputs)):
                if order is not None and path in axes:
                    weight = order.apply(weight, axes[path])
                    found.unknown.append(f"whether torch counts channels first, as {slot} is filled")
            found.entries.append(Entry(variable, weight))
    used = {name for weight in holding.values() if weight is not None for name in weight.recipe.names}
    for weight in part.weights.values():
        if not used.issuperset(weight.recipe.names):
            found.problems.append(f"{slot} has no place for {_named(weight)}")
    return met


def _misfit(
    slot: Slot, path: str, variable: Variable | None, weight: Weight | None, part: Part
) -> str | None:
    """Why `weight` does not fill `variable`; None if it does, or if one alone changes nothing."""
    if variable is None and weight is None:
        return None
    if variable is not None and weight is not None:
        given = f": it gives {weight.dims}" if len(weight.dims) > 1 else ""
        fits = weight.dims == tuple(variable.shape)
        return None if fits else f"{_named(weight)} does not fit {_place(variable)}{given}"
    neutral = NEUTRAL.get(path)
    if neutral is not None and np.all(np.asarray(variable if weight is None else weight) == neutral):
        return None
    kept = "" if neutral is None else f", which is not all {neutral:g}"
    if variable is not None:
        return f"{part} has no weight for {_place(variable)}{kept}; it has {', '.join(part.weights)}"
    assert weight is not None
    return f"{slot} has no {path} for {_named(weight)}{kept}"


def _place(variable: Variable) -> str:
    return f"{variable.path} {tuple(variable.shape)}"


def _named(weight: Weight) -> str:
    return " and ".join(f"{name} {weight.state.values[name].shape}" for name in weight.recipe.names)


@dataclass(frozen=True)
class _Keras2Variable:
    """A variable of tf_keras, which has a name where Keras 3 has a path."""

    inner: Any

    @property
    def path(self) -> str:
        return str(self.inner.name).partition(":")[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.inner.shape)

    @property
    def trainable(self) -> bool:
        return bool(self.inner.trainable)

    def assign(self, value: np.ndarray) -> object:
        return self.inner.assign(np.asarray(value))  # of Keras 2 only an array may be of another type

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.inner.numpy(), dtype, copy=copy)


def _variable(layer: Layer, path: str) -> Variable | None:
    """The variable of `layer` by its name, or None where the layer was made without."""
    found = getattr(layer, path, None)
    return found if found is None or hasattr(found, "path") else _Keras2Variable(found)
