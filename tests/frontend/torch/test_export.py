"""The torch door: what the cures keep, which axes stay free, and what is said of those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from calls import Call
from sampling import slow
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.onnx._internal.exporter._registration import ONNXRegistry

import bridge
from bridge import passes
from bridge.frontend.torch.registry import read_once

torch.set_num_threads(1)


POOLS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 2, "dilation": 2, "stride": 1},
]


@pytest.mark.parametrize("options", POOLS, ids=str)
def test_max_pool_over_a_free_length(options) -> None:
    module = nn.Sequential(nn.Conv1d(5, 3, 1), nn.MaxPool1d(**options)).eval()
    shapes = ({0: "batch", 2: "time"},)
    assert bridge.convert(module, torch.randn(3, 5, 10), dynamic_shapes=shapes).report.verified


def test_the_batch_axis_is_free_by_default_and_the_report_says_which_are_fixed() -> None:
    report = bridge.convert(nn.Sequential(nn.Linear(4, 3)).eval(), torch.randn(2, 5, 4)).report
    assert [axis.size for axis in report.inputs[0].axes] == [None, 5, 4]


def test_a_time_major_layer_has_its_batch_on_axis_one() -> None:
    report = bridge.convert(nn.GRU(4, 3).eval(), (torch.randn(6, 2, 4), torch.randn(1, 2, 3))).report
    assert [[axis.size for axis in value.axes] for value in report.inputs] == [[None, None, 4], [1, None, 3]]


def test_an_axis_that_forward_loops_over_is_fixed_and_said_to_be() -> None:
    def steps(self, x):
        h = None
        for t in range(x.shape[0]):
            h = self.cell(x[t], h)
        return h

    module = Call(steps, cell=nn.GRUCell(4, 3)).eval()
    report = bridge.convert(module, torch.randn(3, 2, 4)).report
    assert [axis.size for axis in report.inputs[0].axes][0] == 3
    with pytest.raises(bridge.ExportError, match="axis 0|shape\\[0\\]"):
        bridge.convert(module, torch.randn(3, 2, 4), dynamic_shapes=({0: "time"},))


def packed(total: bool, padding: float = 0.0, sort: bool = False):
    def forward(self, x, lengths):
        batch = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=sort)
        y, final = self.rnn(batch)
        whole = x.shape[1] if total else None
        return *pad_packed_sequence(y, batch_first=True, padding_value=padding, total_length=whole), final

    return forward


@pytest.mark.parametrize("padding", [0.0, -2.0])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_packed_sequences(kind: type[nn.RNNBase], padding: float) -> None:
    module = Call(packed(True, padding), rnn=kind(4, 3, bidirectional=True, batch_first=True)).eval()
    args = (torch.randn(3, 6, 4), torch.tensor([2, 6, 3]))
    report = bridge.convert(module, args, dynamic_shapes=({0: "batch", 1: "time"}, {0: "batch"})).report
    assert report.verified
    assert not report.custom_layers
    assert [row.layer for row in report.rows if kind.__name__ in row.op] == ["Bidirectional"]


def test_packed_without_total_length_is_noted() -> None:
    module = Call(packed(False, sort=True), rnn=nn.GRU(4, 3, batch_first=True)).eval()
    args = (torch.randn(3, 6, 4), torch.tensor([6, 3, 2]))
    report = bridge.convert(module, args, dynamic_shapes=({0: "batch", 1: "time"}, {0: "batch"})).report
    assert any("outputs keep the whole time of the input" in note for note in report.notes)


AFTER_PACKING = {  # what is made of sequences that torch cuts at the longest, and whether it hangs on the cut
    "themselves": (lambda y: y, True),
    "two outputs": (lambda y: (y, y.sum(1)), True),
    "convolved": (lambda y: nn.functional.conv1d(y.mT, torch.ones(2, 3, 3), padding=1), True),
    "mean": (lambda y: y.mean(1), False),
    "smallest": (lambda y: y.square().amin(1), False),
    "turned": (lambda y: y.flip(1), False),
    "scaled": (lambda y: y * y.shape[1], False),
    "flat": (lambda y: y.flatten(0, 1), False),
    "last": (lambda y: y[:, -1], False),
}


@pytest.mark.parametrize(("after", "equal"), AFTER_PACKING.values(), ids=AFTER_PACKING)
@pytest.mark.parametrize("longest", [6, slow(5)])
def test_what_torch_cuts_at_the_longest_sequence(after, equal, longest) -> None:
    def forward(self, x, lengths):
        batch = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return after(pad_packed_sequence(self.rnn(batch)[0], batch_first=True)[0])

    module = Call(forward, rnn=nn.GRU(4, 3, batch_first=True)).eval()
    args = (torch.randn(3, 6, 4), torch.tensor([3, longest, 2]))
    free = ({0: "batch", 1: "time"}, {0: "batch"})
    if equal:
        assert bridge.convert(module, args, dynamic_shapes=free).report.proved
        return
    with pytest.raises(bridge.MismatchError, match=r"pad_packed_sequence: .*total_length=x.shape\[1\]"):
        bridge.convert(module, args, dynamic_shapes=free)


def test_the_mask_of_a_packed_layer_ends_with_it() -> None:
    """Keras would hand it on to the loss, which torch knows nothing of."""
    module = Call(packed(True), rnn=nn.LSTM(4, 3, batch_first=True)).eval()
    args = (torch.randn(3, 6, 4), torch.tensor([2, 6, 3]))
    model = bridge.convert(module, args).model
    assert all(getattr(output, "_keras_mask", None) is None for output in model.outputs)


def test_torch_is_as_it_was() -> None:
    before = (torch._VF.lstm, nn.LSTM.forward, pack_padded_sequence.__code__, torch.max_pool1d)
    bridge.convert(nn.LSTM(4, 3).eval(), torch.randn(6, 2, 4), verify=False)
    assert before == (torch._VF.lstm, nn.LSTM.forward, pack_padded_sequence.__code__, torch.max_pool1d)


def test_training_mode_is_kept() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.2)).train()
    report = bridge.convert(module, torch.randn(2, 4)).report
    assert module.training
    assert [row.layer for row in report.rows] == ["Dense", "Dropout"]


class Alike(nn.Module):
    """Its parameters are called as its input, its output and operators are."""

    names = ("x", "mul", "add", "sigmoid", "index", "output_0")

    def __init__(self) -> None:
        super().__init__()
        for name in self.names:
            setattr(self, name, nn.Parameter(torch.randn(4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        order = torch.tensor([3, 1, 2, 0])
        return (
            torch.sigmoid((x * self.mul + self.add)[:, order] * self.index + self.x) * self.sigmoid
            + self.output_0
        )


def test_parameters_called_as_values_are() -> None:
    result = bridge.convert(Alike().eval(), torch.randn(3, 4), verify=bridge.Verify(training=True))
    assert result.report.trainable == 24
    assert {name for entry in result.weights for name in entry.recipe.names} == set(Alike.names)


class Keeps(nn.Module):
    """As LeViT does: in evaluation mode the biases are looked up once."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(3, 5))
        self.register_buffer("index", torch.tensor([4, 0, 2, 2]))
        self.kept = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            return x[:, None] * self.table[:, self.index]
        if "biases" not in self.kept:
            self.kept["biases"] = self.table[:, self.index]
        return x[:, None] * self.kept["biases"]


def test_what_a_module_keeps_between_calls_is_no_constant() -> None:
    module = Keeps().eval()
    report = bridge.convert(module, torch.randn(2, 4), verify=bridge.Verify(training=True)).report
    assert report.trainable == report.source_parameters == 15
    assert not module.kept


@pytest.mark.parametrize("kind", [nn.Linear, nn.LSTM])
def test_an_exported_program_on_disk(kind: type[nn.Module], tmp_path: Path) -> None:
    module = Call(lambda self, x: self.part(x), part=kind(4, 3)).eval()
    shapes = ({0: torch.export.Dim.AUTO},)
    program = torch.export.export(module, (torch.randn(5, 2, 4),), dynamic_shapes=shapes)
    path = tmp_path / "program.pt2"
    torch.export.save(program, path)
    conversion = bridge.convert(path)
    assert conversion.report.verified
    assert set(conversion.weights.state.values) == set(module.state_dict())


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "program.pt2"
    path.write_bytes(b"nothing")
    with pytest.raises(bridge.SourceError, match="not an ExportedProgram"):
        bridge.convert(path)


def test_a_submodule_name_that_torch_keeps_for_itself() -> None:
    module = Call(lambda self, x: self.code(x), code=nn.Linear(4, 3)).eval()
    with pytest.raises(bridge.ExportError, match="a submodule is called 'code'.*rename it"):
        bridge.convert(module, torch.randn(2, 4))


def test_layers_on_a_constant_are_the_models() -> None:
    """A table of biases that two layers make of fixed positions, as in Swin Transformer V2."""
    positions = torch.arange(8.0).view(4, 2)
    made = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3))
    module = Call(lambda self, x: x + self.made(positions), made=made).eval()
    conversion = bridge.convert(module, torch.randn(2, 4, 3))
    assert conversion.report.verified
    assert conversion.report.trainable == sum(p.numel() for p in module.parameters())


def test_known_rows_of_a_table_are_an_embedding() -> None:
    """A table of biases read at fixed positions, as in Swin Transformer."""
    rows = torch.tensor([[0, 1, 2, 3], [3, 2, 8, 5]])
    module = Call(lambda self, x: x + self.table[rows], table=nn.Parameter(torch.randn(9, 3))).eval()
    report = bridge.convert(module, torch.randn(2, 2, 4, 3)).report
    assert [(row.layer, row.parameters) for row in report.rows if row.layer != "Add"][0] == ("Embedding", 27)


def test_chunks_of_a_free_axis() -> None:
    module = Call(lambda self, x: torch.cat(torch.chunk(torch.cat([x, 2 * x]), 2), 1)).eval()
    assert bridge.convert(module, torch.randn(2, 3)).report.verified


def test_attention_with_a_trained_bias() -> None:
    def attend(self, x):
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)
        bias = self.bias.expand(len(x), -1, -1, -1)
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return y.transpose(1, 2).reshape(x.shape)

    parts = {"qkv": nn.Linear(8, 24), "bias": nn.Parameter(torch.randn(1, 2, 5, 5))}
    report = bridge.convert(Call(attend, **parts).eval(), torch.randn(2, 5, 8)).report
    assert report.verified
    assert report.trainable == report.source_parameters


@pytest.mark.parametrize("axes", [(), (2,), (2, 3, 2)], ids=["one head", "heads", "heads of windows"])
def test_attention_over_any_number_of_axes(axes) -> None:
    def attend(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return nn.functional.scaled_dot_product_attention(q, k, v)

    module = Call(attend, qkv=nn.Linear(4, 12)).eval()
    assert bridge.convert(module, torch.randn(2, *axes, 5, 4)).report.verified


def test_queries_of_all_heads_share_keys_and_values() -> None:
    def attend(self, x):
        q, k, v = self.queries(x).view(len(x), -1, 3, 4), self.keys(x), self.values(x)
        return nn.functional.scaled_dot_product_attention(q.transpose(1, 2), k[:, None], v[:, None])

    module = Call(attend, queries=nn.Linear(4, 12), keys=nn.Linear(4, 4), values=nn.Linear(4, 4)).eval()
    assert bridge.convert(module, torch.randn(2, 5, 4)).report.verified


@pytest.mark.parametrize("channels", [slice(0, 6), slice(0, 4), slice(2, 5)], ids=str)
def test_a_sum_into_some_channels_moves_no_axis(channels) -> None:
    def forward(self, x):
        y = self.first(x)
        y[:, channels] += 1
        return self.second(y)

    module = Call(forward, first=nn.Conv2d(3, 6, 1), second=nn.Conv2d(6, 2, 1)).eval()
    report = bridge.convert(module, torch.randn(2, 3, 4, 5)).report
    assert report.verified
    assert report.transposes == 2
    assert "ScatterND" not in [row.op for row in report.rows]


def test_shapes_behind_parts_are_found_at_once(monkeypatch) -> None:
    def forward(self, x):
        for _ in range(6):
            a, b = self.layer(x).chunk(2, -1)
            x = a * b
        return x

    calls = []
    found = passes.infer_shapes
    monkeypatch.setattr(passes, "infer_shapes", lambda model: calls.append(found(model)))
    assert bridge.convert(Call(forward, layer=nn.Linear(4, 8)).eval(), torch.randn(2, 4)).report.verified
    assert len(calls) < 4


def test_translations_of_our_own_stay_out_of_the_registry_that_is_read_once() -> None:
    bridge.convert(nn.LSTM(3, 4), torch.zeros(2, 5, 3), verify=False)
    before = ONNXRegistry.from_torchlib
    with read_once():
        registry = ONNXRegistry.from_torchlib()
        assert "bridge::recurrent" not in registry.functions
        assert len(registry.functions) > 400
        registry.functions["aten::relu"].clear()
        assert ONNXRegistry.from_torchlib().functions["aten::relu"]
    assert ONNXRegistry.from_torchlib == before
