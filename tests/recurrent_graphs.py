"""ONNX models of one recurrent node, for the tests of recurrent layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.helper as helper
import onnx.numpy_helper

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
INPUT, HIDDEN = 3, 5


def onnx_model(
    op: str, *, direction: str = "forward", bias: bool = True, lengths: bool = False, state: bool = False,
    peepholes: bool = False, outputs: str = "yhc", computed: bool = False, **attributes: Any,
) -> onnx.ModelProto:  # fmt: skip
    """A model of one recurrent node, time and batch symbolic. `computed`: W reaches the node by Slice and Concat."""
    rng = np.random.default_rng(1)
    sides, gates = 2 if direction == "bidirectional" else 1, GATES[op]
    initializers, nodes = [], []

    def weight(name: str, *shape: int) -> str:
        initializers.append(
            onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32) * 0.5, name)
        )
        return name

    def given(name: str, *shape: Any, kind: int = onnx.TensorProto.FLOAT) -> str:
        inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    inputs: list[onnx.ValueInfoProto] = []
    names = [given("X", "T", "N", INPUT)]
    if computed:
        blocks = [weight(f"w{i}", HIDDEN, INPUT) for i in range(sides * gates)]
        nodes.append(helper.make_node("Concat", blocks, ["rows"], axis=0))
        weight_shape = onnx.numpy_helper.from_array(np.array([sides, gates * HIDDEN, INPUT]), "w_shape")
        initializers.append(weight_shape)
        nodes.append(helper.make_node("Reshape", ["rows", "w_shape"], ["W"]))
        names.append("W")
    else:
        names.append(weight("W", sides, gates * HIDDEN, INPUT))
    names.append(weight("R", sides, gates * HIDDEN, HIDDEN))
    names.append(weight("B", sides, 2 * gates * HIDDEN) if bias else "")
    names.append(given("lengths", "N", kind=onnx.TensorProto.INT32) if lengths else "")
    kinds = ["h", "c"] if op == "LSTM" else ["h"]
    names += [given(f"{kind}0", sides, "N", HIDDEN) if state else "" for kind in kinds]
    if peepholes:
        names.append(weight("P", sides, 3 * HIDDEN))
    made = [name if name[-1] in outputs else "" for name in ["y", *(f"final_{kind}" for kind in kinds)]]
    nodes.append(helper.make_node(op, names, made, hidden_size=HIDDEN, direction=direction, **attributes))
    shapes = {"y": [f"y{i}" for i in range(4)]}
    infos = [
        helper.make_tensor_value_info(
            name, onnx.TensorProto.FLOAT, shapes.get(name, [f"{name}_{i}" for i in range(3)])
        )
        for name in made
        if name
    ]
    graph = helper.make_graph(nodes, op, inputs, infos, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
