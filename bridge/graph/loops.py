"""What Loop and Scan carry from one run of their body to the next, take apart and put together."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from bridge.graph.rewriting import attribute, constant, integers, is_onnx
from bridge.graph.shapes import symbolic_contents

ENDLESS = (1 << 31) - 1  # what a Loop is told that is to end otherwise, at least


@dataclass(frozen=True)
class Carried:
    """A value that is carried: from `start`, each run makes `after` of `before`, and the last one gives `result`."""

    start: ir.Value | None
    before: ir.Value
    after: ir.Value
    result: ir.Value


@dataclass(frozen=True)
class Scanned:
    """A value of the node and of its body, which is the other's part at one place along `axis` at a time, from the end
    where it is `reverse`."""

    whole: ir.Value | None
    part: ir.Value
    axis: int = 0
    reverse: bool = False


def body_of(node: ir.Node) -> ir.Graph:
    return node.attributes["body"].as_graph()


def carried(node: ir.Node) -> list[Carried]:
    body, count = body_of(node), carried_count(node)
    # How often a Loop has run, and whether it goes on, stand before what it carries
    ahead, behind = (2, 1) if is_onnx(node, "Loop") else (0, 0)
    befores, afters = body.inputs[ahead : ahead + count], body.outputs[behind : behind + count]
    starts = node.inputs[ahead : ahead + count]
    rows = zip(starts, befores, afters, node.outputs[:count], strict=True)
    return [Carried(*row) for row in rows]


def carried_count(node: ir.Node) -> int:
    return len(node.inputs) - (2 if is_onnx(node, "Loop") else attribute(node, "num_scan_inputs"))


def scanned_in(node: ir.Node) -> list[Scanned]:
    """Those of a Scan."""
    count = 0 if is_onnx(node, "Loop") else attribute(node, "num_scan_inputs")
    if not count:
        return []
    axes, sides = _listed(node, "scan_input_axes", count), _listed(node, "scan_input_directions", count)
    rows = zip(node.inputs[-count:], body_of(node).inputs[-count:], axes, map(bool, sides), strict=True)
    return [Scanned(*row) for row in rows]


def scanned_out(node: ir.Node) -> list[Scanned]:
    start = carried_count(node)
    wholes = node.outputs[start:]
    parts = body_of(node).outputs[start + (1 if is_onnx(node, "Loop") else 0) :]
    axes = _listed(node, "scan_output_axes", len(wholes))
    sides = _listed(node, "scan_output_directions", len(wholes))
    return [Scanned(*row) for row in zip(wholes, parts, axes, map(bool, sides), strict=True)]


def _listed(node: ir.Node, name: str, count: int) -> list[int]:
    return list(attribute(node, name, list[int]()) or [0] * count)


# --- how often a Loop runs -------------------------------------------------------------------------------------


def trips(loop: ir.Node) -> int | ir.SymbolicDim | None:
    """How often a Loop runs, whatever the data are; None where they decide, and of a Scan."""
    if not is_onnx(loop, "Loop"):
        return None
    most, goes_on = symbolic_contents(loop.inputs[0]) if loop.inputs[0] is not None else None, _goes_on(loop)
    node = goes_on.producer()
    if _is_true(loop.inputs[1]) and (_is_true(goes_on) or goes_on is body_of(loop).inputs[1]):
        if most is not None and len(most) == 1:
            return most[0]
    elif is_onnx(node, "Less") and is_count(node.inputs[0], loop, ahead=1):
        counted = symbolic_contents(node.inputs[1]) if node.inputs[1] is not None else None
        endless = most is None or most == counted or (isinstance(most[0], int) and most[0] >= ENDLESS)
        if counted is not None and len(counted) == 1 and endless and _starts(loop.inputs[1], counted):
            return counted[0]
    return None


def _goes_on(loop: ir.Node) -> ir.Value:
    """What the body says of whether it is to run again."""
    value = body_of(loop).outputs[0]
    while is_onnx(node := value.producer(), "Identity") and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def _starts(condition: ir.Value | None, counted: list[int | ir.SymbolicDim]) -> bool:
    """Whether a body that runs while its count is less than `counted`, a size, runs at all."""
    node = None if condition is None else condition.producer()
    if is_onnx(node, "Less") and node.inputs[1] is not None:
        return integers(node.inputs[0]) == [0] and symbolic_contents(node.inputs[1]) == counted
    return _is_true(condition)


def _is_true(value: ir.Value | None) -> bool:
    tensor = constant(value)
    return value is None or tensor is not None and bool(tensor.numpy().all())


def is_count(value: ir.Value | None, loop: ir.Node, ahead: int = 0) -> bool:
    """Whether `value` says how often the body has run, and `ahead` more."""
    node = None if value is None else value.producer()
    if is_onnx(node, "Cast", "Identity"):
        return is_count(node.inputs[0], loop, ahead)
    if is_onnx(node, "Add") and ahead:
        ones = [integers(read) == [1] for read in node.inputs]
        return any(
            one and is_count(node.inputs[1 - place], loop, ahead - 1) for place, one in enumerate(ones)
        )
    if ahead or value is None:
        return False
    state = next((state for state in carried(loop) if state.before is value), None)
    if state is None:
        return value is body_of(loop).inputs[0]
    step = state.after.producer()
    if not is_onnx(step, "Add") or state.before not in step.inputs:
        return False
    return integers(state.start) == [0] and any(integers(read) == [1] for read in step.inputs)
