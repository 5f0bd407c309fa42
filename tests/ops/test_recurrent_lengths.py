"""Rows of every length, whatever is used of a recurrent layer: shorter than the time axis all of them, of one step, of
none. onnxruntime says what is right; torch where a sequence was packed."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from recurrent_graphs import GATES, onnx_model
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import bridge

LENGTHS = (
    (4, (2, 3, 1)),
    (5, (1, 1)),
    (3, (0, 2, 0)),
    (1, (1, 0)),
    (6, (6, 2, 0, 5)),
)  # time, that of each row
DIRECTIONS = ("forward", "reverse", "bidirectional")
TORCH = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
Case = tuple[str, dict[str, Any]]


def every_case() -> list[Case]:
    """Each operator, direction, way to start and choice of outputs, in Keras's own layers and in ours."""
    variants = {
        "LSTM": [{}, {"clip": 0.3}, {"peepholes": True}, {"input_forget": 1}],
        "GRU": [{}, {"clip": 0.3}, {"linear_before_reset": 1}, {"linear_before_reset": 1, "clip": 0.4}],
        "RNN": [{}, {"clip": 0.3}],
    }
    chosen = {
        "LSTM": ("y", "h", "c", "yh", "hc", "yc", "yhc"),
        "GRU": ("y", "h", "yh"),
        "RNN": ("y", "h", "yh"),
    }
    return [
        (op, row | {"direction": direction, "state": state, "outputs": outputs, "lengths": True})
        for op in GATES
        for row, direction, state, outputs in itertools.product(
            variants[op], DIRECTIONS, (False, True), chosen[op]
        )
    ]


def few() -> list[Case]:
    """Those that use a state alone from Keras's own layers, and some of the others."""
    cases = every_case()
    alone = [
        case for case in cases if case[1]["outputs"] == "h" and not set(case[1]) & {"clip", "peepholes", "input_forget"}
    ]  # fmt: skip
    return [*alone, *(case for case in cases[::23] if case not in alone)]


def text(case: Case) -> str:
    op, row = case
    return "-".join([op, *(f"{key}={value}" for key, value in row.items() if key != "lengths")])


def assert_equal(proto: onnx.ModelProto, *models: keras.Model) -> None:
    """The models give what onnxruntime gives for `proto`, for all of `LENGTHS`."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for time, lengths in LENGTHS:
        rng, sizes = np.random.default_rng(time), {"T": time, "N": len(lengths)}
        feeds = {
            value.name: rng.normal(
                size=[sizes.get(dim.dim_param, dim.dim_value) for dim in value.type.tensor_type.shape.dim]
            ).astype("float32")
            for value in proto.graph.input
        }
        feeds["lengths"] = np.array(lengths, "int32")
        wanted = session.run(None, feeds)
        for model in models:
            given = model(list(feeds.values()))
            for want, got in zip(wanted, given if isinstance(given, list | tuple) else [given], strict=True):
                got = keras.ops.convert_to_numpy(got)
                np.testing.assert_allclose(got, want, atol=1e-5, err_msg=f"time {time}, {lengths}")


@pytest.mark.parametrize("case", few(), ids=text)
def test_lengths(case: Case, tmp_path) -> None:
    op, row = case
    proto = onnx_model(op, **row)
    conversion = bridge.convert(proto, verify=False)
    assert_equal(proto, conversion.model)
    if row["state"]:
        assert_equal(proto, keras.saving.load_model(conversion.save(tmp_path / "rows.keras")))


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in every_case() if case not in few()], ids=text)
def test_lengths_in_every_combination(case: Case) -> None:
    op, row = case
    proto = onnx_model(op, **row)
    assert_equal(proto, bridge.convert(proto, verify=False).model)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_lengths_where_weights_are_inputs(op: str, direction: str) -> None:
    row: dict[str, Any] = {"direction": direction, "state": True, "lengths": True, "outputs": "h"}
    proto, free = onnx_model(op, **row), onnx_model(op, **row)
    weights = list(free.graph.initializer)
    for tensor in weights:
        dims, kind = list(tensor.dims), tensor.data_type
        free.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, kind, dims))
    del free.graph.initializer[:]
    given = [onnx.numpy_helper.to_array(tensor) for tensor in weights]
    model = bridge.convert(free, verify=False).model
    assert_equal(proto, lambda feeds: model([*feeds, *given]))


class Packed(nn.Module):
    """A recurrent module over rows of any order of lengths, and what a network takes of it."""

    def __init__(self, rnn: nn.RNNBase, pick: str):
        super().__init__()
        self.rnn, self.pick = rnn, pick

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> Any:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, final = self.rnn(packed)
        hidden, cell = final if isinstance(final, tuple) else (final, final)
        if self.pick in ("h_n", "c_n", "last"):
            return {"h_n": hidden, "c_n": cell, "last": hidden[-1]}[self.pick]
        if self.pick == "both":
            return torch.cat([hidden[-2], hidden[-1]], 1)
        y = pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0]
        return y[torch.arange(y.shape[0]), lengths - 1] if self.pick == "at the end" else (y, hidden)


@pytest.mark.parametrize(
    ("kind", "pick"),
    [("LSTM", "h_n"), ("GRU", "last"), ("RNN", "both"), ("GRU", "at the end"), ("LSTM", "all")]
    + [
        pytest.param(kind, pick, marks=pytest.mark.slow)
        for kind, pick in (("LSTM", "c_n"), ("LSTM", "last"), ("LSTM", "both"), ("GRU", "all"))
    ],
)
def test_packed(kind: str, pick: str) -> None:
    torch.manual_seed(0)
    both = pick in ("both", "all")
    module = Packed(TORCH[kind](3, 5, batch_first=True, bidirectional=both), pick).eval()
    example = torch.randn(4, 5, 3), torch.tensor([2, 5, 1, 4])
    conversion = bridge.convert(module, example, dynamic_shapes=({0: "batch", 1: "time"}, {0: "batch"}))
    assert not conversion.report.custom_layers
    x, lengths = torch.randn(3, 7, 3), torch.tensor([2, 6, 3])
    with torch.no_grad():
        wanted = module(x, lengths)
    given = conversion.model([x.numpy(), lengths.numpy()])
    several = isinstance(wanted, tuple)
    for want, got in zip(wanted if several else [wanted], given if several else [given], strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(got), want.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("pick", "both"),
    [("h_n", False), ("all", True)]
    + [
        pytest.param(*row, marks=pytest.mark.slow) for row in (("c_n", False), ("last", True), ("both", True))
    ],
)
def test_packed_with_a_projection(pick: str, both: bool) -> None:
    torch.manual_seed(0)
    rnn = nn.LSTM(3, 5, batch_first=True, bidirectional=both, proj_size=2)
    example = torch.randn(4, 5, 3), torch.tensor([2, 5, 1, 4])
    shapes = ({0: "batch", 1: "time"}, {0: "batch"})
    assert bridge.convert(Packed(rnn, pick).eval(), example, dynamic_shapes=shapes).report.verified
