"""What is written for other runtimes: each loads it and gives what the model gives, or it is refused by name."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import bridge
from bridge.cli.commands import main
from bridge.serving import as_onnx, proof
from models import packed

torch.set_num_threads(1)
AXES = {"ids": {0: "batch", 1: "time"}, "x": {0: "batch", 1: "time"}}
ENDINGS = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite"}
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert"}
ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow writes them")


class Tagger(nn.Module):
    """Two inputs, layers that step in both directions and in one, a dict inside of a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 3)
        self.both = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
        self.one = nn.GRU(8, 5, 2)
        self.tags = nn.Linear(5, 2)

    def forward(self, ids, x):
        y, (h, _) = self.both(self.words(ids) + x)
        _, last = self.one(y.transpose(0, 1))
        return {"tags": self.tags(last[-1]), "last": {"state": h.transpose(0, 1).flatten(1), "all": y}}


def inputs(batch: int = 3, time: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch)
    return {
        "ids": rng.integers(0, 7, (batch, time)),
        "x": rng.standard_normal((batch, time, 3), np.float32),
    }


@pytest.fixture(autouse=True)
def short_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "SIDES", (8,))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return Tagger().eval()


@pytest.fixture(scope="module")
def tagger(module) -> bridge.Conversion:
    args = tuple(torch.from_numpy(x) for x in inputs().values())
    return bridge.convert(module, args, dynamic_shapes=AXES, verify=False)


def written(conversion: bridge.Conversion, folder: Path, format: str = "onnx", **asked: Any) -> Path:
    pytest.importorskip(PACKAGES[format])
    path = folder / f"net{ENDINGS[format]}"
    report = conversion.export(path, **asked)
    assert [check for check in report.checks if "as converted" in check.leg]
    return path


def in_onnxruntime(path: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def test_an_onnx_file_is_of_onnx_alone(tagger, module, tmp_path: Path) -> None:
    """With its names, its free axes and its recurrent layers as such, and nothing of whoever made it."""
    path = written(tagger, tmp_path)
    found, (ids, x) = in_onnxruntime(path, inputs()), map(torch.from_numpy, inputs().values())
    want = module(ids, x)
    assert found.keys() == {"tags", "last_state", "last_all"}
    np.testing.assert_allclose(found["last_state"], want["last"]["state"].detach(), atol=1e-5)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} | {one.domain for one in model.opset_import} == {""}
    assert not model.functions
    assert [node.op_type for node in model.graph.node if node.op_type in ("LSTM", "GRU")] == [
        "LSTM",
        "GRU",
        "GRU",
    ]
    dims = [
        [dim.dim_param or dim.dim_value for dim in x.type.tensor_type.shape.dim] for x in model.graph.input
    ]
    assert dims == [["batch", "time"], ["batch", "time", 3]]
    weights = {tensor.name for tensor in model.graph.initializer}
    assert {"words.weight", "tags.weight", "tags.bias", "one.weight_ih_l1_onnx"} <= weights
    text = path.read_bytes()
    assert b"test_formats" not in text
    assert b"site-packages" not in text


def test_torch_to_keras_to_onnx_to_keras(tagger, tmp_path: Path) -> None:
    again = bridge.convert(written(tagger, tmp_path), verify=False)
    kinds = [sorted(type(layer).__name__ for layer in made.model.layers) for made in (tagger, again)]
    assert kinds[0] == kinds[1]
    assert {layer.name for layer in again.model.layers} >= {"words", "both", "one", "tags"}
    for name in ("words.weight", "tags.weight"):
        assert np.array_equal(again.weights.pull()[name], tagger.weights.pull()[name])


def test_weights_are_those_of_now_and_a_saved_model_has_its_graph(module, tmp_path: Path) -> None:
    args = tuple(torch.from_numpy(x) for x in inputs().values())
    conversion = bridge.convert(module, args, dynamic_shapes=AXES, verify=False)
    for variable in conversion.model.trainable_variables:
        variable.assign(variable.numpy() * 1.25)
    loaded = bridge.load(conversion.save(tmp_path / "net.keras"))
    (held,) = [t for t in onnx.load(written(loaded, tmp_path)).graph.initializer if t.name == "tags.weight"]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(held), module.tags.weight.detach() * 1.25)


def test_large_weights_lie_beside_the_file(tagger, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(as_onnx, "MAX_INLINE_BYTES", 0)
    monkeypatch.setattr(as_onnx, "SMALL_BYTES", 64)
    path = written(tagger, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["net.onnx", "net.onnx.data"]
    assert in_onnxruntime(path, inputs())["tags"].shape == (3, 2)


def test_axes_stand_as_the_model_has_them(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    conversion = bridge.convert(net, torch.randn(2, 3, 8, 9), channels_last=True, verify=False)
    found = in_onnxruntime(
        written(conversion, tmp_path), {conversion.model.inputs[0].name: np.ones((5, 8, 9, 3), "f4")}
    )
    assert found["output"].shape == (5, 6, 7, 4)


def test_what_is_no_value_of_its_own_is_given_too(tmp_path: Path) -> None:
    class Net(nn.Module):
        def forward(self, output):
            return output, output + 1, output

    conversion = bridge.convert(Net(), torch.randn(2, 3), verify=False)
    found = in_onnxruntime(written(conversion, tmp_path), {"output": np.ones((1, 3), "f4")})
    assert [float(y.sum()) for y in found.values()] == [3, 6, 3]


def test_what_has_no_graph_is_refused(tagger, tmp_path: Path) -> None:
    with pytest.raises(
        bridge.SourceError, match="this one has none: it was made for inference.*'saved_model'"
    ):
        tagger.for_inference().export(tmp_path / "net.onnx")
    other = replace(tagger, model=keras.models.clone_model(tagger.model))
    with pytest.raises(bridge.WeightsError, match="words.* has others since"):
        other.export(tmp_path / "net.onnx")
    assert not os.listdir(tmp_path)


def test_what_is_folded_and_trained_is_refused(tmp_path: Path) -> None:
    net = "g (float[N, 3] x) => (float[N, 2] y) <float[3, 2] w = {0, 1, 2, 1, 0, 1}> { e = Exp (w)  y = MatMul (x, e) }"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 23]> {net}')
    conversion = bridge.convert(model, verify=False)
    assert conversion.weights.one_way == ("w",)
    written(conversion, tmp_path)
    for variable in conversion.model.trainable_variables:
        variable.assign(variable.numpy() * 1.5)
    with pytest.raises(bridge.WeightsError, match="w cannot go back there, folded into others"):
        conversion.export(tmp_path / "other.onnx")


BAD = [
    ("net.pb", {}, "its ending names no format: give it format=, one of saved_model, onnx, openvino, litert"),
    ("net", {"format": "tflite"}, "'tflite' is no format of bridge"),
    ("net.tflite", {"format": "onnx"}, "ONNX is written as .onnx"),
    ("net.onnx", {"precision": "float16"}, "not written in float16 here: format='openvino' or 'litert' has"),
    ("net.xml", {"precision": "int4"}, "not written in int4 here: there are float16, int8"),
    ("net.tflite", {"precision": "int8"}, "int8 needs calibration="),
    ("net.tflite", {"calibration": [1]}, "calibration= is for precision='int8'"),
]


@pytest.mark.parametrize(("name", "asked", "message"), BAD)
def test_what_does_not_go_together_is_said(name, asked, message, tagger, tmp_path: Path) -> None:
    with pytest.raises(bridge.SourceError) as raised:
        tagger.export(tmp_path / name, **asked)
    assert message in str(raised.value)


@pytest.mark.parametrize(("ending", "package", "extra"), [(".xml", "openvino", "openvino"),
                                                          (".tflite", "ai_edge_litert.interpreter", "litert")])  # fmt: skip
def test_a_runtime_that_is_not_installed_is_named(
    ending, package, extra, tagger, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(bridge.MissingPackageError, match=f"which is not installed: pip install.*{extra}"):
        tagger.export(tmp_path / f"net{ending}")


def test_what_differs_is_not_written(tagger, tmp_path: Path, monkeypatch) -> None:
    run = as_onnx.run
    monkeypatch.setattr(as_onnx, "run", lambda *args: lambda given: [1.01 * y for y in run(*args)(given)])
    with pytest.raises(bridge.MismatchError, match="as converted ↔ ONNX differ by 0.01"):
        tagger.export(tmp_path / "net.onnx")
    assert not os.listdir(tmp_path)


def test_openvino(tagger, module, tmp_path: Path) -> None:
    path = written(tagger, tmp_path, "openvino")
    import openvino

    found = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs())
    want = module(*map(torch.from_numpy, inputs().values()))
    np.testing.assert_allclose(found["tags"], want["tags"].detach(), atol=1e-5)
    assert str(tmp_path) not in path.read_text()
    single = path.with_suffix(".bin").stat().st_size
    written(tagger, tmp_path, "openvino", precision="float16")
    assert path.with_suffix(".bin").stat().st_size < 0.6 * single


def test_from_the_command_line(tagger, tmp_path: Path) -> None:
    path, file = tagger.save(tmp_path / "model.keras"), tmp_path / "net.onnx"
    command = ["export", str(path), "-o", str(file), "--report", str(tmp_path / "report.txt")]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert "as converted ↔ ONNX" in (tmp_path / "report.txt").read_text()
    again = ["convert", str(file), "-o", str(tmp_path / "again.keras"), "--no-verify"]
    assert CliRunner().invoke(main, [*again, "--export", str(tmp_path / "again.onnx")]).exit_code == 0
    assert (tmp_path / "again.onnx").is_file()
    assert CliRunner().invoke(main, [*again, "--export", str(tmp_path / "again.pb")]).exit_code == 3


def test_openvino_does_not_know_where_sequences_end(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    module, args, axes = packed.make()
    conversion = bridge.convert(module, args, dynamic_shapes=axes, verify=False)
    with pytest.raises(bridge.UnsupportedError, match="LSTM at .*behind the end of a sequence.*'litert'"):
        conversion.export(tmp_path / "net.xml")


@ON_TENSORFLOW
def test_litert(tagger, module, tmp_path: Path) -> None:
    """Layers that step, of built-in operators, at sizes of batch and time that it was not written with."""
    path = written(tagger, tmp_path, "litert")
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(path)).get_signature_runner()
    for given in (inputs(), inputs(2, 9)):
        found, want = run(**given), module(*map(torch.from_numpy, given.values()))
        np.testing.assert_allclose(found["tags"], want["tags"].detach(), atol=1e-5)
        np.testing.assert_allclose(found["last_all"], want["last"]["all"].detach(), atol=1e-5)


@ON_TENSORFLOW
def test_litert_in_fewer_bits(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 64)).eval()
    conversion = bridge.convert(net, torch.randn(2, 1, 8, 8), verify=False)
    examples = [np.random.default_rng(n).random((1, 1, 8, 8), np.float32) for n in range(8)]
    whole = written(conversion, tmp_path, "litert").stat().st_size
    half = written(conversion, tmp_path, "litert", precision="float16").stat().st_size
    path = written(conversion, tmp_path, "litert", precision="int8", calibration=examples)
    assert path.stat().st_size < 0.45 * whole < half < 0.7 * whole
    with pytest.raises(bridge.SourceError, match="example 0 is not an array for each input: input"):
        conversion.export(path, precision="int8", calibration=[{"y": examples[0]}])


@ON_TENSORFLOW
def test_what_litert_has_no_operator_for_is_named(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.MaxPool3d(2)

        def forward(self, x):
            return self.pool(x) * 2

    conversion = bridge.convert(Net(), torch.randn(2, 3, 4, 4, 4), verify=False)
    with pytest.raises(bridge.UnsupportedError, match=r"MaxPool \(MaxPooling3D\) at pool .*'onnx'"):
        conversion.export(tmp_path / "net.tflite")
