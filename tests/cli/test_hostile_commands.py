"""Files from strangers at every place where the command reads one: an exit code of its kind, one line, nothing written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import onnx.parser
import pytest
from hostile import bounded, with_json

import bridge
from bridge import saving
from bridge.cli import commands

HEAD = '<ir_version: 10, opset_import: ["": 23]> g '
RELU = f"{HEAD} (float[N,4] x) => (float[N,3] y) <float[4,3] w = {{1,2,3,4,5,6,7,8,9,10,11,12}}> {{ m = MatMul (x, w) y = Relu (m) }}"
WIDE = f"{HEAD} (float[N,4] x) => (float[N,4] y) {{ y = Relu (x) }}"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, its source, and what is no file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(onnx.parser.parse_model(RELU).SerializeToString())
    bridge.convert(tmp_path / "m.onnx", verify=False).save(tmp_path / "m.keras")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("no such thing")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    return tmp_path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: Any) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            commands.main([str(argument) for argument in arguments], prog_name="bridge")
        return caught.value.code or 0, *capfd.readouterr()

    return command


PLACES = {
    "convert": ("convert", "{}", "-o", "out.keras"),
    "convert --inputs": ("convert", "m.onnx", "-o", "out.keras", "--inputs", "{}"),
    "inspect": ("inspect", "{}"),
    "reduce": ("reduce", "{}", "-o", "small.onnx"),
    "verify": ("verify", "{}", "--against", "m.onnx"),
    "verify --against": ("verify", "m.keras", "--against", "{}"),
    "verify --inputs": ("verify", "m.keras", "--against", "m.onnx", "--inputs", "{}"),
    "weights": ("weights", "{}"),
    "weights --from-torch": ("weights", "m.keras", "--from-torch", "{}"),
}
SUFFIXES = {
    "convert": (".onnx", ".pt2", ""), "inspect": (".onnx", ".pt2"), "reduce": (".onnx", ".pt2"), "verify": (".keras",),
    "verify --against": (".onnx", ".pt2"), "convert --inputs": (".npz", ".npy"), "verify --inputs": (".npz", ".npy"),
    "weights": (".keras",), "weights --from-torch": (".pt", ".pth", ".safetensors"),
}  # fmt: skip
NO_FILES = ("pipe", "text", "folder", "loop", "zero", "nowhere", "a" * 300)


@pytest.mark.parametrize("what", NO_FILES)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file(folder: Path, run: Run, place: str, what: str) -> None:
    for suffix in SUFFIXES[place]:
        name = f"{what}{suffix}"
        if os.path.lexists(what):
            os.rename(what, name)
        with bounded(folder):
            code, out, err = run(*(word.format(name) for word in PLACES[place]))
        assert (code, out) in [(3, ""), (2, "")], err  # 2: a folder where a file is asked for
        lines = err.splitlines()
        assert len(lines) == 1
        assert name[:100] in err
        if os.path.lexists(name):
            os.rename(name, what)


def changed(path: Path, change: Callable[[Any], Any]) -> None:
    """The `.keras` file with another config, as if Keras had saved it so."""
    path.write_bytes(with_json(path.read_bytes(), "config.json", change))


def saved(model: keras.Model) -> Callable[[Path], None]:
    return lambda path: model.save(path)


def network(
    *layers: keras.Layer, shape: tuple[int | None, ...] = (4,), dtype: str = "float32"
) -> keras.Model:
    x = y = keras.Input(shape, dtype=dtype)
    for layer in layers:
        y = layer(y)
    return keras.Model(x, y)


OTHERS: dict[str, tuple[Callable[[], keras.Model], int]] = {
    "another input": (lambda: network(keras.layers.ReLU(), shape=(5,)), 3),
    "a free axis less": (lambda: keras.Model(x := keras.Input(batch_shape=(3, 4)), keras.layers.ReLU()(x)), 3),
    "two inputs": (lambda: keras.Model([x := keras.Input((4,)), y := keras.Input((4,))], x + y), 3),
    "an input of texts": (lambda: network(keras.layers.Identity(), dtype="string"), 1),
    "an input of integers": (lambda: network(keras.layers.ReLU(), dtype="int32"), 1),
    "another output": (lambda: network(keras.layers.Dense(2)), 1),
    "two outputs": (lambda: keras.Model(x := keras.Input((4,)), [x + 1.0, x + 2.0]), 3),
    "outputs by name": (lambda: keras.Model(x := keras.Input((4,)), {"a": x + 1.0}), 3),
    "inputs by name": (lambda: keras.Model({"a": (x := keras.Input((4,), name="a"))}, x + 1.0), 1),
    "no number": (lambda: network(keras.layers.Rescaling(float("nan"))), 1),
    "what unfolds": (lambda: network(keras.layers.RepeatVector(1 << 31)), 3),
    "what unfolds and folds": (
        lambda: network(keras.layers.RepeatVector(1 << 31), keras.layers.GlobalAveragePooling1D()), 3),
    "what unfolds by steps": (
        lambda: network(keras.layers.RepeatVector(1 << 16), keras.layers.UpSampling1D(1 << 14), keras.layers.GlobalMaxPooling1D()), 3),
    "what unfolds inside": (lambda: network(network(keras.layers.RepeatVector(1 << 31), keras.layers.GlobalMaxPooling1D())), 3),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_verify_a_model_of_another_source(folder: Path, run: Run, case: str) -> None:
    """It is not equal to its source, or is never run."""
    make, expected = OTHERS[case]
    (folder / "wide.onnx").write_bytes(onnx.parser.parse_model(WIDE).SerializeToString())
    make().save(folder / "other.keras")
    with bounded(folder):
        code, _, err = run("verify", "other.keras", "--against", "wide.onnx")
    assert code == expected, err
    assert len(err.splitlines()) == 1
    assert "a fault of bridge" not in err


@pytest.mark.parametrize("what", ["pipe", "text", "loop", "zero", "nowhere"])
@pytest.mark.parametrize("which", ["out.keras", "out.bridge.npz"])
def test_what_stands_where_a_file_is_written(folder: Path, run: Run, which: str, what: str) -> None:
    if what != "nowhere":
        (folder / what).rename(folder / which)
    code, _, err = run("convert", "m.onnx", "-o", "out.keras", "--no-verify", "--quiet")
    assert (code, err) == (0, "")
    assert bridge.load(folder / "out.keras").model
    assert not saving.map_path(folder / "out.keras").is_symlink()


def test_names_on_a_terminal(folder: Path, run: Run) -> None:
    def rename(config: Any) -> None:
        config["config"]["name"] = "\x1b[2J"

    changed(folder / "m.keras", rename)
    for command in (("weights", "m.keras"), ("verify", "m.keras", "--against", "m.onnx")):
        code, out, err = run(*command)
        assert (code, out) == (3, "")
        assert "\x1b" not in err
