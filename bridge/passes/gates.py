"""What the gates of a recurrent step are written in: activations of sums of products, and polynomials of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

import onnx_ir as ir

from bridge.graph.rewriting import attribute, constant, is_onnx
from bridge.passes.affine import Affine, affine

Function: TypeAlias = tuple[str, tuple[float, ...], tuple[float, ...]]  # name of ONNX's, its alpha, its beta
Polynomial: TypeAlias = dict[tuple[ir.Value, ...], float]  # products, the values in a fixed order -> factor

# Activations of ONNX's recurrent operators that are operators too: what alpha and beta are by default
ACTIVATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "Sigmoid": ((), ()),
    "Tanh": ((), ()),
    "Relu": ((), ()),
    "Softsign": ((), ()),
    "Softplus": ((), ()),
    "HardSigmoid": ((0.2,), (0.5,)),
    "Elu": ((1.0,), ()),
    "LeakyRelu": ((0.01,), ()),
    "ThresholdedRelu": ((1.0,), ()),
}
DEEP = 6  # sums and products above one another, in a step
TERMS = 8  # of a polynomial


@dataclass(frozen=True)
class Activated:
    """An activation and the value that it is of."""

    function: Function
    value: ir.Value


@dataclass(frozen=True)
class Gate:
    """An activation of a sum of products."""

    function: Function
    sums: Affine


def activated(value: ir.Value | None) -> Activated | None:
    node = None if value is None else value.producer()
    if not is_onnx(node, *ACTIVATIONS) or node.inputs[0] is None:
        return None
    alpha, beta = ACTIVATIONS[node.op_type]
    alpha = tuple(attribute(node, "alpha", number) for number in alpha)
    beta = tuple(attribute(node, "beta", number) for number in beta)
    return Activated((node.op_type, alpha, beta), node.inputs[0])


def gate(value: ir.Value | None) -> Gate | None:
    found = activated(value)
    sums = None if found is None else affine(found.value)
    return None if found is None or sums is None else Gate(found.function, sums)


def read_below(value: ir.Value) -> set[ir.Value]:
    """What the gates multiply that stand below the sums and products of `value`."""
    found: set[ir.Value] = set()
    left = [(value, DEEP)]
    while left:
        value, deep = left.pop()
        known = gate(value)
        node = value.producer()
        if known is not None:
            found.update(known.sums.sources)
        elif deep and is_onnx(node, "Add", "Sub", "Mul", "Neg", "Identity"):
            left += [(read, deep - 1) for read in node.inputs if read is not None]
    return found


def polynomial(value: ir.Value, stops: Collection[ir.Value], deep: int = DEEP) -> Polynomial | None:
    """`value` multiplied out, down to `stops` and to what is no sum and no product; None where that is long."""
    tensor, node = constant(value), value.producer()
    if tensor is not None and tensor.size == 1:
        return {(): float(tensor.numpy().item())}
    if value in stops or not deep or not is_onnx(node, "Add", "Sub", "Mul", "Neg", "Identity"):
        return {(value,): 1.0}
    parts = [polynomial(read, stops, deep - 1) for read in node.inputs if read is not None]
    left, *others = (part or {} for part in parts)
    if None in parts:
        return None
    right = others[0] if others else {}
    match node.op_type:
        case "Neg":
            return {key: -factor for key, factor in left.items()}
        case "Mul":
            pairs = [(_joined(a, b), x * y) for a, x in left.items() for b, y in right.items()]
        case _:
            sign = -1 if node.op_type == "Sub" else 1
            pairs = [*left.items(), *((key, sign * factor) for key, factor in right.items())]
    total: Polynomial = {}
    for key, factor in pairs:
        total[key] = total.get(key, 0.0) + factor
    total = {key: factor for key, factor in total.items() if factor}
    return total if len(total) <= TERMS else None


def _joined(left: tuple[ir.Value, ...], right: tuple[ir.Value, ...]) -> tuple[ir.Value, ...]:
    return tuple(sorted((*left, *right), key=id))
