"""Modules as functions: calls of equal modules are calls of one function, and what differs are its parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bridge.source.expressions import (
    Apart,
    Body,
    Expression,
    Key,
    Literal,
    Loop,
    Name,
    Node,
    Ref,
    Statement,
    call,
    pattern,
    refs,
    renamed,
    signature,
)
from bridge.source.heads import free, identifier, snake
from bridge.source.loops import Default, alike, default_literal, folded, joined
from bridge.source.modules import CONTAINERS, Module, parted
from bridge.source.places import WEIGHT, Path, Places, plain
from bridge.source.reading import Graph

HEAD = 4  # lines around a function
SIZES = ("filters", "units", "input_dim", "output_dim")  # settings that are a size of the network
LEAST_SAVED = 3  # lines, for the sake of which there is one


@dataclass(frozen=True)
class Function:
    """`def name(inputs, parameters)`: what it does, and what it returns."""

    name: str
    inputs: tuple[Key, ...]
    parameters: tuple[str, ...]
    body: Body
    outputs: Expression
    kind: str = ""  # the torch class
    hints: tuple[str, ...] = ()  # of names for the inputs
    defaults: dict[str, Literal] = field(default_factory=dict)  # of parameters


@dataclass
class _Call:
    """One call of a module: the lines of it, with what goes in and out."""

    module: Module
    inputs: tuple[Key, ...]
    outputs: tuple[Key, ...]
    body: Body  # in keys that are alike in equal calls

    def pattern(self) -> Hashable:
        return self.module.kind, len(self.inputs), self.outputs_in_body(), signature(self.body)

    def outputs_in_body(self) -> tuple[Key, ...]:
        names = _plain_keys(self.inputs, self.body_as_is)
        return tuple(names[key] for key in self.outputs)

    body_as_is: Body = field(default=(), repr=False)


class Functions:
    """The functions of one source, and the names that are had."""

    def __init__(self, places: Places, graphs: Sequence[Graph]):
        self.places = places
        self.made: list[Function] = []
        self.defaults: dict[str, dict[str, Literal]] = {}  # of the parameters of functions
        self._names = {f"build_{graph.name}" for graph in graphs}
        for graph in graphs:
            self._add(graph)

    def _add(self, graph: Graph) -> None:
        """The function that makes a model, behind those that it calls."""
        whole = parted(graph.units, self.places)
        wanted = set(refs(graph.outputs))
        made: dict[int, Body] = {}
        modules = [module for module in whole.modules() if module is not whole]
        uses = _Uses(graph)
        for height in range(1, whole.height):
            level = [module for module in modules if module.height == height]
            self._level([_call_of(module, uses, made, self.default) for module in level], made, uses)
        body = folded(_statements(whole, made), frozenset({*wanted, *refs(graph.inputs)}), self.default)
        name = Literal(graph.model)
        model = call("keras.Model", graph.inputs, graph.outputs, name=name)
        kind = whole.kind if not graph.outside else ""
        outside = tuple(graph.outside)
        hints = tuple(uses.hint([key]) for key in outside)
        body = _used(body, wanted | set(refs(graph.inputs)))
        self.made.append(Function(f"build_{graph.name}", outside, (), body, model, kind, hints))

    def _level(self, calls: Sequence[_Call], made: dict[int, Body], uses: _Uses) -> None:
        alike: dict[Hashable, list[_Call]] = {}
        for one in calls:
            alike.setdefault(one.pattern(), []).append(one)
        for group in alike.values():
            if group[0].module.is_optional and _saved(group) < LEAST_SAVED:
                made |= {id(one.module): _statements(one.module, made) for one in group}
                continue
            try:
                self._function(group, made, uses)
            except Apart:
                for one in group:
                    self._function([one], made, uses)

    def _function(self, group: Sequence[_Call], made: dict[int, Body], uses: _Uses) -> None:
        """One function for calls that are alike, and their calls of it."""
        first = group[0]
        settings = _Parameters([_prefix(one.module.path) for one in group], _names_in(first.body))
        lines = zip(*(one.body for one in group), strict=True)
        body = tuple(pattern(same, settings.solve, self.default) for same in lines)
        name = self._name([one.module for one in group])
        names = _plain_keys(first.inputs, first.body_as_is)
        outputs = [Ref(names[key]) for key in first.outputs]
        result: Expression = outputs[0] if len(outputs) == 1 else Node("tuple", "", tuple(outputs))
        inputs = tuple(names[key] for key in first.inputs)
        parameters, defaults = settings.names(), settings.defaults()
        hints = tuple(uses.hint(keys) for keys in zip(*(one.inputs for one in group), strict=True))
        if hints and not isinstance(first.inputs[0], tuple):
            hints = ("x", *hints[1:])
        kind = first.module.kind
        self.made.append(Function(name, inputs, parameters, body, result, kind, hints, defaults))
        self.defaults[name] = defaults
        for place, one in enumerate(group):
            given = {key: Literal(settings.value(key, place)) for key in parameters}
            given = {key: value for key, value in given.items() if defaults.get(key) != value}
            value = call(name, *map(Ref, one.inputs), **given)
            made[id(one.module)] = (Statement(one.outputs, value, _hint(one.module.path)),)

    def default(self, node: Node, setting: str) -> Expression:
        """What a setting is that a call does not have."""
        known = self.defaults.get(str(node.head), {}).get(setting)
        return known if known is not None else default_literal(node, setting)

    def _name(self, modules: Sequence[Module]) -> str:
        """After the class; of a container, which says nothing, after what it is called if that is the same in all."""
        named = {_own_name(module.path) for module in modules}
        kind = modules[0].kind.rpartition(".")[2]
        is_said = kind in CONTAINERS and len(named) == 1
        name = free(f"build_{snake(next(iter(named)) if is_said else kind) or 'module'}", self._names)
        self._names.add(name)
        return name


def _own_name(path: Path) -> str:
    """The last name in a path that is no number."""
    return next((plain(name) for name in reversed(path) if not name.isdigit()), "")


def _saved(group: Sequence[_Call]) -> int:
    """How many lines a function saves: it has them once, with a head, and is called once for each."""
    length = len(group[0].body)
    return (len(group) - 1) * length - len(group) - HEAD


def _prefix(path: Path) -> str:
    """What the names of the layers in a module begin with."""
    return (
        plain("_".join(path))
        if not path[-1].startswith(f"{WEIGHT} ")
        else path[-1].removeprefix(f"{WEIGHT} ")
    )


def _hint(path: Path) -> str:
    """A name for what a module gives: its own, of a weight that within the module around it."""
    if path[-1].startswith("limits_of_"):
        return ""
    around = plain("_".join(path[:-1]))
    return _prefix(path).removeprefix(f"{around}_") if path[-1].startswith(f"{WEIGHT} ") else path[-1]


class _Uses:
    """Which units of a graph read a key."""

    def __init__(self, graph: Graph):
        self.readers: dict[Key, set[int]] = {}
        for unit in graph.units:
            for key in refs(unit.statement):
                self.readers.setdefault(key, set()).add(id(unit))
        for key in (*refs(graph.outputs), *refs(graph.inputs)):
            self.readers.setdefault(key, set()).add(0)
        self.hints = {
            key: unit.statement.hint
            for unit in graph.units
            for key in unit.statement.targets
            if isinstance(unit.statement.value, Node) and unit.statement.value.head == "keras.Input"
        }

    def hint(self, keys: Sequence[Key]) -> str:
        """A name for what goes into a function: that of a layer or an input, if it is the same in every call."""
        names = {key[1] if isinstance(key, tuple) else self.hints.get(key, "x") for key in keys}
        return str(names.pop()) if len(names) == 1 else "x"


def _call_of(module: Module, uses: _Uses, made: dict[int, Body], default: Default) -> _Call:
    body = _statements(module, made)
    own = {id(unit) for unit in module.units()}
    given = [key for line in body for key in line.targets if key is not None]
    outputs = tuple(key for key in given if uses.readers.get(key, set()) - own)
    inside = set(given)
    inputs = tuple(dict.fromkeys(key for line in body for key in refs(line) if key not in inside))
    body = _used(folded(body, frozenset(outputs), default), set(outputs))
    names = _plain_keys(inputs, body)
    return _Call(module, inputs, outputs, tuple(renamed(line, names.__getitem__) for line in body), body)


def _statements(module: Module, made: dict[int, Body]) -> Body:
    lines = (made[id(line)] if isinstance(line, Module) else (line.statement,) for line in module.lines)
    return tuple(statement for found in lines for statement in found)


def _used(body: Body, wanted: set[Key]) -> Body:
    """`body` without targets that nobody reads."""
    read = {key for line in _all_lines(body) for key in refs(line)} | wanted
    return tuple(_without(line, read) for line in body)


def _without(line: Any, read: set[Key]) -> Any:
    if isinstance(line, Loop):
        kept = read | {value.then for value in line.carried}
        return replace(line, body=tuple(_without(inner, kept) for inner in line.body))
    return replace(line, targets=tuple(key if key in read else None for key in line.targets))


def _all_lines(body: Body) -> Iterator[Statement | Loop]:
    for line in body:
        yield line
        if isinstance(line, Loop):
            yield from _all_lines(line.body)


def _plain_keys(inputs: Sequence[Key], body: Body) -> dict[Key, Key]:
    """Keys that are numbered: what goes in, then what is made."""
    keys: dict[Key, None] = dict.fromkeys(inputs)

    def see(key: Key) -> Key:
        keys.setdefault(key)
        return key

    for line in body:
        renamed(line, see)
    return {key: number for number, key in enumerate(keys)}


def _names_in(whole: Any) -> set[str]:
    """The names of variables of loops."""
    if isinstance(whole, tuple):
        return {name for part in whole for name in _names_in(part)}
    if isinstance(whole, Loop):
        return {whole.index, *whole.columns} | _names_in(whole.body)
    return set()


class _Parameters:
    """What differs between calls of one function: the module's path, and values by the settings that they are of."""

    def __init__(self, paths: Sequence[str], taken: set[str]):
        self.paths, self.taken = paths, taken | {"name", "x"}
        self.columns: dict[str, list[Any]] = {}
        self.is_named = False

    def names(self) -> tuple[str, ...]:
        """Those without a default first."""
        usual = self.defaults()
        needed = [name for name in self.columns if name not in usual]
        return (*(["name"] if self.is_named else []), *needed, *usual)

    def defaults(self) -> dict[str, Literal]:
        """Of each that is one value in most calls, that."""
        counts = {
            name: Counter(map(Literal, column)).most_common(1)[0] for name, column in self.columns.items()
        }
        return {name: value for name, (value, times) in counts.items() if 2 * times > len(self.paths)}

    def value(self, name: str, place: int) -> Any:
        return self.paths[place] if name == "name" else self.columns[name][place]

    def solve(self, values: Sequence[Any], hint: str) -> Expression:
        if all(type(value) is str for value in values) and all(self.paths):
            ends = {
                value[len(path) :] if value.startswith(path) else None
                for value, path in zip(values, self.paths, strict=True)
            }
            end = next(iter(ends))
            if len(ends) == 1 and end is not None:
                self.is_named = True
                return joined([Name("name"), Literal(end)]) if end else Name("name")
        for name, column in self.columns.items():
            if alike(column, values):
                return Name(name)
        name = free(identifier(hint or "value"), self.taken)
        self.taken.add(name)
        self.columns[name] = list(values)
        return Name(name)
