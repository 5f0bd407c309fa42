"""Conversion time against the number of nodes: a residual network of convolutions, as an ONNX model.

python -m benchmarks.scaling [nodes ...]      50 500 5000 if none are given
"""

from __future__ import annotations

import sys
import time

from benchmarks.timing import one_thread

one_thread()

import keras
import numpy as np
import onnx
import onnx.helper as helper
import onnx.numpy_helper
from rich.console import Console
from rich.table import Table

import bridge

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


def by_hand(nodes: int) -> keras.Model:
    """The same network as a person writes it in Keras: what its layers cost without a conversion."""
    last = given = keras.Input((None, None, CHANNELS))
    for _ in range(max(nodes // 4, 1)):
        x = keras.layers.Conv2D(CHANNELS, 3, padding="same", use_bias=False)(last)
        x = keras.layers.BatchNormalization()(x)
        last = keras.layers.Add()([last, keras.layers.ReLU()(x)])
    return keras.Model(given, last)


class Clock:
    """Seconds of processor time in each stage, which other processes do not stretch."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage, self._start = "", 0.0

    def __call__(self, stage: str) -> None:
        now = time.process_time()
        if self._stage:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._start
        self._stage, self._start = stage, now


def main(sizes: list[int]) -> None:
    sys.setrecursionlimit(1000 + max(sizes))  # for the network by hand; a conversion sees to it itself
    bridge.convert(network(20), verify=False)  # imports
    stages = ("export", "simplify", "plan", "build")
    table = Table(
        "nodes",
        *(f"{stage} s" for stage in stages),
        "ms a node",
        "Keras by hand, ms a node",
        title="Processor time of a conversion without the proof",
    )
    for size in sizes:
        model, clock = network(size), Clock()
        bridge.convert(model, verify=False, progress=clock)
        clock("done")
        start = time.process_time()
        by_hand(size)
        hand = time.process_time() - start
        count = len(model.graph.node)
        each = (1000 * seconds / count for seconds in (sum(clock.seconds.values()), hand))
        table.add_row(
            str(count), *(f"{clock.seconds[stage]:.2f}" for stage in stages), *(f"{ms:.2f}" for ms in each)
        )
    Console().print(table)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [50, 500, 5000])
