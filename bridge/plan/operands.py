"""The nodes that are needed, and what their builders will get: tensors, weights, constants, integers."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from bridge.errors import Refusal
from bridge.graph.decimals import number
from bridge.graph.provenance import NO_BUILDER, refusal
from bridge.graph.rewriting import read_inside
from bridge.graph.shapes import symbolic_contents
from bridge.ops.contract import Kind, Operand, Operator, Step
from bridge.ops.registry import find
from bridge.weights.weight import Weight

NESTED = (
    "which graph inside it runs, or how often, is known only when it runs, and a Keras model has one graph; fix what "
    "it depends on, such as sizes, or compute both sides and choose by torch.where"
)
AS_NUMBERS = "; give it as numbers, or take all of the axis and mask it"


def needed_steps(graph: ir.Graph, refusals: list[Refusal]) -> list[Step]:
    """Steps for the nodes of `graph` that outputs depend on as tensors; shape arithmetic that is only read is left
    out. What cannot be had joins `refusals`."""
    steps: dict[ir.Node, Step] = {}
    refused: dict[ir.Node, Refusal] = {}
    wanted = [value.producer() for value in graph.outputs if ir.convenience.get_const_tensor(value) is None]
    seen: set[ir.Node | None] = {None}
    while wanted:
        node = wanted.pop()
        if node in seen or node is None or node.graph is not graph:  # outside of a body, it is another plan's
            continue
        seen.add(node)
        step = _step(node)
        if isinstance(step, Refusal):
            refused[node] = step
            wanted += [
                value.producer() for value in node.inputs if value is not None and value.const_value is None
            ]
            continue
        steps[node] = step
        wanted += [o.value.producer() for o in step.operands if o.value is not None and o.is_tensor]
        wanted += [value.producer() for value in read_inside(node) if value is not None]
    refusals += [refused[node] for node in graph if node in refused]
    return [steps[node] for node in graph if node in steps]


def _nests(node: ir.Node) -> bool:
    return any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values())


def _step(node: ir.Node) -> Step | Refusal:
    operator = find(node.domain, node.op_type)
    if operator is None or NO_BUILDER in node.meta:
        return refusal(node, NESTED if _nests(node) and NO_BUILDER not in node.meta else "")
    reasons: list[str] = []
    operands = tuple(_operands(node, operator, reasons))
    attributes = dict(_attributes(node, operator, reasons))
    if reasons:
        return refusal(node, "; ".join(reasons))
    return Step(node, operator, operands, attributes)


def _operands(node: ir.Node, operator: Operator, reasons: list[str]) -> Iterator[Operand]:
    for index, value in enumerate(node.inputs):
        parameter = operator.parameter(index)
        if parameter is None:
            if value is not None:
                reasons.append(f"input {index} is not handled")
            continue
        operand = _operand(value, parameter.kind)
        if operand is not None:
            yield operand
        elif value is not None:
            kind = parameter.kind.value
            reasons.append(
                f"input {parameter.name} ({value.name}) has to be {kind} and is computed at run time"
                f"{AS_NUMBERS if parameter.kind in (Kind.INTS, Kind.DIMS) else ''}"
            )


def _attributes(node: ir.Node, operator: Operator, reasons: list[str]) -> Iterator[tuple[str, object]]:
    for name, attribute in node.attributes.items():
        if name not in operator.attributes:
            reasons.append(f"attribute {name} is not handled")
        elif attribute.value is not None:
            written = attribute.type == ir.AttributeType.FLOAT
            yield name, number(attribute.value) if written else attribute.value


def _operand(value: ir.Value | None, kind: Kind) -> Operand | None:
    """What the builder gets for `value`; None if it cannot be had in that kind."""
    if value is None:
        return Operand(None, kind)
    tensor = ir.convenience.get_const_tensor(value)
    if kind is Kind.DIMS:
        dims = symbolic_contents(value)
        return None if dims is None else Operand(value, kind, dims)
    if tensor is None:
        return None if kind.known else Operand(value, kind)
    if kind is Kind.INTS:
        return Operand(value, kind, tensor.numpy().tolist())
    if kind is Kind.ARRAY:
        return Operand(value, kind, tensor.numpy())
    if isinstance(tensor, Weight) and (kind is not Kind.TENSOR or tensor.is_parameter):
        return Operand(value, kind, tensor)
    if kind is Kind.WEIGHT:
        return None
    return Operand(value, Kind.ARRAY, tensor.numpy())
