"""The first part at which the two sides of a transfer differ, where they do as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bridge.errors import NotRun
from bridge.handwritten.keras_slots import Layer, described
from bridge.handwritten.matching import Pair
from bridge.handwritten.running import Keras, Sides
from bridge.handwritten.torch_parts import Part

SHOWN = 6  # names of parts in a sentence


@dataclass(frozen=True)
class Departure:
    """What the parts do by themselves, each on what torch gives it, in the order in which torch calls them."""

    part: str = ""  # in words, the first that differs from its Keras layer
    agreeing: tuple[str, ...] = ()  # those before it

    def __str__(self) -> str:
        if self.part or not self.agreeing:
            return self.part
        order = ", ".join(self.agreeing[:SHOWN]) + (", …" if len(self.agreeing) > SHOWN else "")
        return (
            f"each part by itself agrees, so what stands between or behind them differs; torch calls {order}"
        )


def departure(sides: Sides, pairs: Sequence[Pair]) -> Departure:
    """Of the parts that run by themselves in both."""
    alone = _alone(pairs)
    layers = {id(part.module): (layer, str(replace(part, role=""))) for part, layer in alone}
    try:
        calls = sides.calls([part.module for part, _ in alone if part.module is not None])
    except NotRun:
        return Departure()
    agreeing: list[str] = []
    for module, arguments in calls:
        layer, name = layers[id(module)]
        try:
            comparison = Sides(module, Keras(layer), arguments).compared()
        except NotRun:
            continue
        if not comparison.agrees:
            text = f"the first part that differs is torch's {name} in {described(layer)}: {comparison}"
            return Departure(text, tuple(agreeing))
        agreeing.append(name)
    return Departure("", tuple(agreeing))


def _alone(pairs: Sequence[Pair]) -> list[tuple[Part, Layer]]:
    """The modules that are one layer in Keras, with that: the first part of each."""
    modules: dict[int, list[Pair]] = {}
    units: dict[int, list[Pair]] = {}
    for slot, part in pairs:
        modules.setdefault(id(part.module), []).append((slot, part))
        units.setdefault(id(slot.unit), []).append((slot, part))
    firsts = [(own[0][1], own[0][0].unit, own) for own in modules.values()]
    return [(part, unit) for part, unit, own in firsts if part.module is not None and own == units[id(unit)]]
