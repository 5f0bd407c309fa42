"""A conversion survives the disk: the way back to torch needs neither the first process nor the module."""

from __future__ import annotations

import importlib
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx.parser
import pytest
import torch

import bridge
from bridge import saving
from bridge.files.checkpoints import read_state, write_state

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module, tuple]:
    module, args, shapes = importlib.import_module("models.digit_strips").make()
    path = tmp_path_factory.mktemp("saved") / "strips.keras"
    bridge.convert(module, args, dynamic_shapes=shapes).save(path)
    return path, module, args


def test_open_gives_model_map_and_report(digits) -> None:
    path, module, args = digits
    again = bridge.load(path)
    assert again.report.verified
    state = again.weights.to_torch()
    for name, value in module.state_dict().items():
        assert torch.equal(state[name], value), name
        assert state[name].dtype == value.dtype
    with torch.no_grad():
        want = module(*args).numpy()
    np.testing.assert_allclose(np.asarray(again.model(args[0].numpy())), want, atol=1e-5)


def test_a_model_that_keras_trained_is_read(tmp_path: Path) -> None:
    """Its optimizer, loss and metrics are of training, and nothing asks for them."""
    module = torch.nn.Linear(3, 2)
    result = bridge.convert(module, torch.randn(4, 3), verify=False)
    result.model.compile("adam", "mse", metrics=["mae"])
    result.model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    weight = bridge.load(result.save(tmp_path / "trained.keras")).weights.to_torch()["weight"]
    assert torch.equal(weight, result.weights.to_torch()["weight"])
    assert not torch.equal(weight, module.weight)


def test_a_later_process_brings_the_weights_back(digits, tmp_path: Path) -> None:
    path, module, _ = digits
    out = tmp_path / "back.pt"
    program = (
        "import bridge, sys, torch\ntorch.save(bridge.load(sys.argv[1]).weights.to_torch(), sys.argv[2])\n"
    )
    subprocess.run([sys.executable, "-c", program, path, out], check=True, capture_output=True)
    state = torch.load(out, weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())


def test_a_newer_checkpoint_goes_in_and_a_trained_model_comes_back(digits) -> None:
    path, module, args = digits
    conversion = bridge.load(path)
    torch.manual_seed(0)
    newer = {
        name: value + 0.01 * torch.randn_like(value) if value.is_floating_point() else value + 1
        for name, value in module.state_dict().items()
    }
    for name in newer:
        if name.endswith("running_var"):
            newer[name] = newer[name].abs()
    conversion.weights.load_torch(newer)
    back = conversion.weights.to_torch()
    assert all(torch.equal(back[name], value) for name, value in newer.items())
    for variable in conversion.model.trainable_variables:
        variable.assign(np.asarray(variable.numpy()) * 1.01)
    again = importlib.import_module("models.digit_strips").make()[0]
    again.load_state_dict(conversion.weights.to_torch(), strict=True)
    with torch.no_grad():
        want = again(*args).numpy()
    np.testing.assert_allclose(np.asarray(conversion.model(args[0].numpy())), want, atol=1e-5)


def test_a_missing_map_is_said_plainly(digits, tmp_path: Path) -> None:
    alone = tmp_path / "alone.keras"
    alone.write_bytes(digits[0].read_bytes())
    with pytest.raises(bridge.SourceError, match=r"alone.bridge.npz: no weight map beside the model"):
        bridge.load(alone)


def test_a_map_of_another_model_is_said_plainly(digits, tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3)).eval()
    path = tmp_path / "other.keras"
    bridge.convert(module, torch.randn(2, 4)).save(path)
    saving.map_path(path).write_bytes(saving.map_path(digits[0]).read_bytes())
    with pytest.raises(bridge.WeightsError, match="belongs to another model: it was not saved together with"):
        bridge.load(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x93NUMPY"])
def test_a_broken_map(digits, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.keras"
    path.write_bytes(digits[0].read_bytes())
    saving.map_path(path).write_bytes(content)
    with pytest.raises(bridge.SourceError, match="not a weight map"):
        bridge.load(path)


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_a_pickle_of_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"w": Evil()}))
    with pytest.raises(bridge.SourceError, match=r"not a file of tensors only; write one with torch.save"):
        read_state(path)
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_checkpoints_are_written_and_read(tmp_path: Path, suffix: str) -> None:
    state = {"a": torch.randn(3, 2), "n": torch.tensor(7)}
    path = tmp_path / f"state{suffix}"
    write_state(path, state)
    again = read_state(path)
    assert all(torch.equal(again[name], value) for name, value in state.items())


def test_a_model_deeper_than_the_recursion_limit(tmp_path: Path) -> None:
    """Keras walks through a model by a call within a call: converting sees to it, reading a file is the user's."""
    steps = "".join(f"x{i + 1} = Sin (x{i})\n" for i in range(1200))
    text = (
        '<ir_version: 10, opset_import: ["": 23]> g (float[N, 4] x0) => (float[N, 4] x1200) {' + steps + "}"
    )
    conversion = bridge.convert(onnx.parser.parse_model(text))
    assert conversion.report.verified
    assert any("sys.setrecursionlimit" in note for note in conversion.report.notes)
    path = conversion.save(tmp_path / "deep.keras")
    with pytest.raises(bridge.SourceError, match="recursion limit"):
        bridge.load(path)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(5000)
    try:
        assert bridge.load(path).report.verified
    finally:
        sys.setrecursionlimit(limit)


def test_a_model_that_keras_saved_again_keeps_its_map(digits, tmp_path: Path) -> None:
    """Trained elsewhere, with plain Keras; a map of another model is told by its names."""
    path = tmp_path / "strips.keras"
    keras.saving.load_model(digits[0], compile=False).save(path)
    saving.map_path(path).write_bytes(saving.map_path(digits[0]).read_bytes())
    back = bridge.load(path).weights.to_torch()
    assert all(torch.equal(back[name], value) for name, value in digits[1].state_dict().items())
    module = torch.nn.Sequential(torch.nn.Linear(4, 3)).eval()
    bridge.convert(module, torch.randn(2, 4)).model.save(path)
    with pytest.raises(bridge.WeightsError, match="belongs to another model: it names"):
        bridge.load(path)


def test_a_new_model_beside_an_old_map(tmp_path: Path) -> None:
    """Two trainings of one network differ in what no variable holds, and in nothing else."""
    path = tmp_path / "m.keras"
    module = torch.nn.Sequential(torch.nn.Linear(4, 3)).eval()
    bridge.convert(module, torch.randn(2, 4)).save(path)
    old = saving.map_path(path).read_bytes()
    bridge.convert(module, torch.randn(2, 4)).save(path)
    saving.map_path(path).write_bytes(old)
    with pytest.raises(bridge.WeightsError, match="was not saved together with"):
        bridge.load(path)


# --- from strangers ------------------------------------------------------------------------------------------


def rewritten(path: Path, change: Callable[[str, bytes], bytes], packing: int = zipfile.ZIP_STORED) -> None:
    """The archive at `path` with each member's content changed."""
    with zipfile.ZipFile(path) as old:
        members, comment = {name: change(name, old.read(name)) for name in old.namelist()}, old.comment
    with zipfile.ZipFile(path, "w", packing) as new:
        for name, data in members.items():
            new.writestr(name, data)
        new.comment = comment


@pytest.fixture
def small(tmp_path: Path) -> Path:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3)).eval()
    return bridge.convert(module, torch.randn(2, 4)).save(tmp_path / "m.keras")


def test_layers_larger_than_their_weights(small: Path) -> None:
    rewritten(small, lambda name, data: data.replace(b'"units": 3', b'"units": 300000000000'))
    with pytest.raises(
        bridge.SourceError, match=r"its layers have 1,500,000,000,0\d\d weights, the file holds"
    ):
        bridge.load(small)


def test_an_archive_that_unpacks_to_much_more(small: Path) -> None:
    rewritten(small, lambda name, data: data + bytes(100 << 20), zipfile.ZIP_DEFLATED)
    with pytest.raises(bridge.SourceError, match="claims to unpack to"):
        bridge.load(small)


def test_arrays_of_a_map_are_as_large_as_their_entries(small: Path) -> None:
    old, new = b"'shape': (", b"'shape': (99999999999, "
    rewritten(
        saving.map_path(small), lambda name, data: data.replace(old, new).replace(b" " * 13 + b"\n", b"\n", 1)
    )
    with pytest.raises(bridge.SourceError, match="not a weight map"):
        bridge.load(small)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("state"),
        lambda header: header.update(variables=7),
        lambda header: header.update(report="[" * 10_000),
        lambda header: header["state"].update(extra=[[1 << 40], "float32"]),
        lambda header: header["state"].update(extra=[[2], "object"]),
        lambda header: header["state"].update(extra=[[-2], "float32"]),
        lambda header: header["aliases"].update(extra="other"),
        lambda header: header["variables"][0].update(recipe=["param", "nobody", [4, 3]]),
        lambda header: header["variables"][0].update(recipe=["fill", 1.0, [4, 3]]),
        lambda header: header["variables"][0].update(recipe=["narrow", ["fill", 1.0, [1 << 40, 3]], 0, 0, 4]),
        lambda header: header["variables"][0].update(
            recipe=["narrow", ["param", "0.weight", [3, 4]], 9, 0, 4]
        ),
        lambda header: header["variables"][0].update(recipe=["reshape", ["param", "0.bias", [3]], [4, 3]]),
        lambda header: header["variables"][0].update(recipe=["nothing"]),
        lambda header: header["variables"][0].update(recipe=nest(300)),
        lambda header: header["variables"][0].update(recipe=nest(600)),
    ],
)
def test_a_map_that_makes_no_sense(small: Path, change: Callable[[Any], Any]) -> None:
    path = saving.map_path(small)
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes())
    change(header)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)
    with pytest.raises(
        (bridge.SourceError, bridge.WeightsError), match="not a weight map|another model"
    ) as caught:
        bridge.load(small)
    assert "\n" not in str(caught.value)


def nest(depth: int) -> list[Any]:
    recipe: list[Any] = ["param", "0.weight", [3, 4]]
    for _ in range(depth):
        recipe = ["transpose", recipe, [1, 0]]
    return recipe if depth % 2 else ["transpose", recipe, [1, 0]]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"nothing", b"\xff" * 100, b"PK\x05\x06" + bytes(18)])
def test_a_broken_checkpoint(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"state{suffix}"
    path.write_bytes(content)
    with pytest.raises(bridge.SourceError, match=r"not a file of tensors only|not a .safetensors file"):
        read_state(path)
