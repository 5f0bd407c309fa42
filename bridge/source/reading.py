"""A Keras model as its calls: what each reads and gives, which layer it is of, and in which torch module it stands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import keras
import numpy as np

from bridge.errors import Refusal, UnsupportedError
from bridge.keras_compat import Call, all_layers, ends, made_by, to_numpy
from bridge.layers import Shared
from bridge.source import constants
from bridge.source.calls import (
    SCALARS,
    are_plain,
    behind,
    bound,
    in_order,
    is_default,
    is_operation,
    lists,
    may_be_a_number,
    said,
)
from bridge.source.expressions import Expression, Key, Literal, Nested, Node, Ref, Statement, call, refs
from bridge.source.heads import OPERATORS, free, identifier, needed, of_operation, parameters, snake
from bridge.source.layers import Construction
from bridge.source.places import WEIGHT, Path, Places, common, plain

LISTING = ("Split", "Unstack", "ArraySplit")  # operations that give a list, of one tensor too
TABLE = "Table"
ZERO = [
    "ops.reshape",
    "ops.cast",
    "ops.sum",
    "ops.zeros_like",
    "item",
]  # from its end, what makes a zero of an input


@dataclass
class Unit:
    """A statement, and the torch module in which it stands."""

    path: Path
    statement: Statement


@dataclass
class Graph:
    """A model as the body of the function that makes it, `outside` being the layers that it is given."""

    name: str
    model: str  # as Keras calls it
    units: list[Unit]
    inputs: Expression
    outputs: Expression
    outside: list[Key] = field(default_factory=list)


class Reader:
    """Reads a model and those inside of its layers."""

    def __init__(self, model: keras.Model, places: Places, comments: Mapping[str, str]):
        self.places, self.comments, self.name = places, comments, ""
        self.graphs: list[Graph] = []  # those inside first
        self.tables: dict[str, np.ndarray] = {}  # by the name of the layer that holds them
        self._keys: dict[int, int] = {}
        self._held: list[object] = []  # so that no other gets their ids
        everywhere = [model, *(layer for layer in all_layers(model) if isinstance(layer, keras.Model))]
        self._calls = {id(one): list(in_order(one)) for one in everywhere}
        every = [one for found in self._calls.values() for one in found]
        self._uses = Counter(id(behind(one.operation)) for one in every)
        self._shares = {id(one.operation.layer) for one in every if isinstance(one.operation, Shared)}
        kinds = {snake(type(one.operation).__name__) for one in every if is_operation(one.operation)}
        self.taken = re.compile(rf"({'|'.join(map(re.escape, sorted(kinds)))})(_\d+)?") if kinds else None
        self.construct = Construction(self)

    # --- what layers are called -------------------------------------------------------------------------------

    def layer_name(self, name: str) -> str:
        """Of a layer; another where Keras may give it to an operation by itself, since names are had once."""
        return f"{name}_layer" if self.taken is not None and self.taken.fullmatch(name) else name

    def key(self, tensor: object) -> Key:
        self._held.append(tensor)
        return self._keys.setdefault(id(tensor), len(self._keys))

    # --- a model ----------------------------------------------------------------------------------------------

    def read(self, model: keras.Model, name: str) -> Graph:
        self.name = self.name or name
        graph = _Reading(self, model).graph(name)
        self.graphs.append(graph)
        return graph

    def inner(self, model: keras.Model, name: str) -> Node:
        """The call of the function that makes a model inside of a layer."""
        taken = {graph.name for graph in self.graphs} | {self.name}
        graph = self.read(model, free(identifier(name), taken))
        return call(f"build_{graph.name}", *map(Ref, graph.outside))

    def is_named(self, layer: object) -> bool:
        """Whether a layer is called more than once, so that it needs a name."""
        return self._uses[id(layer)] > 1 or id(layer) in self._shares

    def calls_in(self, model: keras.Model) -> list[Call]:
        return self._calls[id(model)]


class _Reading:
    """One model, while it is read."""

    def __init__(self, reader: Reader, model: keras.Model):
        self.reader, self.model = reader, model
        self.units: list[Unit] = []
        self.tables: dict[tuple[str, tuple[int, ...], bytes], tuple[str, list[Path]]] = {}
        self.named: dict[str, tuple[Any, list[Path]]] = {}
        self.path: Path = ()

    def graph(self, name: str) -> Graph:
        for one in self.reader.calls_in(self.model):
            self.path = self.reader.places.of(one.operation)
            self.units.append(Unit(self.path, self._statement(one)))
        self._mark_weights()
        first = [self._input(x) for x in self.model.inputs]
        made = [self._layer_made(layer, paths) for layer, paths in self.named.values()]
        units = [*first, *made, *self._tables_made(), *self.units]
        given, got = ends(self.model)
        own = {key for unit in units for key in unit.statement.targets}
        outside = dict.fromkeys(key for unit in units for key in refs(unit.statement) if key not in own)
        return Graph(
            name, self.model.name, units, self.expression(given), self.expression(got), list(outside)
        )

    def _mark_weights(self) -> None:
        """Have what gives a weight by itself, the one row of an Embedding at a zero, in a module of its own."""
        makers = {key: unit for unit in self.units for key in unit.statement.targets}
        readers: dict[Key, list[Unit]] = {}
        for unit in self.units:
            for key in refs(unit.statement):
                readers.setdefault(key, []).append(unit)
        for unit in self.units:
            if (name := _row(unit.statement.value)) is None:
                continue
            chain, (key,) = [unit], [*refs(unit.statement)][-1:]
            while key in makers and len(readers[key]) == 1 and len(chain) < len(ZERO) + 1:
                chain.append(makers[key])
                key = next(refs(makers[key].statement))
            after = readers.get(unit.statement.targets[0], [])
            if [_head(one) for one in chain[1:]] == ZERO and [_head(one) for one in after] == ["ops.reshape"]:
                for one in (*chain, *after):
                    one.path = (*unit.path, f"{WEIGHT} {name}")

    def _input(self, x: keras.KerasTensor) -> Unit:
        batch, *shape = x.shape if x.shape else (None,)
        settings = {"shape": tuple(shape)} if batch is None and x.shape else {"batch_shape": tuple(x.shape)}
        if x.dtype != "float32":
            settings["dtype"] = x.dtype
        operation, _ = made_by(x) or (x, 0)
        name = {"name": self.reader.layer_name(operation.name)}
        value = call("keras.Input", **{k: Literal(v) for k, v in (settings | name).items()})
        return Unit((), Statement((self.reader.key(x),), value, operation.name))

    def _layer_made(self, layer: keras.layers.Layer, paths: list[Path]) -> Unit:
        value = self.reader.construct.layer(layer)
        comment = self.reader.comments.get(layer.name, "")
        hint = re.sub(r"(_\d+)+$", "", layer.name)
        return Unit(common(paths), Statement((("layer", layer.name),), value, hint, comment))

    # --- a call -----------------------------------------------------------------------------------------------

    def _statement(self, one: Call) -> Statement:
        operation = one.operation
        if is_operation(operation):
            value, comment = self._operation(one), ""
        else:
            value, comment = self._applied(one)
        targets = tuple(self.reader.key(x) for x in one.gives)
        hint = self.path[-1] if self.path and not is_operation(operation) else ""
        return Statement(targets, value, hint, comment, self._nested(one))

    def _nested(self, one: Call) -> Nested:
        """The lists in which an operation gives its tensors, if it is not known to give them in one."""
        kind = type(one.operation)
        is_cell = hasattr(kind, "state_size") or hasattr(one.operation, "state_size")
        if not (is_cell or kind.__name__ in LISTING or kind.__module__.startswith("bridge.")):
            return None
        given = one.operation.compute_output_spec(*one.args, **one.kwargs)
        if isinstance(given, keras.KerasTensor) or isinstance(one.operation, keras.layers.RNN):
            return None
        places = count()
        return lists(keras.tree.map_structure(lambda _: next(places), given))

    def _applied(self, one: Call) -> tuple[Node, str]:
        layer = one.operation
        settings = {name: self.expression(value) for name, value in said(one).items()}
        comment = ""
        if self.reader.is_named(layer):
            self.named.setdefault(layer.name, (layer, []))[1].append(self.path)
            head: Expression = Ref(("layer", layer.name))
        else:
            head = self.reader.construct.layer(layer)
            comment = self.reader.comments.get(layer.name, "")
        parts = [self.expression(value) for value in one.args]
        return Node("apply", "", (head, *parts), tuple(settings.items())), comment

    def _operation(self, one: Call) -> Node:
        head = of_operation(one.operation)
        given = self._given(one, head)
        kind = type(one.operation).__name__
        values = {name: self.expression(value, one) for name, value in given.items()}
        if kind == "GetItem":
            return Node("item", "", tuple(values.values()))
        if kind == "Negative":
            return Node("operator", "-", tuple(values.values()))
        if kind in OPERATORS and are_plain(*values.values()):
            return Node("operator", OPERATORS[kind], tuple(values.values()))
        known, spoken = parameters(head), bound(one)
        if "operands" in values and kind == "Einsum":
            operands = [self.expression(value, one) for value in given["operands"]]
            return Node("call", head, (values["subscripts"], *operands))
        parts: list[Expression] = []
        for name in known:
            is_spoken = name in spoken and not is_default(values.get(name), known[name])
            if name not in values or not (is_spoken or name in needed(head)):
                break
            parts.append(values.pop(name))
        kept = {name: value for name, value in values.items() if not is_default(value, known[name])}
        return Node("call", head, tuple(parts), tuple(kept.items()))

    def _given(self, one: Call, head: str) -> dict[str, Any]:
        """What the function of an operation is given: what that was made with, and what it was called on."""
        operation = one.operation
        if type(operation).__name__ == "GetItem":
            return bound(one)
        try:
            config = operation.get_config() if head else {}
        except NotImplementedError:
            raise self.refused(operation, "Keras does not say what it was made with") from None
        own = {name: value for name, value in config.items() if name not in ("name", "dtype")}
        given = {**bound(one), **own}
        if "dtype" in config and "dtype" in parameters(head):
            given["dtype"] = config["dtype"]
        if not head or not given.keys() <= parameters(head).keys():
            raise self.refused(operation, "keras.ops has no function for it")
        return {name: given[name] for name in parameters(head) if name in given}

    def refused(self, operation: Any, reason: str) -> UnsupportedError:
        way = "save() writes the model as a .keras file"
        where = ".".join(self.path)
        return UnsupportedError(
            [
                Refusal(
                    type(operation).__name__,
                    where,
                    f"{reason}, so that it is no source; {way}",
                    operation.name,
                )
            ]
        )

    # --- values -----------------------------------------------------------------------------------------------

    def expression(self, value: Any, one: Call | None = None) -> Expression:
        if isinstance(value, keras.KerasTensor):
            return Ref(self.reader.key(value))
        if isinstance(value, SCALARS):
            return Literal(value)
        if isinstance(value, slice):
            return Node("slice", "", tuple(Literal(part) for part in (value.start, value.stop, value.step)))
        if isinstance(value, list | tuple):
            parts = tuple(self.expression(part, one) for part in value)
            if all(isinstance(part, Literal) for part in parts):
                return Literal(tuple(part.value for part in parts if isinstance(part, Literal)))
            return Node("list" if isinstance(value, list) else "tuple", "", parts)
        if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
            return Node("dict", tuple(value), tuple(self.expression(part, one) for part in value.values()))
        if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
            array = value if isinstance(value, np.ndarray | np.generic) else to_numpy(value)
            return self._constant(np.asarray(array), one)
        raise self.refused(one.operation if one else self.model, f"nobody writes a {type(value).__name__}")

    def _constant(self, array: np.ndarray, one: Call | None) -> Expression:
        if array.ndim == 0 and one is not None and may_be_a_number(array, one):
            return constants.number(array)
        written = None if array.dtype.kind == "V" else constants.written(array)
        if written is not None:
            return written
        known = (array.dtype.name, array.shape, array.tobytes())
        if known not in self.tables:
            name = self._table_name()
            self.reader.tables[name], self.tables[known] = array, (name, [])
        name, paths = self.tables[known]
        paths.append(self.path)
        return Ref(("table", name))

    def _table_name(self) -> str:
        base = plain("_".join([*self.path, "table"]))
        return free(base, {layer.name for layer in all_layers(self.model)} | self.reader.tables.keys())

    def _tables_made(self) -> Iterator[Unit]:
        """A layer for each table, called on the first input, since Keras counts what depends on one."""
        for (dtype, shape, _), (name, paths) in self.tables.items():
            made = call(TABLE, Literal(shape), Literal(dtype), name=Literal(name))
            value = Node("apply", "", (made, Ref(self.reader.key(self.model.inputs[0]))))
            yield Unit(common(paths), Statement((("table", name),), value, "table"))


def _head(unit: Unit) -> str:
    value = unit.statement.value
    return str(value.head or value.form) if isinstance(value, Node) else ""


def _row(value: Expression) -> str | None:
    """The name of an Embedding with one row, if it is a call of one."""
    made = value.parts[0] if isinstance(value, Node) and value.form == "apply" else None
    if not isinstance(made, Node) or made.head != "layers.Embedding":
        return None
    settings = dict(made.settings)
    name = settings.get("name")
    is_row = settings.get("input_dim") == Literal(1) and isinstance(name, Literal)
    return str(name.value) if is_row and isinstance(name, Literal) else None
