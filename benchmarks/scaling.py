"""Conversion time against the number of nodes: a residual network of convolutions, as an ONNX model.

python -m benchmarks.scaling [nodes ...]      50 500 5000 if none are given
"""

from __future__ import annotations

import sys

from benchmarks.timing import one_thread

one_thread()

import numpy as np
import onnx
import onnx.helper as helper
import onnx.numpy_helper
from rich.console import Console
from rich.table import Table

CHANNELS = 8


def network(nodes: int) -> onnx.ModelProto:
    """Blocks of Conv, BatchNormalization, Relu and Add, about `nodes` nodes in all."""
    rng = np.random.default_rng(0)
    made, weights, last = [], [], "x"

    def weight(name: str, *shape: int) -> str:
        value = rng.random(shape, np.float32) * 0.1 + 0.1
        weights.append(onnx.numpy_helper.from_array(value, name))
        return name

    for block in range(max(nodes // 4, 1)):
        n = f"block{block}"
        kernel = weight(f"{n}.conv", CHANNELS, CHANNELS, 3, 3)
        made.append(helper.make_node("Conv", [last, kernel], [f"{n}.a"], name=f"{n}.Conv", pads=[1, 1, 1, 1]))
        norm = [weight(f"{n}.{kind}", CHANNELS) for kind in ("scale", "bias", "mean", "var")]
        made.append(helper.make_node("BatchNormalization", [f"{n}.a", *norm], [f"{n}.b"], name=f"{n}.Norm"))
        made.append(helper.make_node("Relu", [f"{n}.b"], [f"{n}.c"], name=f"{n}.Relu"))
        made.append(helper.make_node("Add", [last, f"{n}.c"], [f"{n}.d"], name=f"{n}.Add"))
        last = f"{n}.d"
    shape = ["N", CHANNELS, "H", "W"]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, shape)
    graph = helper.make_graph(made, "residual", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def main(sizes: list[int]) -> None:
    import bridge

    bridge.convert(network(20), verify=False)  # imports
    table = Table(
        "nodes",
        "load s",
        "simplify s",
        "plan s",
        "build s",
        "ms a node",
        title="Conversion without the proof",
    )
    for size in sizes:
        model = network(size)
        seconds = bridge.convert(model, verify=False).report.seconds
        rooms = [seconds[room] for room in ("export", "simplify", "plan", "build")]
        each = 1000 * sum(rooms) / len(model.graph.node)
        table.add_row(str(len(model.graph.node)), *(f"{room:.2f}" for room in rooms), f"{each:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [50, 500, 5000])
