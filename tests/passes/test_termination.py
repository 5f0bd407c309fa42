"""Every pass ends: soon, however values are shared, and with an error that names it if a rule should turn in a circle.

What a conversion costs is counted in calls of functions, which no other load of the machine changes.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.helper as helper
import onnx.numpy_helper as numpy_helper
import pytest
import torch
from checking import check, parse
from torch import nn

import bridge
import bridge.ops
from bridge.errors import InternalError
from bridge.frontend.onnx.load import load
from bridge.passes import simplify
from bridge.plan.planner import plan

CALLS = 60_000  # for each node, at most; an onnx_ir node costs some hundred in each pass


def calls(work: Callable[[], Any], limit: int) -> int:
    """How many Python functions `work` calls; fails as soon as they are more than `limit`."""
    count = 0

    def step(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"
        if count > limit:
            sys.setprofile(None)
            raise AssertionError(f"more than {limit} calls, at last of {frame.f_code.co_qualname}")

    sys.setprofile(step)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def chain(
    length: int, op: str, *, inputs: str = "xx", dims: str = "N, 4", **attributes: Any
) -> onnx.ModelProto:
    """`length` nodes, each of which reads the one before as often as `inputs` says "x" (a "c" is a constant)."""
    nodes, last = [], "x"
    for number in range(length):
        names = [last if kind == "x" else "c" for kind in inputs]
        nodes.append(helper.make_node(op, names, [f"y{number}"], **attributes))
        last = f"y{number}"
    return graph(nodes, last, dims)


def graph(nodes: list[onnx.NodeProto], last: str, dims: str, **constants: Any) -> onnx.ModelProto:
    shape = [int(dim) if dim.isdigit() else dim for dim in dims.split(", ") if dim]
    made = onnx.helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, [f"out{axis}" for axis in range(len(shape))])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in ({"c": np.float32(0.5)} | constants).items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def alternating(length: int, *ops: tuple[str, dict[str, Any]], dims: str) -> onnx.ModelProto:
    """Single-input nodes in turn, their further inputs constants."""
    nodes, last, constants = [], "x", {}
    for number in range(length):
        op, settings = ops[number % len(ops)]
        extra = []
        for name, value in settings.items():
            if isinstance(value, np.ndarray):
                constants[f"{name}{number}"] = value
                extra.append(f"{name}{number}")
        attributes = {k: v for k, v in settings.items() if not isinstance(v, np.ndarray)}
        nodes.append(helper.make_node(op, [last, *extra], [f"y{number}"], **attributes))
        last = f"y{number}"
    return graph(nodes, last, dims, **constants)


def zeros_doubled(length: int) -> onnx.ModelProto:
    """An initial state that is zeros in every part of parts."""
    text = "g (float[T, N, 3] x) => (float[a, b, c] h) <float[1, 4, 3] w, float[1, 4, 4] r> { one = Constant <value_ints = [1]> () four = Constant <value_ints = [4]> () n = Shape <start = 1, end = 2> (x) size = Concat <axis = 0> (one, n, four) z0 = ConstantOfShape (size)"
    for number in range(length):
        text += (
            f" z{number + 1} = Max (z{number}, z{number})"
            if number % 2
            else f" k{number} = Concat <axis = 0> (z{number}, z{number}) z{number + 1} = Slice (k{number}, zero, one)"
        )
    text = text.replace("{ one =", "{ zero = Constant <value_ints = [0]> () one =")
    return parse(f"{text} q, h = RNN <hidden_size = 4> (x, w, r, , , z{length}) }}", {})


def halved(length: int) -> onnx.ModelProto:
    """A size that is halved and doubled again and again, as in a network of many scales."""
    kernel = {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}
    return alternating(
        length, ("MaxPool", kernel), ("Pad", {"p": np.array([0, 0, 1, 0, 0, 2])}), dims="N, 2, T"
    )  # fmt: skip


def joined(count: int) -> onnx.ModelProto:
    """One axis made of many symbolic ones, which a reshape merges with another."""
    names = [f"x{i}" for i in range(count)]
    declared = ", ".join(f"float[a{i}, b] {name}" for i, name in enumerate(names))
    return parse(
        f"g ({declared}) => (float[s] y) {{ j = Concat <axis = 0> ({', '.join(names)}) m = Constant <value_ints = [-1]> ()"
        f" r = Reshape (j, m) t = Constant <value_ints = [1, -1]> () u = Reshape (r, t) y = Reshape (u, m) }}",
        {},
    )


def turned(length: int) -> onnx.ModelProto:
    """Reshapes and transpositions in turn."""
    return alternating(
        length,
        ("Reshape", {"s": np.array([0, 2, 3, 4])}), ("Transpose", {"perm": [0, 2, 1, 3]}),
        ("Reshape", {"s": np.array([0, 24])}), ("Reshape", {"s": np.array([0, 4, 6])}),
        ("Transpose", {"perm": [0, 2, 1]}), ("Reshape", {"s": np.array([0, 1, 24])}),
        dims="N, 24",
    )  # fmt: skip


def taken_apart(length: int) -> onnx.ModelProto:
    """Rows that a loop puts behind one another, and of which the first is read in the end."""
    nodes, last = [helper.make_node("Unsqueeze", ["x", "zero"], ["s0"])], "s0"
    for number in range(length):
        nodes.append(helper.make_node("Concat", [last, "s0"], [f"s{number + 1}"], axis=0))
        last = f"s{number + 1}"
    nodes += [helper.make_node("Gather", [last, "first"], ["y"], axis=0)]
    nodes += [helper.make_node("Sigmoid", ["y"], ["z"])]
    return graph(nodes, "z", "N, 4", zero=np.array([0]), first=np.array(0))


def weight_squared(length: int) -> onnx.ModelProto:
    """A parameter whose name says that it is the norm of another, multiplied with itself."""
    nodes = [helper.make_node("Mul", [f"w{i}" if i else "w_g"] * 2, [f"w{i + 1}"]) for i in range(length)]
    nodes.append(helper.make_node("Add", ["x", f"w{length}"], ["y"]))
    return graph(nodes, "y", "N, 4", w_g=np.ones(4, np.float32))


GRAPHS = {
    "sums of one value": lambda: chain(60, "Add"),
    "products of one value": lambda: chain(60, "Mul"),
    "quotients": lambda: chain(60, "Div"),
    "powers": lambda: chain(60, "Pow", inputs="xc"),
    "concatenated with itself": lambda: chain(20, "Concat", axis=0),
    "multiplied as matrices": lambda: chain(60, "MatMul", dims="4, 4"),
    "zeros": lambda: zeros_doubled(40),
    "halves": lambda: halved(24),
    "halves of halves": lambda: alternating(
        40,
        ("MaxPool", {"kernel_shape": [2], "strides": [2], "ceil_mode": 1}),
        ("AveragePool", {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
        ("MaxPool", {"kernel_shape": [2], "strides": [2]}),
        dims="N, 2, T",
    ),
    "many sizes": lambda: joined(30),
    "turned": lambda: turned(99),
    "transposed": lambda: alternating(99, ("Transpose", {"perm": [1, 0, 2]}), ("Transpose", {"perm": [0, 2, 1]}), dims="A, B, C"),
    "rows in a loop": lambda: taken_apart(60),
    "a weight and itself": lambda: weight_squared(60),
    "padded": lambda: alternating(60, ("Pad", {"p": np.array([0, 1, 1, 0])}), dims="N, T"),
    "gates of one value": lambda: gates(30),
}  # fmt: skip


def gates(length: int) -> onnx.ModelProto:
    nodes, last = [], "x"
    for number in range(length):
        a, b, c = (f"{name}{number}" for name in "abc")
        nodes += [
            helper.make_node("Mul", [last, last], [a]),
            helper.make_node("Add", [a, last], [b]),
            helper.make_node("Erf" if number % 2 else "Sigmoid", [b], [c]),
            helper.make_node("Mul", [c, b], [f"y{number}"]),
        ]
        last = f"y{number}"
    return graph(nodes, last, "N, 4")


@pytest.mark.parametrize("name", GRAPHS)
def test_as_many_steps_as_nodes_times_a_constant(name: str) -> None:
    proto = GRAPHS[name]()
    model = load(proto)

    def work() -> None:
        with_refusals = plan(simplify(model))
        assert with_refusals.steps

    calls(work, CALLS * (len(proto.graph.node) + 10))


REORDERED = {
    # input, output, weight, the nodes before and behind
    "behind a convolution": ("3, 6, 6", "5", "32, 5", "c = Conv (x, k) s0 = Reshape (c, flat)", "y = MatMul (s600, w)"),
    "before one": ("5", "2, 2, 2", "5, 48", "s0 = MatMul (x, w)", "f = Reshape (s600, image) y = Conv (f, k)"),
}  # fmt: skip


@pytest.mark.parametrize("row", REORDERED.values(), ids=REORDERED)
def test_weights_are_reordered_across_many_nodes(row: tuple[str, ...]) -> None:
    """More than Python's own stack is deep."""
    x, y, w, first, last = row
    links = " ".join(f"s{k + 1} = {'Neg' if k % 2 else 'Relu'} (s{k})" for k in range(600))
    proto = parse(
        f"g (float[N, {x}] x) => (float[N, {y}] y) <float[{w}] w, float[2, 3, 3, 3] k, "
        f"int64[4] image = {{0, 3, 4, 4}}, int64[2] flat = {{0, 32}}> {{ {first} {links} {last} }}",
        {},
    )  # fmt: skip
    assert len(plan(simplify(load(proto))).factor_orders) == 601


def test_a_rule_that_turns_in_a_circle_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    reshapes = importlib.import_module("bridge.passes.simplify_reshapes")
    monkeypatch.setattr(reshapes, "RULES", (lambda node: True,))
    proto = parse("g (float[N, 4] x) => (float[N, 2, 2] y) { s = Constant <value_ints = [0, 2, 2]> () r = Reshape (x, s) y = Relu (r) }", {})  # fmt: skip
    with pytest.raises(InternalError, match="simplify_reshapes.*Reshape"):
        simplify(load(proto))


def test_a_linear_over_one_step_of_time() -> None:
    """As in GPT-2 with its cache: features of (batch, 1, features) in a Dense over (batch, features)."""
    check(
        "g (float[N, 1, 6] x) => (float[N, 1, 3] z) <float[6, 4] w, float[4] b, float[4, 3] v, float[3] c> {"
        " flat = Constant <value_ints = [-1, 6]> () row = Constant <value_ints = [-1, 1, 4]> ()"
        " a = Reshape (x, flat) p = MatMul (a, w) q = Add (p, b) y = Reshape (q, row)"
        " four = Constant <value_ints = [-1, 4]> () third = Constant <value_ints = [-1, 1, 3]> ()"
        " d = Reshape (y, four) e = MatMul (d, v) f = Add (e, c) g = Reshape (f, third) z = Neg (g) }",
        layers=["Dense", "Dense"],
    )


def test_a_table_of_many_rows_is_folded() -> None:
    """As in BERT: positions of type ids, gathered from more rows than ONNX's reference evaluator can."""

    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("types", torch.arange(512).reshape(512, 1).expand(512, 3).clone() % 7)
            self.register_buffer("index", torch.arange(511, -1, -1).reshape(512, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.gather(self.types, 0, self.index)[:4, 0]

    assert bridge.convert(Positions().eval(), torch.randn(3, 4)).report.verified


class Attention(nn.Module):
    """One step of GPT-2's attention: a Dense over (batch, features), heads split off, keys and values joined."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> Any:
        flat = torch.addmm(self.qkv.bias, x.view(-1, 8), self.qkv.weight.T).view(x.shape[0], 1, 24)
        q, k, v = (part.view(x.shape[0], 1, 2, 4).transpose(1, 2) for part in flat.split(8, 2))
        keys, values = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        y = nn.functional.scaled_dot_product_attention(q, keys, values)
        y = y.transpose(1, 2).reshape(x.shape[0], 1, 8)
        return x + torch.addmm(self.out.bias, y.view(-1, 8), self.out.weight.T).view(x.shape), keys, values


def test_one_step_with_keys_and_values() -> None:
    torch.manual_seed(0)
    past = {0: "batch", 2: "past"}
    example = torch.randn(2, 1, 8), torch.randn(2, 2, 5, 4), torch.randn(2, 2, 5, 4)
    report = bridge.convert(Attention().eval(), example, dynamic_shapes=({0: "batch"}, past, past)).report
    assert report.verified
    assert not report.custom_layers
