"""Which torch part fills which slot of Keras: by name, or in order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from bridge.errors import WeightsError
from bridge.handwritten.keras_slots import Slot, nearest
from bridge.handwritten.rules import letters
from bridge.handwritten.torch_parts import PROJECTIONS, Part, joined

Pair = tuple[Slot, Part]
DENSE = {"Dense", "EinsumDense"}


def matched(slots: Sequence[Slot], parts: Sequence[Part]) -> list[Pair]:
    """Every slot with its part, and every part with its slot. Raises `WeightsError` where they are not as many."""
    return _by_name(slots, parts) or _in_order(list(slots), list(parts))


def _by_name(slots: Sequence[Slot], parts: Sequence[Part]) -> list[Pair] | None:
    """Where every layer has the name of a torch path (`_` for `.`), or of one that parts lie below; else None."""
    units: dict[int, list[Slot]] = {}
    for slot in slots:
        units.setdefault(id(slot.unit), []).append(slot)
    left = {id(part): part for part in parts}
    pairs: list[Pair] = []
    for exact in (True, False):
        for key, unit in list(units.items()):
            found = [part for part in left.values() if _is_named(unit[0], part, exact)]
            if found:
                pairs += _in_order(units.pop(key), found)
                left = {id(part): part for part in left.values() if not _is_named(unit[0], part, exact)}
    return pairs if pairs and not units and not left else None


def _is_named(slot: Slot, part: Part, exact: bool) -> bool:
    path = part.path.replace(".", "_")
    return path in slot.names if exact else any(path.startswith(f"{name}_") for name in slot.names)


def _in_order(slots: list[Slot], parts: list[Part]) -> list[Pair]:
    """One after the other; linear layers whose outputs are packed in one are unpacked, or packed, for that."""
    pairs: list[Pair] = []
    slots, parts = list(slots), _as_attention_reads(slots, parts)
    if len(slots) != len(parts):
        slots, parts = _packed_alike(slots, parts)
    if len(slots) != len(parts):
        raise WeightsError(
            f"torch has {_listed([*map(str, parts)])}, Keras has {_listed([slot.name for slot in slots])}: "
            f"give as many Keras layers as torch has, or choose a part with prefix="
        )
    pairs += zip(slots, parts, strict=True)
    return pairs


def _listed(things: Sequence[str]) -> str:
    count = f"{len(things)} part{'s' if len(things) != 1 else ''} with weights"
    return f"{count} ({', '.join(things)})" if things else count


def _as_attention_reads(slots: Sequence[Slot], parts: Sequence[Part]) -> list[Part]:
    """The parts with the projections of an attention in Keras's order, where their names say which is which."""
    ordered = list(parts)
    for start, slot in enumerate(slots):
        three = ordered[start : start + 3]
        if slot.role == "query" and len(slots) == len(parts):
            named = {part.path.rpartition(".")[2][:1]: part for part in three}
            if named.keys() == {role[0] for role in PROJECTIONS}:
                ordered[start : start + 3] = [named[role[0]] for role in PROJECTIONS]
    return ordered


def _packed_alike(slots: Sequence[Slot], parts: Sequence[Part]) -> tuple[list[Slot], list[Part]]:
    """The parts cut or joined so that each has as many outputs as its slot, wherever dense layers allow it."""
    made: list[Part] = []
    left = list(parts)
    for slot in slots:
        if not left:
            break
        units, rows = _units(slot), _rows(left[0])
        if units and rows and rows > units:
            made.append(left[0].rows(0, units))
            left[0] = left[0].rows(units, rows)
        elif units and rows and rows < units:
            made.append(_joined_to(units, left))
        else:
            made.append(left.pop(0))
    made += left
    return (list(slots), made) if len(made) == len(slots) else (list(slots), list(parts))


def _joined_to(units: int, left: list[Part]) -> Part:
    """The first parts of `left`, which are taken away, as one with so many outputs; the first alone if none are."""
    ends = list(itertools.accumulate(_rows(part) for part in left))
    count = ends.index(units) + 1 if units in ends else 1
    alike = all(_rows(part) and part.weights.keys() == left[0].weights.keys() for part in left[:count])
    parts = left[: count if alike else 1]
    del left[: len(parts)]
    return joined(parts) if len(parts) > 1 else parts[0]


def _units(slot: Slot) -> int:
    """How many outputs a dense slot has; 0 for another."""
    kernel = getattr(slot.layer, "kernel", None)
    if nearest(slot.layer, DENSE) is None or kernel is None:
        return 0
    if hasattr(slot.layer, "units"):
        return int(slot.layer.units)
    _, of_kernel, made = letters(slot.layer.equation)
    return math.prod(size for axis, size in zip(of_kernel, kernel.shape, strict=True) if axis in made)


def _rows(part: Part) -> int:
    """How many outputs a linear part has; 0 for another."""
    weight = part.get("weight")
    linear = weight is not None and len(weight.dims) == 2 and part.weights.keys() <= {"weight", "bias"}
    return weight.dims[0] if weight is not None and linear else 0
