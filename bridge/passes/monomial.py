"""Products as a number and powers of values, for passes that look for formulas however they are written.

`x / sqrt(v) * 0.5`, `0.5 * (x * v ** -0.5)` and `x * reciprocal(sqrt(v)) / 2` are all 0.5 x^1 v^-0.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import onnx_ir as ir

from bridge.graph.rewriting import constant, input_of, inputs_of, is_onnx
from bridge.weights.weight import Weight

DEPTH = 8  # how many nodes deep a formula is read


@dataclass(frozen=True)
class Monomial:
    """number * product of value ** power."""

    number: float = 1.0
    powers: dict[ir.Value, float] = field(default_factory=dict)

    def __mul__(self, other: Monomial) -> Monomial:
        powers = dict(self.powers)
        for value, power in other.powers.items():
            powers[value] = powers.get(value, 0.0) + power
        return Monomial(
            self.number * other.number, {value: power for value, power in powers.items() if power}
        )

    def __pow__(self, power: int) -> Monomial:
        if power < 0 and not self.number:
            return Monomial(math.nan)
        return Monomial(self.number**power, {value: own * power for value, own in self.powers.items()})

    def scaled(self, number: float) -> Monomial:
        return Monomial(self.number * number, self.powers)

    def equals(self, other: Monomial) -> bool:
        """The same powers, and the same number as far as 32 bits hold it."""
        return self.powers == other.powers and math.isclose(self.number, other.number, rel_tol=1e-6)


def number(value: ir.Value | None) -> float | None:
    """The one number that is known to be in `value`; a parameter is not known, it can be trained."""
    tensor = constant(value)
    if tensor is None or isinstance(tensor, Weight) or math.prod(cast("tuple[int, ...]", tensor.shape)) != 1:
        return None
    return float(tensor.numpy().item())


def monomial(value: ir.Value) -> Monomial:
    """`value` as a product, taken apart as far as multiplications and whole powers go."""
    return _product(value, DEPTH, {})


def _product(value: ir.Value, depth: int, known: dict[tuple[ir.Value, int], Monomial]) -> Monomial:
    """`known` are the parts that were taken apart before: formulas share them."""
    if (value, depth) not in known:
        known[value, depth] = _taken_apart(value, lambda part: _product(part, depth - 1, known), depth)
    return known[value, depth]


def _taken_apart(value: ir.Value, part: Callable[[ir.Value], Monomial], depth: int) -> Monomial:
    given = number(value)
    if given is not None:
        return Monomial(given)
    node = value.producer()
    if depth and is_onnx(node, "Mul", "Div", "Reciprocal", "Neg"):
        parts = [part(source) for source in inputs_of(node)]
        match node.op_type:
            case "Mul":
                return parts[0] * parts[1]
            case "Div":
                return parts[0] * parts[1] ** -1
            case "Neg":
                return parts[0].scaled(-1)
        return parts[0] ** -1
    if is_onnx(node, "Sqrt"):  # of a square it is no first power
        return Monomial(1.0, {input_of(node, 0): 0.5})
    power = number(input_of(node, 1)) if is_onnx(node, "Pow") else None
    if node is None or power is None:
        return Monomial(1.0, {value: 1.0})
    if power.is_integer() and depth:
        return part(input_of(node, 0)) ** int(power)
    return Monomial(1.0, {input_of(node, 0): power})


def one_more(value: ir.Value) -> tuple[float, ir.Value] | None:
    """The number and the rest of a sum `rest + number`."""
    node = value.producer()
    terms = inputs_of(node) if is_onnx(node, "Add") else ()
    for term, rest in zip(terms, terms[::-1], strict=True):
        known = number(term)
        if known is not None:
            return known, rest
    return None


def values_within(value: ir.Value) -> list[ir.Value]:
    """The values that the formula of `value` is made of, each once, itself first."""
    found = {value: None}
    level = [value]
    for _ in range(DEPTH):
        nodes = [
            node for node in (part.producer() for part in level) if is_onnx(node, "Mul", "Div", "Add", "Pow")
        ]
        parts = dict.fromkeys(part for node in nodes for part in inputs_of(node) if number(part) is None)
        level = [part for part in parts if part not in found]
        found.update(dict.fromkeys(level))
    return list(found)
