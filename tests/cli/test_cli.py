"""The command: what it prints where, what it writes, and its exit codes."""

import contextlib
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from bridge.cli import commands, console
from bridge.report import SUFFIXES
from bridge.report.report import Report
from bridge.stages import STAGES
from bridge.verification.checks import ORT_KERAS

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "tensorflow", "keras", "onnx", "onnx_ir", "onnxruntime", "numpy", "jinja2")
HEAD = '<ir_version: 10, opset_import: ["": 23]>'
DENSE = (
    f"{HEAD} g (float[N,4] x) => (float[N,3] y) "
    "<float[4,3] w = {1,2,3,4,5,6,7,8,9,10,11,12}> { z = MatMul (x, w)\n y = Relu (z) }"
)


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """The command run in this process, in a folder of its own: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            commands.main([str(argument) for argument in arguments], prog_name="bridge")
        return caught.value.code or 0, *capfd.readouterr()

    return command


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.parser.parse_model(DENSE).SerializeToString())
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- the front ----------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom bridge.cli.commands import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "Usage: " in result.stdout
    assert set(result.stderr.split()).isdisjoint(HEAVY)


def test_help_is_quick():
    command = [sys.executable, "-m", "bridge", "--help"]
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, cwd=ROOT, check=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


@pytest.mark.parametrize("command", [[], ["convert"], ["verify"], ["inspect"], ["ops"]])
def test_every_command_has_help(run, command):
    code, out, err = run(*command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: bridge")
    assert max(map(len, out.splitlines())) <= 100


def test_help_lists_the_exit_codes(run):
    _, out, _ = run("--help")
    listed = {line.split()[0] for line in out.partition("Exit codes:")[2].splitlines() if line.strip()}
    assert listed == {"0", "2"} | {str(code) for code in console.EXIT_CODES.values()} - {"130"}


def test_version(run):
    code, out, _ = run("--version")
    assert code == 0
    assert importlib.metadata.version("onnx-keras-bridge") in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["convert", "model.onnx"], "Missing option '-o'"),
        (["convert", "model.onnx", "-o", "out.h5"], "saved as .keras"),
        (["convert", "model.onnx", "-o", "out.keras", "--source", "net.txt"], "a source is written as .py"),
        (["convert", "model.onnx", "-o", "out.keras", "--report", "r.pdf"], "a report is written as .html"),
        (
            ["verify", "model.keras", "model.onnx"],
            "Say what the model was made from: --against mymodel.py:make",
        ),
        (["batch", "zoo.toml", "-o", "out", "--address", "tcp://head:1"], "--address is of a dask or ray"),
        (["transmute"], "No such command 'transmute'"),
    ],
)
def test_wrong_usage(run, model, arguments, says):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1
    assert err.endswith("--help)\n")
    assert names(model.parent) == ["model.onnx"]


# --- convert ------------------------------------------------------------------------------------------------


def test_convert(run, model):
    code, out, err = run("convert", model, "-o", "out.keras", "--report", "r.html")
    assert (code, err) == (0, "")
    assert "proved equal" in out
    assert "Dense" in out
    assert names(model.parent) == ["model.onnx", "out.bridge.npz", "out.keras", "r.html"]
    page = Path("r.html").read_text()
    assert "proved equal" in page
    assert f"bridge convert {model} -o out.keras --report r.html" in page
    loaded = keras.saving.load_model("out.keras", safe_mode=True)
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(loaded(x), x @ np.arange(1, 13, dtype=np.float32).reshape(4, 3))


def test_convert_prints_json_and_nothing_else(run, model):
    code, out, err = run("convert", model, "-o", "out.keras", "--json")
    assert (code, err) == (0, "")
    assert Report.from_json(out).verified


def test_convert_writes_the_source_too(run, model, tmp_path):
    assert run("convert", model, "-o", "out.keras", "-q", "--no-verify", "--source", "net.py")[0] == 0
    assert {"net.py", "net.weights.h5", "out.keras"} <= set(names(tmp_path))
    compile((tmp_path / "net.py").read_text(), "net.py", "exec")


def test_convert_quietly(run, model):
    assert run("convert", model, "-o", "out.keras", "--quiet") == (0, "", "")
    assert Path("out.keras").is_file()


def test_convert_without_proof(run, model):
    code, out, _ = run("convert", model, "-o", "out.keras", "--no-verify")
    assert code == 0
    assert "converted, not compared" in out


def test_inputs_sizes_and_seed(run, model):
    np.save("x.npy", np.ones((7, 4), np.float32))
    options = ("--inputs", "x.npy", "--sizes", "N=9,11", "--seed", "4", "--json")
    code, out, err = run("convert", model, "-o", "out.keras", *options)
    assert (code, err) == (0, "")
    report = Report.from_json(out)
    assert report.seed == 4
    assert {check.sizes.partition(";")[0] for check in report.checks} == {"N=7", "N=9", "N=11"}
    code, again, _ = run("verify", "out.keras", "--against", model, *options)
    assert code == 0
    assert [check.at for check in Report.from_json(again).checks if check.leg == ORT_KERAS] == [
        check.at for check in report.checks if check.leg == ORT_KERAS
    ]


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--inputs", "x.npz"), 3, "x.npz: no such file"),
        (("--inputs", "model.onnx"), 3, "inputs are read from .npz"),
        (("--sizes", "M=3"), 3, "sizes: no free axis is called 'M'; there is N"),
        (("--sizes", "N=0"), 2, "'N=0' is not AXIS=N,N"),
        (("--sizes", "3"), 2, "'3' is not AXIS=N,N"),
        (("--seed", "-1"), 2, "-1 is not in the range"),
        (
            ("--backends", "jax,mlx"),
            3,
            "backends: Keras has no 'mlx' that trains, but tensorflow, jax, torch",
        ),
    ],
)
def test_inputs_sizes_and_seeds_that_are_none(run, model, options, code, says):
    found, out, err = run("convert", model, "-o", "out.keras", *options)
    assert (found, out) == (code, "")
    assert says in err
    assert not Path("out.keras").exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_reports(run, model, suffix):
    run("convert", model, "-o", "out.keras", "--quiet", "--report", f"r{suffix}")
    text = Path(f"r{suffix}").read_text()
    assert "proved equal" in text or Report.from_json(text).verified


def test_failed_proof_writes_the_report_and_no_model(run, model, monkeypatch):
    from bridge.verification import verify

    keras_call = verify.keras_call
    monkeypatch.setattr(verify, "keras_call", lambda *given: lambda x: [1 + y for y in keras_call(*given)(x)])
    code, out, err = run("convert", model, "-o", "out.keras", "--report", "r.json")
    assert code == 1
    assert "NOT equal" in out
    assert err.startswith("bridge: model: onnxruntime ↔ Keras differ by")
    assert err.count("\n") == 1
    assert names(model.parent) == ["model.onnx", "r.json"]
    assert not Report.from_json(Path("r.json").read_text()).verified


def test_refusals_are_one_line_each(run, tmp_path):
    text = f"{HEAD} g (float[N,3,3] x) => (float[N,3,3] y) {{ z = RandomNormalLike (x)\n y = RandomNormalLike (z) }}"
    Path("det.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    code, out, err = run("convert", "det.onnx", "-o", "out.keras", "--report", "r.html")
    assert (code, out) == (4, "")
    assert [line.partition(": no builder")[0] for line in sorted(err.splitlines())] == [
        "bridge: RandomNormalLike at output y",
        "bridge: RandomNormalLike at output z",
    ]
    assert names(tmp_path) == ["det.onnx"]


def test_output_is_tried_before_the_work(run, model, monkeypatch):
    monkeypatch.setattr(commands, "read_source", lambda *_: pytest.fail("read before the output was tried"))
    for arguments in (["-o", "no/out.keras"], ["-o", "out.keras", "--report", "no/r.html"]):
        code, out, err = run("convert", model, *arguments)
        assert (code, out) == (6, "")
        assert "there is no folder no" in err
        assert err.count("\n") == 1


def test_a_bug_is_one_line_too(run, model, monkeypatch):
    def broken(*_):
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(commands, "read_source", broken)
    code, out, err = run("convert", model, "-o", "out.keras")
    assert (code, out, err) == (70, "", "bridge: this is a bug: RuntimeError: first second\n")


def test_debug_shows_where(run, model, monkeypatch, capfd):
    monkeypatch.setattr(commands, "read_source", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        commands.main(["--debug", "convert", str(model), "-o", "out.keras"], prog_name="bridge")


# --- sources ------------------------------------------------------------------------------------------------

MODULE = """
import sys
import torch
print("noise on stdout"); print("noise on stderr", file=sys.stderr)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(4, 3, batch_first=True)
    def forward(self, x):
        return self.lstm(x)[0]

def two(): return Net(), (torch.randn(2, 5, 4),)
def three(): return Net(), (torch.randn(2, 5, 4),), ({0: "batch", 1: "time"},)
class Shelf:
    net = staticmethod(two)
def one(): return Net()
def fails(): raise ValueError("no\\ndata")
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A module of the current directory, which the command puts on the path itself."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"shipped_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("attribute", "axes"),
    [("two", "batch free, 5 fixed"), ("three", "batch free, time free"), ("Shelf.net", "5 fixed")],
)
def test_callables(run, package, attribute, axes):
    code, out, err = run("inspect", f"{package}:{attribute}", "--json")
    assert (code, err) == (0, "")
    report = Report.from_json(out)
    (found,) = report.inputs
    assert axes.replace("batch", found.axes[0].name) in str(found)


@pytest.mark.parametrize(
    ("attribute", "says"),
    [
        ("one", "has to return (module, args) or (module, args, dynamic_shapes)"),
        ("fails", "ValueError: no data"),
        ("none", "has no none; it has "),
    ],
)
def test_callables_that_give_no_model(run, package, attribute, says):
    code, out, err = run("inspect", f"{package}:{attribute}")
    assert (code, out) == (3, "")
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("nowhere.at.all:make", 3, "there is no module nowhere"),
        ("model.onxx", 3, "no such file"),
        ("missing.onnx", 3, "no such file"),
    ],
)
def test_sources_that_are_not_there(run, source, code, says):
    got, out, err = run("inspect", source)
    assert (got, out) == (code, "")
    assert says in err
    assert err.count("\n") == 1


# --- verify, inspect, ops -----------------------------------------------------------------------------------


def test_verify(run, model):
    run("convert", model, "-o", "out.keras", "--quiet")
    code, out, err = run("verify", "out.keras", "--against", model, "--report", "r.html")
    assert (code, err) == (0, "")
    assert "proved equal" in out
    assert Path("r.html").is_file()


def test_verify_finds_a_changed_weight(run, model):
    run("convert", model, "-o", "out.keras", "--quiet")
    loaded = keras.saving.load_model("out.keras")
    loaded.layers[1].kernel.assign(loaded.layers[1].kernel * 1.01)
    loaded.save("out.keras")
    code, out, err = run("verify", "out.keras", "--against", model)
    assert code == 1
    assert "NOT equal" in out
    assert err.startswith("bridge: out.keras: onnxruntime ↔ Keras differ by")


def test_verify_what_is_no_model_or_not_made_from_it(run, model):
    Path("text.keras").write_text("no zip file")
    keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]).save("other.keras")
    for path, says in (
        ("text.keras", "not a model that Keras loads in safe mode"),
        ("other.keras", "it was not made from it"),
        ("none.keras", "no such file"),
    ):
        code, out, err = run("verify", path, "--against", model)
        assert (code, out) == (3, "")
        assert says in err
        assert err.count("\n") == 1


def test_inspect_builds_nothing(run, model, monkeypatch):
    monkeypatch.setattr("bridge.build.builder.build", lambda *_, **__: pytest.fail("built"))
    code, out, err = run("inspect", model)
    assert (code, err) == (0, "")
    assert "planned, not built" in out


def test_inspect_shows_the_plan_and_what_is_refused(run):
    text = f"{HEAD} g (float[N,3,3] x) => (float[N,3,3] y) {{ r = Relu (x)\n y = RandomNormalLike (r) }}"
    Path("det.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    code, out, err = run("inspect", "det.onnx", "--report", "r.html")
    assert code == 4
    assert "cannot be converted: 1 node refused" in out
    assert err.startswith("bridge: RandomNormalLike at output y: no builder")
    assert "What stands in the way" in Path("r.html").read_text()


def test_ops(run):
    code, out, err = run("ops")
    assert (code, err) == (0, "")
    rows = {line.split()[1]: line for line in out.splitlines()}
    assert "Conv1D/2D/3D" in rows["Conv"]
    assert "channels last" in rows["Conv"]
    assert rows["bridge.LSTM"].split()[4] == "LSTM,"
    assert "BatchNormalization" in rows["BatchNormalization"].split()[-1]
    assert rows["Sqrt"].endswith("keras.ops")


def test_ops_as_json(run):
    _, out, _ = run("ops", "--json")
    entries = json.loads(out)
    assert {"family", "domain", "operator", "opsets", "layout", "becomes"} == entries[0].keys()
    assert {"Relu", "Conv", "MatMul", "LSTM", "QLinearConv", "Upsample"} <= {
        entry["operator"] for entry in entries
    }


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_on_a_terminal(model, tmp_path, quiet):
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "bridge",
        "convert",
        model,
        "-o",
        tmp_path / "out.keras",
        *["-q"] * quiet,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, cwd=ROOT)
    os.close(slave)
    shown = b"".join(terminal_output(master)).decode()
    out, _ = process.communicate()
    assert process.returncode == 0
    if quiet:
        assert (shown, out) == ("", b"")
    else:
        assert [room for room in STAGES if room in shown]
        assert b"proved equal" in out


def terminal_output(descriptor):
    with contextlib.suppress(OSError):  # what reading gives once the other end is closed
        while piece := os.read(descriptor, 4096):
            yield piece
