"""Recurrent layers: ONNX's forms as rows, and one grid of torch's own through the whole path.

Every row is converted, proved against onnxruntime (and torch) at three sizes, and must be native where Keras can
say it.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import onnx.helper as helper
import onnx.numpy_helper
import pytest
import torch
from checking import check, parse
from recurrent_graphs import GATES, HIDDEN, INPUT, onnx_model
from sampling import every
from torch import nn

import bridge

torch.set_num_threads(1)
NATIVE = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "SimpleRNN"}


def rows() -> list[tuple[str, dict[str, Any]]]:
    directions = ("forward", "reverse", "bidirectional")
    common = [
        *({"direction": d} for d in directions),
        *({"direction": d, "lengths": True} for d in directions),
        {"direction": "bidirectional", "lengths": True, "state": True},
        {"bias": False, "state": True},
        {"outputs": "y"},
        {"outputs": "h"},
        {"direction": "bidirectional", "outputs": "h"},
        {"direction": "bidirectional", "computed": True},
    ]
    cases = [(op, row) for op in GATES for row in common]
    cases += [("GRU", row | {"linear_before_reset": 1}) for row in common]
    return cases


CUSTOM: list[tuple[str, dict[str, Any]]] = [
    *((op, {"clip": 0.3}) for op in GATES),
    ("GRU", {"clip": 0.3, "linear_before_reset": 1, "direction": "bidirectional"}),
    ("LSTM", {"peepholes": True, "direction": "bidirectional", "state": True}),
    ("LSTM", {"peepholes": True, "direction": "bidirectional", "lengths": True, "clip": 0.4}),
    ("LSTM", {"input_forget": 1}),
    ("LSTM", {"activations": ["Sigmoid", "Tanh", "Relu"]}),
    (
        "LSTM",
        {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_alpha": [0.2], "activation_beta": [0.5]},
    ),
    (
        "LSTM",
        {
            "activations": ["HardSigmoid", "Tanh", "Tanh"],
            "activation_alpha": [1 / 6],
            "activation_beta": [0.4],
        },
    ),
    ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.1]}),
    ("RNN", {"activations": ["Elu"], "activation_alpha": [0.5]}),
    ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.3]}),
    ("RNN", {"activations": ["Tanh", "LeakyRelu"], "activation_alpha": [0.3], "direction": "bidirectional"}),
    (
        "GRU",
        {
            "activations": ["HardSigmoid", "ScaledTanh"],
            "activation_alpha": [0.2, 0.9],
            "activation_beta": [0.5, 0.8],
        },
    ),
]
ACTIVATED: list[tuple[str, dict[str, Any]]] = [
    ("RNN", {"activations": ["Relu"]}),
    ("GRU", {"activations": ["Sigmoid", "Softsign"]}),
    (
        "LSTM",
        {
            "activations": ["HardSigmoid", "Tanh", "Tanh"],
            "activation_alpha": [1 / 6],
            "activation_beta": [0.5],
        },
    ),
    ("GRU", {"activations": ["LeakyRelu", "Elu"], "activation_alpha": [0.2, 1.0]}),
    ("RNN", {"activations": ["Affine"], "activation_alpha": [1.0], "activation_beta": [0.0]}),
    (
        "LSTM",
        {"activations": ["Sigmoid", "Tanh", "Tanh", "Sigmoid", "Relu", "Relu"], "direction": "bidirectional"},
    ),
]


@pytest.mark.parametrize("axes", ["", ", one", ", last"])
def test_a_sequence_without_its_axis_of_directions(axes):
    """As old exporters squeeze it: by no axes, by the first, by one counted from the end."""
    check(
        "g (float[3, 2, 4] x) => (float[3, 2, 5] y) <float[1, 15, 4] w, float[1, 15, 5] r, int64[1] one = {1}, "
        f"int64[1] last = {{-3}}> {{ q, h = GRU <hidden_size = 5> (x, w, r) y = Squeeze (q{axes}) }}",
        layers=["GRU"], transposes=None,
    )  # fmt: skip


def text(case: tuple[str, dict[str, Any]]) -> str:
    op, row = case
    return "-".join([op, *(f"{key}={value}" for key, value in row.items())]).replace(" ", "")


@pytest.mark.parametrize("case", every(2, [*rows(), *ACTIVATED]), ids=text)
def test_native(case: tuple[str, dict[str, Any]]) -> None:
    op, row = case
    report = bridge.convert(onnx_model(op, **row)).report
    assert report.verified
    layers = {made.layer for made in report.rows if op in made.op}
    assert layers == {"Bidirectional" if row.get("direction") == "bidirectional" else NATIVE[op]}
    assert not report.custom_layers


@pytest.mark.parametrize("case", CUSTOM, ids=text)
def test_a_registered_cell_where_keras_has_none(case: tuple[str, dict[str, Any]], tmp_path) -> None:
    import keras

    op, row = case
    conversion = bridge.convert(onnx_model(op, **row))
    assert conversion.report.verified
    loaded = keras.saving.load_model(conversion.save(tmp_path / "cell.keras"), safe_mode=True)
    inputs = [
        np.random.default_rng(0).normal(size=[d or 4 for d in x.shape]).astype("float32")
        for x in loaded.inputs
    ]
    for i, x in enumerate(loaded.inputs):
        if "int" in x.dtype:
            inputs[i] = np.array([4, 2, 3, 1], "int32")
    given = inputs if len(inputs) > 1 else inputs[0]
    for again, once in zip(loaded(given), conversion.model(given), strict=True):
        np.testing.assert_array_equal(again, once)


@pytest.mark.parametrize("op", GATES)
def test_layout_one_is_batch_first(op: str) -> None:
    """onnxruntime cannot run layout=1, so the proof is the same weights in layout 0, transposed."""
    transposed = {"X": (1, 0, 2), "h0": (1, 0, 2), "c0": (1, 0, 2)}
    plain = onnx_model(op, direction="bidirectional", state=True)
    other = onnx_model(op, direction="bidirectional", state=True, layout=1)
    for value in other.graph.input:
        dims = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        value.CopyFrom(
            helper.make_tensor_value_info(value.name, 1, [dims[axis] for axis in transposed[value.name]])
        )
    first = bridge.convert(plain)
    second = bridge.convert(other, verify=False)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=[{0: 7, 1: 4}.get(i, d) if d is None else d for i, d in enumerate(x.shape)]).astype("f")
              for x in first.model.inputs]  # fmt: skip
    want = first.model(inputs)
    got = second.model([x.transpose(1, 0, 2) for x in inputs])
    for (a, b), perm in zip(zip(got, want, strict=True), [(2, 0, 1, 3)] + [(1, 0, 2)] * 2, strict=False):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b).transpose(perm), atol=1e-6)


class Around(nn.Module):
    """A recurrent module and the choice of its outputs that a network makes."""

    def __init__(self, rnn: nn.Module, pick: str):
        super().__init__()
        self.rnn, self.pick = rnn, pick

    def forward(self, x: torch.Tensor, *state: torch.Tensor) -> Any:
        y, final = self.rnn(x, state if len(state) > 1 else state[0] if state else None)
        time = 1 if self.rnn.batch_first else 0
        match self.pick:
            case "sequence":
                return y
            case "last":
                return y.select(time, -1)
            case "final":
                return final
            case "h_n":
                return final[0] if isinstance(final, tuple) else final
            case "c_n":
                return final[1] if isinstance(final, tuple) else final
        return y, final


TORCH = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
PICKS = ("sequence", "last", "final", "h_n", "c_n", "all")


def grid() -> list[tuple[str, dict[str, Any], bool, str]]:
    """Rows that show every pair of settings at least once for each kind, and all of them in turn."""
    cases = []
    settings = itertools.product(TORCH, (1, 2, 3), (False, True))
    for number, (kind, layers, both) in enumerate(settings):
        options: dict[str, Any] = {"num_layers": layers, "bidirectional": both}
        options["batch_first"] = bool((number // 2 + number) % 2)
        options["bias"] = number % 3 != 0
        if layers > 1:
            options["dropout"] = 0.3
        if kind == "RNN" and number % 2:
            options["nonlinearity"] = "relu"
        cases.append((kind, options, number % 4 < 2, PICKS[number % len(PICKS)]))
    cases += [
        ("LSTM", {"proj_size": 2}, False, "all"),
        ("LSTM", {"proj_size": 2, "num_layers": 2, "bidirectional": True, "bias": False}, True, "all"),
    ]
    return cases


@pytest.mark.parametrize("case", every(2, grid()), ids=str)
def test_torch(case: tuple[str, dict[str, Any], bool, str]) -> None:
    kind, options, with_state, pick = case
    torch.manual_seed(0)
    module = Around(TORCH[kind](INPUT, HIDDEN, **options), pick).eval()
    axes = {0: "batch", 1: "time"} if options.get("batch_first") else {0: "time", 1: "batch"}
    args = [torch.randn(4, 7, INPUT)]
    batch = 4 if options.get("batch_first") else 7
    rows = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    sizes = [options.get("proj_size") or HIDDEN, *([HIDDEN] if kind == "LSTM" else [])] if with_state else []
    args += [torch.randn(rows, batch, size) for size in sizes]
    shapes = (axes, tuple({1: "batch"} for _ in sizes)) if sizes else (axes,)
    conversion = bridge.convert(
        module, tuple(args), dynamic_shapes=shapes, verify=bridge.Verify(float64=True)
    )
    report = conversion.report
    assert report.verified
    made = [row for row in report.rows if kind in row.op]
    assert len(made) == options.get("num_layers", 1)
    if "proj_size" not in options:
        assert {row.layer for row in made} == {"Bidirectional" if options["bidirectional"] else NATIVE[kind]}
    dropouts = [row for row in report.rows if row.layer == "Dropout"]
    assert len(dropouts) == (options["num_layers"] - 1 if "dropout" in options else 0)
    for name, value in module.state_dict().items():
        assert torch.equal(conversion.weights.to_torch()[name], value), name


@pytest.mark.parametrize("kind", TORCH)
def test_unbatched_input(kind: str) -> None:
    module = TORCH[kind](INPUT, HIDDEN).eval()
    assert bridge.convert(module, torch.randn(7, INPUT), dynamic_shapes=({0: "time"},)).report.verified


FED = {
    "the state starts another": "y, s = RNN <hidden_size = 4> (x, a, p) q, h = RNN <hidden_size = 4> (x, b, p, , , s)",
    "the state is a sequence": "y, s = RNN <hidden_size = 4> (x, a, p) q, h = RNN <hidden_size = 4> (s, c, p)",
    "the state is a sequence from itself": "y, s = RNN <hidden_size = 4> (x, a, p) q, h = RNN <hidden_size = 4> (s, c, p, , , s)",
    "both states are a sequence of two": 'y, s = RNN <hidden_size = 4, direction = "bidirectional"> (x, aa, pp) q, h = RNN <hidden_size = 4> (s, c, p)',
    "an input is a state and a step": "y, s = RNN <hidden_size = 4> (i, c, p, , , i) q, h = RNN <hidden_size = 4> (x, b, p, , , s)",
}


@pytest.mark.parametrize("nodes", FED.values(), ids=FED)
def test_one_feeds_another(nodes: str) -> None:
    shapes = {
        "a": (1, 4, 3),
        "b": (1, 4, 3),
        "c": (1, 4, 4),
        "p": (1, 4, 4),
        "aa": (2, 4, 3),
        "pp": (2, 4, 4),
    }
    read = {name.strip(",)") for name in nodes.split()}
    weights = ", ".join(
        f"float[{', '.join(map(str, s))}] {name}" for name, s in shapes.items() if read & {name, f"({name}"}
    )
    given = "float[T, N, 3] x, float[1, N, 4] i" if " (i," in nodes else "float[T, N, 3] x"
    header = '<ir_version: 10, opset_import: ["": 22]>'
    model = parse(f"{header} g ({given}) => (float[one, N, 4] h) <{weights}> {{ {nodes} }}", {})
    assert bridge.convert(model).report.verified


@pytest.mark.parametrize("row", [{}, {"lengths": True}, {"clip": 0.1}], ids=str)
@pytest.mark.parametrize("op", GATES)
def test_over_constants(op: str, row: dict[str, Any]) -> None:
    """A layer all of whose inputs a file holds, one output of which nobody asked for."""
    proto = onnx_model(op, outputs="h", **row)
    held = {"X": np.random.default_rng(0).standard_normal((6, 4, INPUT)).astype(np.float32)}
    held |= {"lengths": np.array([1, 6, 2, 3], np.int32)} if "lengths" in row else {}
    graph = proto.graph
    graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in held.items())
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", HIDDEN]))
    graph.output.append(helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1, "n", HIDDEN]))
    pick = onnx.numpy_helper.from_array(np.array([1]), "one")
    graph.initializer.append(pick)
    graph.node.append(helper.make_node("Gather", ["final_h", "one"], ["row"], axis=1))
    graph.node.append(helper.make_node("Add", ["row", "x"], ["z"]))
    assert bridge.convert(proto).report.proved


def test_a_state_of_zeros_that_a_file_gives_is_no_parameter() -> None:
    built = check(
        "g (float[T, 2, 3] x) => (float[T, 1, 2, 2] y) <float[1, 8, 3] w, float[1, 8, 2] r, float[1, 1, 2] h = {0, 0}, "
        "float[1, 2, 2] c = {0, 0, 0, 0}, int64[3] s = {1, 2, 2}> "
        "{ e = Expand (h, s) y = LSTM <hidden_size = 2> (x, w, r, , , e, c) }",
        layers=["LSTM"],
        transposes=2,
    )
    assert set(built.weights.state.values) == {"w", "r"}
