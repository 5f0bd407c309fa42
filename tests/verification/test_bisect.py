"""Faults put into the export, a pass, the build and into training are found at their node, with why and by itself."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from keras import ops
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import bridge
from bridge import passes
from bridge.frontend import source
from bridge.graph.rewriting import all_nodes
from bridge.verification.bisect.origin import BUILD, EXPORT, FORMULA, UNKNOWN, Origin

torch = pytest.importorskip("torch")


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Dropout(0.25))
        self.norm = torch.nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.first(x))
        return torch.softmax(y, -1) + x


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return Net().eval()


def set_attribute(name: str, attribute: ir.Attr) -> Callable[[ir.Model], None]:
    def change(model: ir.Model) -> None:
        for node in all_nodes(model):
            if node.op_type == name:
                node.attributes.add(attribute)

    return change


AXIS = set_attribute("Softmax", ir.AttrInt64("axis", 0))


@pytest.fixture
def exported_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Another graph than torch exports."""
    load = source.load_torch

    def put(change: Callable[[ir.Model], None]) -> None:
        def changed(*given: object) -> source.Source:
            right = load(*given)
            change(right.model)
            return right

        monkeypatch.setattr("bridge.frontend.source.load_torch", changed)

    return put


def departs(net: torch.nn.Module, **verify: bool) -> tuple[Origin, bridge.MismatchError]:
    with pytest.raises(bridge.MismatchError) as caught:
        bridge.convert(net, torch.randn(3, 4), verify=bridge.Verify(**verify))
    assert caught.value.report.origin is not None
    return caught.value.report.origin, caught.value


def test_at_the_export(net, exported_with):
    exported_with(AXIS)
    found, error = departs(net)
    assert (found.stage, found.op, found.why) == (EXPORT, "Softmax", FORMULA)
    assert found.line.startswith("test_bisect.py:")
    assert found.nodes == (found.output,)
    assert [handed.error <= found.floor for handed in found.inputs] == [True]
    assert error.reproducer is not None


def spoil_before(monkeypatch: pytest.MonkeyPatch, change: Callable[[ir.Model], None]) -> None:
    """A pass before most others."""

    def spoil(model: ir.Model) -> None:
        change(model)

    monkeypatch.setattr(passes, "PASSES", (passes.PASSES[0], spoil, *passes.PASSES[1:]))


def test_at_a_pass(net, monkeypatch):
    spoil_before(monkeypatch, AXIS)
    found, _ = departs(net)
    assert (found.stage, found.op, found.why) == ("pass spoil", "Softmax", FORMULA)


def test_at_the_build_with_a_reproducer(net, build_with, tmp_path):
    build_with("Softmax", lambda x, *, axis=-1: ops.softmax(x, axis=0))
    found, error = departs(net)
    assert (found.stage, found.op, found.why) == (BUILD, "Softmax", FORMULA)
    assert found.alone > 0.01 > 1e-5 > found.rounding
    assert found.sensitivity < 1e-5
    folder = error.reproducer.save(tmp_path / "it")
    node = onnx.load(folder / "node.onnx")
    assert [one.op_type for one in node.graph.node] == ["Softmax"]
    with (
        np.load(folder / "inputs.npz", allow_pickle=False) as inputs,
        np.load(folder / "outputs.npz") as outputs,
    ):
        run = onnxruntime.InferenceSession(node.SerializeToString())
        np.testing.assert_allclose(run.run(None, dict(inputs))[0], outputs["wanted_0"], 1e-6)
        assert np.abs(outputs["wanted_0"] - outputs["got_0"]).max() > 0.01
    assert json.loads((folder / "keras.json").read_text()) == []


def test_a_layer_comes_with_its_configuration(net, build_with, tmp_path):
    build_with("Tanh", lambda x: ops.sin(x))
    _, error = departs(net)
    folder = error.reproducer.save(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [
        "inputs.npz",
        "keras.json",
        "node.onnx",
        "outputs.npz",
    ]


def test_in_float64_alone(net, exported_with):
    """What float32 does not show."""
    exported_with(set_attribute("BatchNormalization", ir.AttrFloat32("epsilon", 1.1e-5)))
    found, _ = departs(net, float64=True)
    assert (found.stage, found.path, found.why) == (EXPORT, "norm", FORMULA)


class Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.lstm = torch.nn.BatchNorm1d(4), torch.nn.LSTM(4, 4, batch_first=True)
        self.head = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.norm(x).reshape(-1, 1, 4))[0].reshape(-1, 4))


def spoil_behind(monkeypatch: pytest.MonkeyPatch, change: Callable[[ir.Model], None]) -> None:
    """A pass behind all others."""

    def spoil(model: ir.Model) -> None:
        change(model)

    monkeypatch.setattr(passes, "PASSES", (*passes.PASSES, spoil))


def in_halves(model: ir.Model) -> None:
    [norm] = [node for node in model.graph if node.op_type == "BatchNormalization"]
    value, users = norm.outputs[0], list(norm.outputs[0].consumers())
    down = ir.node("Cast", [value], {"to": ir.DataType.FLOAT16.value})
    up = ir.node("Cast", [down.outputs[0]], {"to": value.dtype.value})
    for name, node in (("low", down), ("high", up)):
        node.outputs[0].name = name
    down.outputs[0].type, up.outputs[0].type = ir.TensorType(ir.DataType.FLOAT16), value.type
    down.outputs[0].shape = up.outputs[0].shape = value.shape
    model.graph.insert_after(norm, [down, up])
    for user in users:
        user.replace_input_with(list(user.inputs).index(value), up.outputs[0])


def three_rows(model: ir.Model) -> None:
    for node in model.graph:
        if node.op_type == "Reshape":
            three = ir.val("three", const_value=ir.tensor(np.array([3, 1, 4]), name="three"))
            model.graph.register_initializer(three)
            node.replace_input_with(1, three)
            return


RECURRENT = {  # what is wrong behind the passes of a recurrent network, and the node that is named
    "in float64 alone": (set_attribute("BatchNormalization", ir.AttrFloat32("epsilon", 1.1e-5)), "BatchNormalization", FORMULA),
    "in halves": (in_halves, "Reshape", FORMULA),
    "does not run at other sizes": (three_rows, "Reshape", UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize(("change", "op", "why"), RECURRENT.values(), ids=RECURRENT)
def test_in_a_recurrent_network(monkeypatch, change, op, why):
    spoil_behind(monkeypatch, change)
    found, _ = departs(Recurrent().eval(), float64=True)
    assert (found.stage, found.op, found.why) == ("pass spoil", op, why)
    assert found.nodes[1:] == (("high", "low") if change is in_halves else ())


def test_what_keras_does_not_run_in_float64(build_with):
    build_with("Softmax", lambda x, *, axis=-1: ops.reshape(ops.softmax(x, axis=axis), (3, 4)))
    found, error = departs(Net().eval(), float64=True)
    assert (found.stage, found.op) == (BUILD, "Softmax")
    failed = [check for check in error.report.checks if check.failure]
    assert {check.dtype for check in failed} == {"float32", "float64"}


class Split(torch.nn.Module):
    """Whose graph has a sequence."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, three = torch.split(x, [1, 3], -1)
        return torch.softmax(one * three, -1)


@pytest.mark.parametrize("stage", [EXPORT, "pass spoil"])
def test_beside_a_sequence(exported_with, monkeypatch, stage):
    exported_with(AXIS) if stage == EXPORT else spoil_before(monkeypatch, AXIS)
    found, _ = departs(Split().eval())
    assert (found.stage, found.op, found.why) == (stage, "Softmax", FORMULA)


def test_of_a_sequence(exported_with):
    """Which no reproducer holds."""

    def change(model: ir.Model) -> None:
        split = next(node for node in model.graph if node.op_type == "SplitToSequence")
        before = ir.node("Exp", [split.inputs[0]], metadata_props=dict(split.metadata_props))
        model.graph.insert_before(split, before)
        split.replace_input_with(0, before.outputs[0])

    exported_with(change)
    found, error = departs(Split().eval())
    assert (found.stage, found.op) == (EXPORT, "SequenceAt")
    assert error.reproducer is None


class Packs(torch.nn.Module):
    """Which in torch has the sequences nowhere as the graph lays them out."""

    def __init__(self, total: int | None = 4) -> None:
        super().__init__()
        self.lstm, self.total = torch.nn.LSTM(4, 4, batch_first=True), total

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        series, lengths = x[:, :, None] * x[:, None], torch.full((x.shape[0],), 3)
        packed = pack_padded_sequence(series, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=self.total)[0]


def test_in_a_recurrent_layer_of_packed_sequences(exported_with):
    def change(model: ir.Model) -> None:
        node = next(node for node in model.graph if node.op_type == "LSTM")
        for place, value in zip((1, 2), (node.inputs[2], node.inputs[1]), strict=True):
            node.replace_input_with(place, value)

    exported_with(change)
    found, _ = departs(Packs().eval())
    assert (found.stage, found.path, found.why) == (EXPORT, "lstm", FORMULA)
    assert found.line.startswith("test_bisect.py:")


def test_what_torch_gives_shorter():
    """As long as the longest of lengths that no input gives."""
    with pytest.raises(bridge.MismatchError, match="differ by inf"):
        bridge.convert(Packs(None).eval(), torch.randn(3, 4))


class Asks(torch.nn.Module):
    """Whose trace takes for granted that there are several rows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.softmax(2 * x, -1)
        return y + 0 if x.shape[0] != 1 else y


def test_a_wrong_graph_is_no_other_branch(exported_with):
    exported_with(AXIS)
    with pytest.raises(bridge.MismatchError) as caught:
        bridge.convert(Asks().eval(), torch.randn(3, 4), dynamic_shapes=({0: "batch"},))
    assert (caught.value.report.origin.stage, caught.value.report.origin.op) == (EXPORT, "Softmax")


class Chooses(torch.nn.Module):
    """Which watched leaves nothing behind, so that another one runs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: torch.softmax(2 * x, -1), lambda x: torch.tanh(x), (x,))


@pytest.mark.parametrize("stage", [EXPORT, "pass spoil", BUILD])
def test_in_a_branch(exported_with, build_with, monkeypatch, stage):
    if stage == EXPORT:
        exported_with(AXIS)
    elif stage == BUILD:
        build_with("Softmax", lambda x, *, axis=-1: ops.softmax(x, axis=0))
    else:
        spoil_before(monkeypatch, AXIS)
    found, _ = departs(Chooses().eval())
    assert (found.stage, found.op, found.why) == (stage, "Softmax", FORMULA)


def test_where_rounding_hides_the_first_node(monkeypatch):
    """The output is off by just more than the limit, and the node at fault by less."""

    class Cancelling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x) - 0.8 * x

    spoil_behind(monkeypatch, set_attribute("BatchNormalization", ir.AttrFloat32("epsilon", 2.2e-5)))
    found, error = departs(Cancelling().eval())
    assert (found.stage, found.path, found.why) == ("pass spoil", "norm", FORMULA)
    assert found.error < 1e-5 < error.report.checks[1].error


@pytest.mark.parametrize("stage", [EXPORT, "pass spoil"])
def test_in_training(net, exported_with, monkeypatch, stage):
    change = set_attribute("BatchNormalization", ir.AttrFloat32("momentum", 0.7))
    exported_with(change) if stage == EXPORT else spoil_behind(monkeypatch, change)
    found, _ = departs(net, training=True)
    assert (found.stage, found.path, found.layers) == (stage, "norm", ("norm",))


def test_a_rate_of_dropout(net, monkeypatch):
    def half(model: ir.Model) -> None:
        for node in model.graph:
            if node.op_type == "Dropout":
                node.inputs[1].const_value = ir.tensor(np.float32(0.5), name=node.inputs[1].name)

    spoil_behind(monkeypatch, half)
    found, _ = departs(net, training=True)
    assert (found.stage, found.path) == ("pass spoil", "first.2")


def test_what_is_equal_departs_nowhere(net):
    report = bridge.bisect(net, torch.randn(3, 4))
    assert report.verified
    assert report.origin is None


def test_a_saved_file_whose_weights_are_others(net, tmp_path):
    given = torch.randn(3, 4)
    made = bridge.convert(net, given, verify=False)
    kernel = made.model.get_layer("first_0").kernel
    kernel.assign(kernel.numpy() * 1.01)
    made.model.save(tmp_path / "m.keras")
    found = bridge.bisect(net, given, saved=tmp_path / "m.keras").origin
    assert (found.stage, found.path, found.layers) == ("saved file", "first.0", ("first_0",))
    assert [handed.name for handed in found.inputs if handed.error > 1e-3] == ["first_0/kernel"]


def test_the_command_writes_what_departs_beside_the_model(net, build_with, tmp_path, monkeypatch):
    from click.testing import CliRunner

    from bridge.cli.commands import main

    made = bridge.convert(net, torch.randn(3, 4), verify=False)
    made.model.save(tmp_path / "m.keras")
    build_with("Softmax", lambda x, *, axis=-1: ops.softmax(x, axis=0))
    monkeypatch.setattr(
        "bridge.cli.commands.read_source", lambda source, trust: (net, torch.randn(3, 4), None)
    )
    output = tmp_path / "n.keras"
    ended = CliRunner().invoke(main, ["--debug", "convert", "net.py:made", "-o", str(output)])
    assert ended.exit_code == 1
    assert (tmp_path / "n.mismatch" / "node.onnx").is_file()
    ended = CliRunner().invoke(
        main, ["--debug", "verify", str(tmp_path / "m.keras"), "--against", "net.py:made"]
    )
    assert ended.exit_code == 0
