"""A zoo: what is read of it, how its models end, what is written, and what a second run does."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from pathlib import Path
from unittest import mock

import onnx
import pytest
from reports import FAILED

import bridge
from bridge.batch import Outcome, Zoo, child, convert_zoo
from bridge.batch.executors import engine
from bridge.batch.jobs import read_jobs
from bridge.batch.running import _digest, _is_finished
from bridge.cli import commands

ROOT = Path(__file__).parents[2]
HEAD = '<ir_version: 10, opset_import: ["": 23]>'
GOOD = f"{HEAD} g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {{1,2,3,4}}> {{ y = MatMul (x, w) }}"
REFUSED = f"{HEAD} g (float[N] x) => (string[N] y) {{ y = Cast <to=8> (x) }}"
NETS = """
import os, time
import beside
def crash(): os._exit(3)
def slow(): time.sleep(60)
def hungry(): bytearray(8 << 30)
"""


@pytest.fixture
def zoo(tmp_path):
    """`zoo(text)` writes a zoo beside its models; gives its path."""
    good, refused = (onnx.parser.parse_model(text) for text in (GOOD, REFUSED))
    [weight] = good.graph.initializer
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight), "w"))
    onnx.save(good, tmp_path / "good.onnx", save_as_external_data=True, location="good.bin", size_threshold=0)
    onnx.save(refused, tmp_path / "refused.onnx")
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "beside.py").write_text("")

    def write(text):
        (tmp_path / "zoo.toml").write_text(text)
        return tmp_path / "zoo.toml"

    return write


def models(*sources, **options):
    given = "".join(f"{name} = {value}\n" for name, value in options.items())
    return "".join(f'[[models]]\nsource = "{source}"\n{given}' for source in sources)


def jobs(toml):
    return read_jobs(toml, toml.parent / "out")


# --- the toml ------------------------------------------------------------------------------------------------

WRONG = {
    "models = 3": "a model is a .*models.* with a source",
    "": "no models: write",
    "[[models]]\nname = 'a'": "model 1: it has no source",
    "x = [": "not a zoo in TOML",
    "[default]\nseed = 1": r"nothing is called 'default'; did you mean defaults\?",
    "[defaults]\nflot64 = true": r"\[defaults\]: nothing is called 'flot64'; did you mean float64\?",
    "[defaults]\nsource = 'a'": "nothing is called 'source'",
    models("a.onnx") + "stateful = true": "model 1: nothing is called 'stateful'",
    models("a.onnx", float64="'yes'"): "float64 is true or false, not 'yes'",
    models("a.onnx", timeout="0"): "timeout is seconds, more than 0",
    models("a.onnx", memory="'much'"): "memory is a size, such as '8 GB'",
    models("a.onnx", sizes="{ time = 3 }"): "sizes is a table of lists",
    models("a.onnx", dynamic_shapes="{ x = { 0 = 2.5 } }"): "dynamic_shapes is a table",
    models("a.onnx", name='"\\u001b[31m"'): "name is a text",
    models("*.pt2"): "no file is called",
    models("*.onnx", name="'a'"): "name is of one model",
    models("a.onnx", "a.onnx"): "2 models are 'a.onnx': give each a name",
    models("a.onnx", "b.onnx", name="'a'"): "2 models are 'a': give each a name",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_zoo_that_is_none(text, zoo):
    with pytest.raises(bridge.SourceError, match=WRONG[text]):
        jobs(zoo(text))


def test_patterns_defaults_and_names(zoo):
    text = (
        "[defaults]\ntimeout = 9\n" + models("*.onnx") + models("good.onnx", timeout="5", memory="'1.5 GB'")
    )
    found = jobs(zoo(text + models("nets.py:slow", "package.module:make", "good.pt2")))
    assert [(job.name, job.timeout) for job in found] == [
        ("refused", 9), ("good.onnx", 5), ("nets.slow", 9), ("package.module.make", 9), ("good.pt2", 9),
    ]  # fmt: skip
    assert found[1].memory == 1_500_000_000


def test_files_are_safe_and_their_own(zoo):
    names = ["a/b", "a b", "A-B", "../..", "con.x", "index", "<b>", "é" * 200, ".x"]
    text = "".join(models(f"{n}.onnx", name=f"'{name}'") for n, name in enumerate(names))
    files = [job.file for job in jobs(zoo(text))]
    assert files == ["a-b", "a-b-2", "A-B-3", "model", "_con.x", "_index", "b", "é" * 80, "x"]


# --- how models end ------------------------------------------------------------------------------------------


@pytest.fixture
def run(capfd):
    def command(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            commands.main(["batch", *map(str, arguments)], prog_name="bridge")
        return caught.value.code or 0, *capfd.readouterr()

    return command


def statuses(out):
    return {m["name"]: m["status"] for m in json.loads((out / "zoo.json").read_text())["models"]}


def test_a_zoo_ends_to_end_and_goes_on(zoo, run, tmp_path):
    out = tmp_path / "out"
    rest = (
        models("nets.py:crash")
        + models("nets.py:slow", timeout="1")
        + models("nets.py:hungry", memory="'2 GB'")
    )
    toml = zoo(models("good.onnx", "refused.onnx", verify="false") + rest)
    code, said, err = run(toml, "-o", out, "--workers", 2)
    assert (code, err) == (4, "")
    assert statuses(out) == {
        "good": "converted", "refused": "refused", "nets.crash": "died", "nets.slow": "died", "nets.hungry": "died",
    }  # fmt: skip
    for text in (
        "1 model waits for Cast",
        "code 3",
        "longer than 1 s",
        "more memory than it may take (2 GB)",
    ):
        assert text in said
    files = {path.name for path in out.iterdir()}
    assert files == {"index.html", "zoo.json", "refused.json", "refused.html"} | {
        f"good{ending}" for ending in (".keras", ".bridge.npz", ".json", ".html")
    }
    assert json.loads((out / "good.json").read_text())["source"] == "good"

    before = (out / "good.keras").stat().st_mtime_ns
    toml = zoo(models("good.onnx", verify="false") + models("nets.py:crash"))
    code, said, _ = run(toml, "-o", out, "--json")
    assert code == 7
    assert json.loads(said)["counts"] == {"converted": 1, "died": 1}
    assert (out / "good.keras").stat().st_mtime_ns == before

    [good, _] = [Outcome.of(m) for m in json.loads(said)["models"]]
    [job, _] = read_jobs(toml, out)
    assert _is_finished(job, good, _digest)
    assert good.read.keys() == {"good.onnx", "good.bin"}
    (tmp_path / "good.bin").write_bytes(b"")
    assert not _is_finished(job, good, _digest)


OPTIONS = """
channels_last = true
seed = 3
float64 = true
sizes = { N = [2, 3] }
inputs = "x.npz"
backends = ["torch"]
dynamic_shapes = [{ 0 = "n" }, { cache = { 2 = "past + n" } }]
"""


def test_options_are_those_of_convert(zoo, monkeypatch):
    asked = mock.Mock()
    monkeypatch.setattr(bridge, "convert", asked)
    for job in jobs(zoo(models("good.onnx") + OPTIONS + models("refused.onnx", verify="false"))):
        child._converted(job)
    full, plain = asked.call_args_list
    assert full.args == ("good.onnx", None)
    assert full.kwargs == {
        "dynamic_shapes": ({0: "n"}, {"cache": {2: "past + n"}}),
        "channels_last": True,
        "dequantize": False,
        "verify": bridge.Verify({"N": [2, 3]}, "x.npz", 3, True, False, ("torch",)),
    }
    assert plain.kwargs["verify"] is False


class Reproduced:
    def save(self, folder):
        folder.mkdir()
        return folder


ENDS = {
    "mismatch": bridge.MismatchError("they differ", FAILED, Reproduced()),
    "refused": bridge.UnsupportedError([bridge.Refusal("Cast", "a.b", "why", "net.py:3"), "a whole line"]),
    "unreadable": bridge.WeightsError("weights"),
    "not exported": bridge.ExportError("torch cannot"),
    "package missing": bridge.MissingPackageError("pip install"),
    "not written": bridge.OutputError("full"),
    "bug": ValueError("wrong"),
    "died": MemoryError("no room"),
}


@pytest.mark.parametrize("status", ENDS)
def test_what_an_error_is(status, zoo, tmp_path, monkeypatch):
    def fail(job):
        raise ENDS[status]

    monkeypatch.setattr(child, "_converted", fail)
    monkeypatch.setattr(child, "_bound_memory", lambda bound: None)
    monkeypatch.setattr(child, "Reads", mock.MagicMock(**{"return_value.digests.return_value": {}}))
    (tmp_path / "out").mkdir()
    [job] = jobs(zoo(models("good.onnx", memory="'1 GB'")))
    outcome = child.convert(job)
    assert outcome.status == status
    assert outcome.files.keys() == {
        "mismatch": {"json", "page", "mismatch"}, "refused": {"json", "page"},
    }.get(status, set())  # fmt: skip
    assert all((tmp_path / "out" / name).exists() for name in outcome.files.values())
    assert (outcome.error is not None) == (status == "mismatch")
    assert len(outcome.refusals) == 2 * (status == "refused")
    assert Outcome.of(json.loads(json.dumps(dataclasses.asdict(outcome)))) == outcome


def test_a_folder_of_other_things_is_left_alone(zoo, run, tmp_path):
    code, _, err = run(zoo(models("good.onnx")), "-o", tmp_path)
    assert code == 6
    assert "holds other things than a zoo" in err


def heeding() -> None:
    """As in the foreground: what runs behind a shell is started deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupted_it_ends_what_runs_and_writes_what_is_done(zoo, tmp_path):
    toml = zoo(models("nets.py:crash", "nets.py:slow"))
    command = [sys.executable, "-m", "bridge", "batch", toml, "-o", tmp_path / "out", "--workers", "2", "-q"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, preexec_fn=heeding) as process:
        end = time.monotonic() + 60
        while not (tmp_path / "out/zoo.json").exists() or statuses(tmp_path / "out")["nets.crash"] != "died":
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[1] == b"bridge: interrupted\n"
    assert process.returncode == 130
    assert statuses(tmp_path / "out") == {"nets.crash": "died", "nets.slow": "waiting"}
    assert "1 not yet run" in (tmp_path / "out/index.html").read_text()


# --- engines -------------------------------------------------------------------------------------------------


class Broken(Executor):
    """An engine whose workers die."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_exception(RuntimeError("the worker is gone"))
        return future


def test_a_worker_that_dies_is_an_outcome(zoo, tmp_path):
    done = convert_zoo(zoo(models("good.onnx")), tmp_path / "out", executor=Broken())
    assert [(outcome.status, outcome.verdict) for outcome in done.outcomes] == [
        ("died", "the worker is gone")
    ]


@pytest.mark.parametrize(
    ("name", "package"), [("local", "threading"), ("dask", "distributed"), ("ray", "ray")]
)
def test_every_engine(name, package, zoo, tmp_path):
    pytest.importorskip(package)
    with engine(name, workers=2) as executor:
        done = convert_zoo(
            zoo(models("nets.py:crash", "nets.py:absent")), tmp_path / "out", executor=executor
        )
    assert [outcome.status for outcome in done.outcomes] == ["died", "unreadable"]
    assert "ended with code 3" in done.outcomes[0].verdict


@pytest.mark.parametrize(("name", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_an_engine_that_is_not_installed(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(bridge.MissingPackageError, match="pip install"), engine(name):
        pass


def test_an_address_is_of_an_engine_that_runs():
    with (
        pytest.raises(bridge.SourceError, match="an address is of dask or ray"),
        engine("local", address="x"),
    ):
        pass


# --- the page ------------------------------------------------------------------------------------------------


def test_the_page_holds_names_as_text_and_needs_nothing_else(tmp_path):
    evil = "<script>alert('&')</script>"
    outcomes = (
        Outcome(evil, evil, "refused", evil, refusals=({"op": evil, "path": evil, "reason": evil, "line": ""},),
                files={"page": "a'b.html"}),
        Outcome("b", "b.onnx", "mismatch", "NOT equal", float("inf"), 1e-5, 12, ("Cell",), 2.0),
        Outcome("c", "c.onnx"),
    )  # fmt: skip
    page = Zoo(evil, tmp_path, outcomes).to_html()
    assert "<script" not in page
    assert not [word for word in ("url(", "@import", "://", " src=") if word in page]
    assert "default-src 'none'" in page
    assert 'href="a%27b.html"' in page
    for said in ("1 model waits for", "0 of 3 models converted, 2 not, 1 not yet run", "Cell"):
        assert said in page
