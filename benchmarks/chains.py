"""Conversion time of chains of nodes, by kind and length: that everything ends, and that twice as many nodes take about
twice as long.

python -m benchmarks.chains [kind ...]      all kinds if none are given
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.timing import one_thread

one_thread()

import numpy as np
import onnx
import onnx.helper as helper
import onnx.numpy_helper as numpy_helper
from rich.console import Console
from rich.table import Table

import bridge

LENGTHS = (25, 50, 100)
Link = tuple[str, dict[str, Any]]  # operator, and its attributes and, as arrays, its further inputs


class Chain:
    """A graph as it grows from one input."""

    def __init__(self, dims: str) -> None:
        self.dims = [int(dim) if dim.isdigit() else dim for dim in dims.split()]
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.outputs: list[str] = []
        self.random = np.random.default_rng(0)

    def constant(self, value: Any, dtype: Any = None) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(self, *shape: int) -> str:
        return self.constant(self.random.normal(size=shape) / np.sqrt(max(shape[-1], 1)), np.float32)

    def __call__(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        names = [f"y{len(self.nodes)}"] + [f"y{len(self.nodes)}_{k}" for k in range(1, outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"n{len(self.nodes)}", **attributes))
        return names[0]

    def model(self, last: str) -> onnx.ModelProto:
        made = [onnx.ValueInfoProto(name=name) for name in dict.fromkeys([*self.outputs, last])]
        given = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, self.dims)
        graph = helper.make_graph(self.nodes, "chain", [given], made, self.constants)
        imports = [helper.make_opsetid("", 23)]
        model = onnx.shape_inference.infer_shapes(
            helper.make_model(graph, opset_imports=imports, ir_version=10)
        )
        del model.graph.value_info[:]
        return model


def chain(dims: str, link: Callable[[Chain, str, int], str]) -> Callable[[int], onnx.ModelProto]:
    """Graphs of `length` links in a row."""

    def made(length: int) -> onnx.ModelProto:
        growing, last = Chain(dims), "x"
        for number in range(length):
            last = link(growing, last, number)
        return growing.model(last)

    return made


# --- the links -----------------------------------------------------------------------------------------------------


def halved_conv(g: Chain, x: str, k: int) -> str:
    return g("Conv", x, g.weight(2, 2, 3), strides=[2], pads=[1, 1])


def halved_pool(g: Chain, x: str, k: int) -> str:
    return g("MaxPool", x, kernel_shape=[2], strides=[2], ceil_mode=k % 2)


def rounded(g: Chain, x: str, k: int) -> str:
    """A size that is halved, and grows again."""
    x = g("AveragePool", x, kernel_shape=[3], strides=[2], pads=[1, 1]) if k % 2 else x
    return x if k % 2 else g("Pad", x, g.constant([0, 0, k % 5, 0, 0, 3]))


def doubled_and_halved(g: Chain, x: str, k: int) -> str:
    if k % 2:
        return g("MaxPool", x, kernel_shape=[2], strides=[2])
    return g("Resize", x, "", g.constant([1, 1, 2], np.float32), mode="nearest")


def scaled(g: Chain, x: str, k: int) -> str:
    scale = 1.5 if k % 2 else 0.75
    return g("Resize", x, "", g.constant([1, 1, scale], np.float32), mode="linear")


def grown(g: Chain, x: str, k: int) -> str:
    return g("Concat", x, "x", axis=1)


def reshaped(g: Chain, x: str, k: int) -> str:
    return g("Reshape", x, g.constant([[0, 2, 12], [0, 24], [-1, 4, 6], [0, 3, -1]][k % 4]))


def sliced(g: Chain, x: str, k: int) -> str:
    """The last row is cut off, and another put in front."""
    x = g("Slice", x, g.constant([0]), g.constant([-1]), g.constant([1]))
    return g("Concat", g("Slice", "x", g.constant([0]), g.constant([1]), g.constant([1])), x, axis=1)


def shortened(g: Chain, x: str, k: int) -> str:
    return g(
        "Slice",
        g("Pad", x, g.constant([0, 1, 0, 0, 1, 0])),
        g.constant([1]),
        g.constant([-1]),
        g.constant([1]),
    )


def turned(g: Chain, x: str, k: int) -> str:
    if k % 2:
        return g("Transpose", x, perm=[0, 2, 1])
    return g("Reshape", x, g.constant([0, *[(2, 12), (4, 6), (3, 8)][k // 2 % 3]]))


def transposed_around(g: Chain, x: str, k: int) -> str:
    """Every operator in an order of axes of its own."""
    x = g("Transpose", x, perm=[0, 3, 1, 2] if k % 2 else [0, 2, 3, 1])
    x = (
        g("Softmax", x, axis=1)
        if k % 3 == 0
        else g("ReduceMean", x, g.constant([2]))
        if k % 3 == 1
        else g("Sin", x)
    )
    return g("Add", g("Transpose", x, perm=[0, 2, 3, 1] if k % 2 else [0, 3, 1, 2]), "x")


def split(g: Chain, x: str, k: int) -> str:
    a = g("Split", x, axis=1, num_outputs=2, outputs=2)
    return g("Concat", f"{a}_1", a, axis=1)


def asked(g: Chain, x: str, k: int) -> str:
    """A shape that is worked out from sizes, and a choice by a size."""
    shape = g("Shape", x)
    size = g("Gather", shape, g.constant([1]), axis=0)
    other = g("Where", g("Equal", size, g.constant([-1])), g.constant([1]), size)
    to = g("Concat", g("Gather", shape, g.constant([0]), axis=0), other, g.constant([4]), axis=0)
    return g("Add", g("Expand", g("ConstantOfShape", to), to), x)


def counted(g: Chain, x: str, k: int) -> str:
    """Sizes that are added, multiplied and divided, and make one of a vector that is as long again."""
    size = g("Shape", x, start=1, end=2)
    half = g("Div", g("Add", g("Mul", size, g.constant([2])), g.constant([1])), g.constant([2]))
    return g("Reshape", x, g("Concat", g.constant([-1]), half, g.constant([4]), axis=0))


def recurrent(g: Chain, x: str, k: int) -> str:
    y = g("LSTM", x, g.weight(1, 16, 4), g.weight(1, 16, 4), g.weight(1, 32), hidden_size=4)
    return g("Squeeze", y, g.constant([1]))


def doubled(g: Chain, x: str, k: int) -> str:
    return g("Add", x, x)


def residual(g: Chain, x: str, k: int) -> str:
    y = g("Relu", g("Conv", x, g.weight(4, 4, 3, 3), pads=[1, 1, 1, 1]))
    return g("Add", x, y)


def dense(g: Chain, x: str, k: int) -> str:
    return g("Add", x, g("Relu", g("Add", g("MatMul", x, g.weight(4, 4)), g.weight(4))))


def shown(g: Chain, x: str, k: int) -> str:
    """Every value is an output."""
    y = g("Sigmoid", x) if k % 2 else g("Sin", x)
    g.outputs.append(y)
    return y if k % 3 else g("Transpose", y, perm=[0, 2, 1])


def crossed(g: Chain, x: str, k: int) -> str:
    """Two paths that cross at every step."""
    a, b = g("Sin", x), g("Mul", x, g.constant(0.5, np.float32))
    return g("Sub", g("Add", a, b), g("Max", a, b))


KINDS: dict[str, Callable[[int], onnx.ModelProto]] = {
    "convolutions of stride 2": chain("N 2 T", halved_conv),
    "pools of stride 2": chain("N 2 T", halved_pool),
    "pools and pads": chain("N 2 T", rounded),
    "twice and half the size": chain("N 2 T", doubled_and_halved),
    "scales": chain("N 2 T", scaled),
    "concatenations that grow": chain("N T 2", grown),
    "reshapes": chain("N 24", reshaped),
    "slices with negative ends": chain("N T 4", sliced),
    "pads and slices": chain("N T 4", shortened),
    "reshapes and transpositions": chain("N 4 6", turned),
    "transpositions around operators": chain("N 3 H W", transposed_around),
    "splits": chain("N 6 4", split),
    "shapes asked for": chain("N T 4", asked),
    "arithmetic of sizes": chain("N T 4", counted),
    "LSTMs": chain("T N 4", recurrent),
    "exponentially many paths": chain("N 4", doubled),
    "paths that cross": chain("N 4", crossed),
    "residual convolutions": chain("N 4 H W", residual),
    "residual dense": chain("N T 4", dense),
    "many outputs": chain("N 4 4", shown),
}


def seconds(model: onnx.ModelProto, verify: bool = False) -> float:
    """Of processor time, for one conversion."""
    start = time.process_time()
    bridge.convert(model, verify=verify)
    return time.process_time() - start


def main(kinds: list[str]) -> None:
    bridge.convert(KINDS["residual dense"](2))  # imports
    table = Table(
        "chain of", *(f"{n} links, s" for n in LENGTHS), "100 to 50", title="Conversion without the proof"
    )
    for kind in kinds:
        found = []
        for length in LENGTHS:
            try:
                found.append(seconds(KINDS[kind](length)))
            except bridge.BridgeError as error:
                print(f"{kind} of {length}: {type(error).__name__}: {str(error)[:150]}")
                found.append(float("nan"))
        table.add_row(kind, *(f"{s:.2f}" for s in found), f"{found[-1] / found[-2]:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:] or list(KINDS))
