"""The calls of a model, those of each torch module together: which modules become functions, and in which order."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TypeAlias

from bridge.source.expressions import Key, refs
from bridge.source.places import Path, Places
from bridge.source.reading import Unit

LEAST, LEAST_OF_TORCH = 3, 6  # lines of a function that is called once, and of one for a class of torch's own
LEAST_OF_ALL = 2  # likewise of one that is called often
CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")


@dataclass
class Module:
    """A call of a torch module: the lines of the function that it becomes."""

    path: Path
    kind: str  # its class
    lines: list[Line]
    is_optional: bool = False  # whether it is a function only if that makes the source shorter

    @property
    def height(self) -> int:
        return 1 + max((line.height for line in self.lines if isinstance(line, Module)), default=0)

    def units(self) -> Iterator[Unit]:
        for line in self.lines:
            yield from line.units() if isinstance(line, Module) else (line,)

    def modules(self) -> Iterator[Module]:
        """Those inside of it, and it."""
        for line in self.lines:
            if isinstance(line, Module):
                yield from line.modules()
        yield self


Line: TypeAlias = "Unit | Module"


def parted(units: Sequence[Unit], places: Places) -> Module:
    """The whole as a module: within it each call of another, unless that is too short for a function."""
    return Module((), places.class_of(()), _lines(list(units), (), places))


def _lines(units: list[Unit], path: Path, places: Places) -> list[Line]:
    """What is called in the module at `path`, where `units` are all that is in it."""
    parts = _parts(units, len(path))
    lines: list[Line] = []
    for place in _ordered(parts):
        name, inner = parts[place]
        if name is None:
            lines += inner
            continue
        below = (*path, name)
        kind = places.class_of(below)
        found = _lines(inner, below, places)
        if not kind or len(found) < LEAST_OF_ALL:
            lines += found
            continue
        least = LEAST_OF_TORCH if kind.startswith("torch.") else LEAST
        is_container = kind.rpartition(".")[2] in CONTAINERS
        lines.append(Module(below, kind, found, is_container or _count(found) < least))
    return lines


def _count(lines: Sequence[Line]) -> int:
    return sum(_count(line.lines) if isinstance(line, Module) and line.is_optional else 1 for line in lines)


Part: TypeAlias = "tuple[str | None, list[Unit]]"  # the name of a module below, and what is in it


def _parts(units: list[Unit], depth: int) -> list[Part]:
    """The units of one module together, unless others stand between them that need some and are needed by some: then
    as far as they come one after another."""
    names = [unit.path[depth] if len(unit.path) > depth else None for unit in units]
    labels: list[Hashable] = [(name,) if name is not None else number for number, name in enumerate(names)]
    torn, runs = _torn(units, labels), list(accumulate(a != b for a, b in pairwise([None, *labels])))
    apart = [
        (name, run) if label in torn else label for name, label, run in zip(names, labels, runs, strict=True)
    ]
    parts: dict[Hashable, Part] = {}
    for unit, name, label in zip(units, names, apart, strict=True):
        parts.setdefault(label, (name, []))[1].append(unit)
    return list(parts.values())


def _needs(units: Sequence[Unit], labels: Sequence[Hashable]) -> dict[Hashable, dict[Hashable, None]]:
    makers: dict[Key, Hashable] = {}
    for unit, label in zip(units, labels, strict=True):
        makers |= dict.fromkeys((key for key in unit.statement.targets if key is not None), label)
    needs: dict[Hashable, dict[Hashable, None]] = {label: {} for label in labels}
    for unit, label in zip(units, labels, strict=True):
        for key in refs(unit.statement):
            if key in makers and makers[key] != label:
                needs[label][makers[key]] = None
    return needs


def _torn(units: Sequence[Unit], labels: Sequence[Hashable]) -> set[Hashable]:
    """The labels that stand on a circle."""
    left = {label: set(needs) for label, needs in _needs(units, labels).items()}
    while free := [label for label, needs in left.items() if not needs & left.keys()]:
        for label in free:
            del left[label]
    needed = {label: {other for other in left if label in left[other]} for label in left}
    while free := [label for label, others in needed.items() if not others & needed.keys()]:
        for label in free:
            del needed[label]
    return {label for label in needed if isinstance(label, tuple)}


def _ordered(parts: Sequence[Part]) -> list[int]:
    """The places of the parts, each behind those that it needs, as near to it as they can be."""
    labels = [place for place, (_, units) in enumerate(parts) for _ in units]
    needs = _needs([unit for _, units in parts for unit in units], labels)
    order: dict[int, None] = {}
    for place in range(len(parts)):
        stack: list[tuple[int, bool]] = [(place, False)]
        while stack:
            now, is_ready = stack.pop()
            if now in order:
                continue
            if is_ready:
                order[now] = None
            else:
                stack += [(now, True), *((int(str(other)), False) for other in reversed(needs.get(now, {})))]
    return list(order)
