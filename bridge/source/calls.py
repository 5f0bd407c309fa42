"""The calls of a model: in which order, and what each is given."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from bridge.keras_compat import Call, call_of, calls, made_by
from bridge.layers import Shared
from bridge.source.expressions import Expression, Literal, Nested, Node, Ref

UNSAID = {"training": (None, False), "mask": (None,)}  # of a layer's call, what it is without a word
SCALARS = (str, int, float, bool, type(None), type(Ellipsis))


def lists(given: Any) -> Nested:
    return tuple(map(lists, given)) if isinstance(given, list | tuple) else given


def in_order(model: keras.Model) -> Iterator[Call]:
    """The calls of a model, each behind those that it reads: what is read first comes first."""
    known = {id(x) for one in calls(model) for x in one.gives}
    done: set[tuple[int, int]] = set()
    for output in model.outputs:
        stack = [(output, False)]
        while stack:
            x, is_ready = stack.pop()
            made = made_by(x) if id(x) in known else None
            if made is None or (key := (id(made[0]), made[1])) in done:
                continue
            one = call_of(*made)
            if is_ready:
                done.add(key)
                yield one
            else:
                stack += [(x, True), *((source, False) for source in reversed(one.reads))]


def behind(operation: Any) -> Any:
    return operation.layer if isinstance(operation, Shared) else operation


def is_operation(operation: Any) -> bool:
    return not isinstance(operation, keras.layers.Layer)


def bound(one: Call) -> dict[str, Any]:
    """What an operation is called on, by the names of its parameters."""
    return dict(inspect.signature(one.operation.call).bind(*one.args, **one.kwargs).arguments)


def said(one: Call) -> dict[str, Any]:
    """What the call of a layer is given by name, and would not be without a word."""
    known = {} if is_operation(one.operation) else inspect.signature(one.operation.call).parameters
    return {
        name: value
        for name, value in one.kwargs.items()
        if not any(value is other for other in UNSAID.get(name, ()))
        and not (name in known and is_same(value, known[name].default))
    }


def is_default(value: Expression | None, default: Any) -> bool:
    return isinstance(value, Literal) and is_same(value.value, default)


def is_same(value: Any, default: Any) -> bool:
    if type(value) is tuple and type(default) is list:
        default = tuple(default)
    return type(value) is type(default) and isinstance(value, (*SCALARS, tuple)) and bool(value == default)


def are_plain(left: Expression, right: Expression) -> bool:
    """Whether an operator between the two is Keras's: numpy would take one on its right for itself."""
    if isinstance(left, Ref):
        return isinstance(right, Ref | Literal) or (
            isinstance(right, Node) and right.form in ("array", "call")
        )
    return isinstance(left, Literal) and isinstance(right, Ref) and type(left.value) in (int, float)


def may_be_a_number(array: np.ndarray, one: Call) -> bool:
    """Whether Python's number says the same: beside a tensor of its precision, or as a place."""
    if array.dtype.kind == "V" or array.dtype == bool:
        return array.dtype == bool
    if type(one.operation).__name__ in ("Take", "GetItem"):
        return array.dtype.kind in "iu"
    return any(x.dtype == array.dtype.name for x in one.reads)
