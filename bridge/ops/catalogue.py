"""The table of operators, read from the registry and from the code of the builders."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras

from bridge.ops.registry import builders


@dataclass(frozen=True)
class Entry:
    """An ONNX operator: what its builder does with the order of axes, and the Keras layers it may become."""

    family: str
    domain: str
    operator: str
    layout: str
    becomes: tuple[str, ...]


def catalogue() -> list[Entry]:
    return [
        Entry(
            builder.family.rpartition(".")[2],
            builder.domain or "ai.onnx",
            builder.op_type,
            builder.layout.value,
            becomes(builder.op_type, builder.function),
        )
        for builder in builders()
    ]


def becomes(op: str, function: Callable[..., Any]) -> tuple[str, ...]:
    """The layers that the builder names, and those in what it calls; plain operations where there are none.

    Of what it calls, a builder that names layers itself takes only tables of layers by rank or operator.
    """
    direct = [layer for layer, _ in _layers(op, function)]
    called = [layer for layer, in_table in _called(op, function, {function}) if in_table or not direct]
    return tuple(dict.fromkeys(layer.__name__ for layer in direct + called)) or ("keras.ops",)


def _layers(op: str, function: Any) -> Iterator[tuple[type, bool]]:
    for value, in_table in _values(op, function):
        if (
            isinstance(value, type)
            and issubclass(value, keras.layers.Layer)
            and value is not keras.layers.Layer
        ):
            yield value, in_table


def _called(op: str, function: Any, seen: set[Any]) -> Iterator[tuple[type, bool]]:
    for value, _ in _values(op, function):
        if (
            isinstance(value, types.FunctionType)
            and value.__module__ == function.__module__
            and value not in seen
        ):
            seen.add(value)
            yield from _layers(op, value)
            yield from _called(op, value, seen)


def _values(op: str, function: Any) -> Iterator[tuple[Any, bool]]:
    """What the names in the code stand for, and whether it stands in a table.

    Of a table by operator only the lines of this one are taken.
    """
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    closed = dict(zip(function.__code__.co_freevars, cells, strict=True))
    for name in _names(function.__code__):
        found = closed.get(name, function.__globals__.get(name, getattr(keras.layers, name, None)))
        table = found if isinstance(found, dict) else {}
        lines = [line for key, line in table.items() if not isinstance(key, str) or key in op] or [found]
        for line in lines:
            for value in line if isinstance(line, tuple) else [line]:
                yield value, bool(table)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
