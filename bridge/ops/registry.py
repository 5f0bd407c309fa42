"""One builder for each operator: the signature is the schema.

    @op("Softmax", layout=ANY, axes="axis")
    def softmax(x, *, axis=-1): ...

Positional parameters are the operator's ONNX inputs in order, keyword-only ones its attributes with ONNX's names
and defaults (a test compares each with `onnx.defs.get_schema`). A first parameter called `site` is the place of the
node in the model under construction (`bridge.ops.contract.Site`). Annotations say what an input has to be:

    none            a Keras tensor; a constant arrives as a numpy array
    Weight          a parameter, known now
    Weight | Tensor a parameter, or a tensor that the graph computes
    Array           a constant, as a numpy array
    Ints            known integers: a list, or an int for a scalar
    Dims            integers of which some may be symbolic (`onnx_ir.SymbolicDim`)

`layout` is a word for what the operator does with the order of its axes (`bridge/ops/layouts.py` lists them). Where it
is ANY or FIRST_INPUT, `axes` names what holds axis numbers; one that is ANY and names no `axes` works on every element
for itself. `features` names the weights that run along the features of the first input, {weight: its axis}, which are
its axis `feature_axis`; `units` names those that run along the last axis of the output. There the plan may reorder a
weight instead of moving a tensor.

With `batch_first` an operator that is ANY or FIRST_INPUT keeps axis 0 where it is: its layer takes it for the batch.

`makes` names the Keras layers that a node of the operator may become; without it, it becomes operations of `keras.ops`.
A parameter that stands where the graph has a tensor is the row of an Embedding, whoever reads it.

`unknown` says why a node cannot be built of which it is not known how many axes its inputs and outputs have.
`check` names a function of the planned `Step` that gives a reason why the node cannot be built, or None.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from bridge.ops.contract import KINDS, Kind, Layout, Operator, Parameter, Step
from bridge.ops.layouts import ONNX

Build = TypeVar("Build", bound=Callable[..., Any])
_registry: dict[tuple[str, str], Operator] = {}


def op(
    *names: str,
    domain: str = "",
    layout: Layout = ONNX,
    axes: str | None = None,
    check: Callable[[Step], str | None] | None = None,
    features: dict[str, int] | None = None,
    units: dict[str, int] | None = None,
    feature_axis: int = -1,
    batch_first: bool = False,
    makes: tuple[type, ...] = (),
    unknown: str = Operator.unknown,
) -> Callable[[Build], Build]:
    """Register a builder for the operators `names`."""

    def register(function: Build) -> Build:
        parameters = list(inspect.signature(function).parameters.values())
        takes_site = bool(parameters) and parameters[0].name == "site"
        inputs = _inputs(function, parameters[takes_site:])
        attributes = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        for name in names:
            key = (domain, name)
            if key in _registry:
                raise ValueError(f"{name} has two builders")
            _registry[key] = Operator(
                name, domain, function, layout, axes, check, takes_site, inputs, attributes, function.__module__,
                features or {}, units or {}, feature_axis, batch_first, makes, unknown,
            )  # fmt: skip
        return function

    return register


def _inputs(function: Callable[..., object], parameters: list[inspect.Parameter]) -> tuple[Parameter, ...]:
    hints = typing.get_type_hints(function, include_extras=True)
    return tuple(
        Parameter(
            p.name,
            KINDS[hints[p.name]] if p.name in hints else Kind.TENSOR,
            p.default is not p.empty,
            p.kind is p.VAR_POSITIONAL,
        )
        for p in parameters
        if p.kind is not p.KEYWORD_ONLY
    )


def find(domain: str, name: str) -> Operator | None:
    return _registry.get(("" if domain == "ai.onnx" else domain, name))


def builders() -> Iterator[Operator]:
    """All of them, by family and name."""
    yield from sorted(_registry.values(), key=lambda operator: (operator.family, operator.op_type))
