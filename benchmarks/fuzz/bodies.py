"""How a node with graphs inside of it is drawn: If, Scan and Loop."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.fuzz.draft import Draft, Illegal
from benchmarks.fuzz.operators import draws


@draws("If")
def branch(d: Draft) -> None:
    """By a condition that is a constant, or that a size or the data decide."""
    x = d.tensor(["float32"], rank=(1, 4), least=1)
    kind = d.random.random()
    if kind < 0.3:
        condition = d.given(np.array(d.chance(0.5)), roles="wc")
    elif kind < 0.6:
        d.op = "ReduceSum"
        (total,) = d.node([x], keepdims=0)
        d.op = "Greater"
        (condition,) = d.node([total, d.given(np.array(0.25, "float32"), roles="c")])
    else:
        axis = d.random.randrange(d.values[x].ndim)
        d.op = "Shape"
        (sizes,) = d.node([x])
        d.op = "Gather"
        (size,) = d.node([sizes, d.ints(axis)], axis=0)
        d.op = "Equal"
        (condition,) = d.node([size, d.ints(d.values[x].shape[axis] + d.pick([0, 0, 1]))])
    d.op = "If"
    branches = {
        name: helper.make_graph(
            [helper.make_node(op, [x], [f"{condition}_{name}"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{condition}_{name}", TensorProto.FLOAT, None)],
        )
        for name, op in zip(("then_branch", "else_branch"), d.random.sample(BRANCHES, 2), strict=True)
    }
    d.node([condition], reads=[x], **branches)


BRANCHES = ["Neg", "Exp", "Relu", "Identity", "Sigmoid"]


@draws("Scan")
def scan(d: Draft) -> None:
    """Along the first axis, from its first part."""
    x = d.tensor(["float32"], rank=(2, 4), least=1)
    if d.opset < 9:
        raise Illegal("it has a batch")
    start = _first_part(d, x)
    body = _body(d, f"{start}_body", [], ["part"])
    d.op = "Scan"
    d.node([start, x], 2, body=body, num_scan_inputs=1)


@draws("Loop")
def loop(d: Draft) -> None:
    """So often as a constant says; more often than is written out, too."""
    start = _first_part(d, d.tensor(["float32"], rank=(2, 4), least=1))
    times, on = d.given(np.array(d.random.randint(1, 20)), roles="c"), d.given(np.array(True), roles="c")
    flags = [("count", TensorProto.INT64), ("on", TensorProto.BOOL)]
    d.op = "Loop"
    d.node([times, on, start], 2, body=_body(d, f"{start}_body", flags, []))


def _first_part(d: Draft, x: str) -> str:
    d.op = "Gather"
    (start,) = d.node([x, d.ints(0)], axis=0)
    return start


def _body(d: Draft, name: str, flags: list[tuple[str, int]], parts: list[str]) -> onnx.GraphProto:
    """Of a state and perhaps of parts of a sequence: the next state, and what is given of it."""
    first, second = d.random.sample(("Tanh", "Sigmoid", "Neg", "Sin", "Softsign"), 2)
    read = parts[0] if parts else "state"
    nodes = [
        helper.make_node(first, ["state"], [f"{name}_changed"]),
        helper.make_node("Add", [f"{name}_changed", read], [f"{name}_next"]),
        helper.make_node(second, [f"{name}_next"], [f"{name}_given"]),
    ]
    inputs = [helper.make_tensor_value_info(flag, kind, []) for flag, kind in flags]
    inputs += [helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in ("state", *parts)]
    outputs = [
        helper.make_tensor_value_info(f"{name}_{end}", TensorProto.FLOAT, None) for end in ("next", "given")
    ]
    if flags:
        nodes.append(helper.make_node("Identity", ["on"], [f"{name}_on"]))
        outputs.insert(0, helper.make_tensor_value_info(f"{name}_on", TensorProto.BOOL, []))
    return helper.make_graph(nodes, name, inputs, outputs)
