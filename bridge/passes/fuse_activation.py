"""Activations that an exporter wrote in single steps, as the operators that they are.

    x sigmoid(x), x hard_sigmoid(x), x tanh(softplus(x))    ->  Silu, HardSwish, Mish
    x / 2 (1 + erf(x / sqrt(2)))                            ->  Gelu
    x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))       ->  Gelu, approximate

in any order and association of the products (`monomial`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import onnx_ir as ir

from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import (
    Emitter,
    all_nodes,
    attribute,
    input_of,
    inputs_of,
    is_onnx,
    is_used,
    replace,
)
from bridge.passes.monomial import Monomial, monomial, one_more, values_within

Found: TypeAlias = tuple[ir.Value, str, dict[str, Any]] | None  # what is activated, by which operator


def fuse_activation(model: ir.Model) -> None:
    for node in all_nodes(model):
        if not is_onnx(node, "Mul", "Div") or not is_used(node.outputs[0]):
            continue
        product = monomial(node.outputs[0])
        found = next((f for value in product.powers for rule in RULES if (f := rule(product, value))), None)
        if found is not None and found[0].shape == node.outputs[0].shape:
            x, op, attributes = found
            domain = DOMAIN if op == "Silu" else ""
            replace(node.outputs[0], Emitter(node)(op, x, domain=domain, **attributes))


def _gate(product: Monomial, gate: ir.Value) -> Found:
    node = gate.producer()
    if is_onnx(node, "Sigmoid"):
        x, op = input_of(node, 0), "Silu"
    elif is_onnx(node, "HardSigmoid") and _is_sixth(node):
        x, op = input_of(node, 0), "HardSwish"
    elif is_onnx(node, "Tanh") and is_onnx(inner := input_of(node, 0).producer(), "Softplus"):
        x, op = input_of(inner, 0), "Mish"
    else:
        return None
    return (x, op, {}) if product.equals(monomial(x) * Monomial(1.0, {gate: 1.0})) else None


def _is_sixth(node: ir.Node) -> bool:
    alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
    return math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5


def _gelu(product: Monomial, gate: ir.Value) -> Found:
    """`gate` is 1 + erf(…) or 1 + tanh(…)."""
    one, curve = one_more(gate) or (None, None)
    node = curve.producer() if curve is not None and one == 1 else None
    if not is_onnx(node, "Erf", "Tanh"):
        return None
    argument, exact = input_of(node, 0), node.op_type == "Erf"
    fits = _is_scaled if exact else _is_cubic
    for x in values_within(argument):
        if product.equals(monomial(x).scaled(0.5) * Monomial(1.0, {gate: 1.0})) and fits(argument, x):
            return x, "Gelu", {"approximate": "none" if exact else "tanh"}
    return None


def _is_scaled(argument: ir.Value, x: ir.Value) -> bool:
    return monomial(argument).equals(monomial(x).scaled(0.5**0.5))


def _is_cubic(argument: ir.Value, x: ir.Value) -> bool:
    """sqrt(2 / pi) (x + 0.044715 x^3), with x inside or before the bracket."""
    product, root, cubic = monomial(argument), (2 / math.pi) ** 0.5, 0.044715
    for bracket in product.powers:
        node = bracket.producer()
        if not is_onnx(node, "Add"):
            continue
        around = Monomial(root, {bracket: 1.0})
        terms = [monomial(term) for term in inputs_of(node)]
        for first, second in (terms, terms[::-1]):
            for outside, inside in ((Monomial(), monomial(x)), (monomial(x), Monomial())):
                if (
                    product.equals(around * outside)
                    and first.equals(inside)
                    and second.equals((inside * monomial(x) ** 2).scaled(cubic))
                ):
                    return True
    return False


RULES: tuple[Callable[[Monomial, ir.Value], Found], ...] = (_gate, _gelu)
