"""What bad input gets: one line with what, where and the way out, an exit code, nothing half-written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import bridge
from bridge.cli.console import EXIT_CODES

ROOT = Path(__file__).parents[2]
HEAD = '<ir_version: 10, opset_import: ["": 23, "com.acme": 1]>'
MATMUL = f"{HEAD} g (float[N,40] x) => (float[N,30] y) {{ y = MatMul (x, w) }}"


def refused(kind, says, source, *args, **options):
    """`convert` raises `kind`, in one line that says all of `says`."""
    with pytest.raises(kind) as caught:
        bridge.convert(source, *args, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    assert [said for said in says if said not in text] == [], text


def with_weight(values):
    proto = onnx.parser.parse_model(MATMUL)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(values, "w"))
    return proto


def weight():
    return np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)


# --- ONNX files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"hello world", "not an ONNX file, or a truncated one"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not an ONNX file, or a truncated one"),
        (b"", "it holds no graph"),
    ],
    ids=["text", "image", "empty"],
)
def test_not_an_onnx_file(tmp_path, content, says):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(bridge.SourceError, [str(path), says], path)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_truncated_file(tmp_path, part):
    path = tmp_path / "model.onnx"
    data = with_weight(weight()).SerializeToString()
    path.write_bytes(data[: int(len(data) * part)])
    refused(bridge.SourceError, [str(path)], path)


def test_no_such_file(tmp_path):
    refused(bridge.SourceError, ["model.onnx: no such file"], tmp_path / "model.onnx")
    refused(bridge.SourceError, ["no such file"], tmp_path)


def test_checker_has_the_first_word(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.parser.parse_model(MATMUL).SerializeToString())
    refused(bridge.SourceError, [str(path), "not a valid ONNX model", "'w'", "MatMul"], path)


def test_unknown_operator():
    proto = onnx.parser.parse_model(f"{HEAD} g (float[N] x) => (float[N] y) {{ y = Frobnicate (x) }}")
    refused(bridge.SourceError, ["not a valid ONNX model", "Frobnicate"], proto)


def test_unknown_domain_and_missing_builders_all_at_once():
    proto = onnx.parser.parse_model(
        f"{HEAD} g (float[N,3,3] x) => (float[N] y)"
        "{ z = com.acme.Frob (x)\n d = RandomNormalLike (z)\n y = com.acme.Bar (d) }"
    )
    with pytest.raises(bridge.UnsupportedError) as caught:
        bridge.convert(proto)
    lines = sorted(str(caught.value).splitlines())
    assert [line.partition(":")[0] for line in lines] == [
        "RandomNormalLike at output d",
        "com.acme.Bar at output y",
        "com.acme.Frob at output z",
    ]
    assert all("no builder for this operator" in line for line in lines)
    assert len(caught.value.refusals) == 3


def test_foreign_operators_before_ours_are_all_listed():
    proto = onnx.parser.parse_model(
        f"{HEAD} g (float[N,40] x) => (float[N,30] y)"
        "{ a = com.acme.Frob (x)\n b = com.acme.Bar (x)\n c = Add (a, b)\n y = MatMul (c, w) }"
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight(), "w"))
    with pytest.raises(bridge.UnsupportedError) as caught:
        bridge.convert(proto)
    assert [refusal.op for refusal in caught.value.refusals] == ["com.acme.Frob", "com.acme.Bar"]


def test_what_only_building_shows_is_listed_at_once():
    proto = onnx.parser.parse_model(
        f"{HEAD} g (int64[3,3] x) => (int64[3] y, int64[3] z)"
        '{ y = Einsum <equation = "ii->i"> (x)\n n = Neg (x)\n z = Einsum <equation = "ii->i"> (n) }'
    )
    with pytest.raises(bridge.UnsupportedError, match="stands twice") as caught:
        bridge.convert(proto)
    assert len(caught.value.refusals) == 2


def save_external(folder):
    path = folder / "model.onnx"
    onnx.save(
        with_weight(weight()), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    return path


def test_external_data(tmp_path):
    path = save_external(tmp_path)
    assert bridge.convert(path).report.verified
    data = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(data[:100])
    refused(bridge.SourceError, [str(path)], path)
    (tmp_path / "weights.bin").unlink()
    refused(bridge.SourceError, [str(path), "external data 'weights.bin' is missing beside it"], path)


def test_external_data_stays_in_its_folder(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    path = save_external(inner)
    (inner / "weights.bin").rename(tmp_path / "weights.bin")
    proto = onnx.load(path, load_external_data=False)
    entries = proto.graph.initializer[0].external_data
    next(entry for entry in entries if entry.key == "location").value = "../weights.bin"
    path.write_bytes(proto.SerializeToString())
    refused(bridge.SourceError, [str(path), "outside the model's folder"], path)


def test_nan_in_an_initializer():
    values = weight()
    values[3, 4] = np.nan
    refused(bridge.SourceError, ["w (1 of 1200) holds NaN"], with_weight(values))


# --- torch --------------------------------------------------------------------------------------------------


class Inside(nn.Module):
    def forward(self, x):
        return torch.special.i0(x)


class Several(nn.Module):
    """Functions without a translation: in a submodule, in a branch, in a function, beside an operator without a
    builder."""

    def __init__(self):
        super().__init__()
        self.inside, self.head = Inside(), nn.Linear(4, 3)

    def forward(self, x):
        x = torch.cond(x.sum() > 0, lambda x: torch.special.i1(x), lambda x: torch.special.i1e(x), (x,))
        return self.head(self.inside(x)) + torch.linalg.svdvals(x).sum(), torch.gcd(x.int(), x.int())


@pytest.mark.parametrize("batch", [1, 2])
def test_all_that_torch_cannot_export_is_listed_at_once(batch):
    with pytest.raises(bridge.UnsupportedError) as caught:
        bridge.convert(Several().eval(), torch.randn(batch, 4))
    found = {refusal.op: refusal for refusal in caught.value.refusals}
    wanted = "torch.gcd torch.i0 torch.linalg.svd torch.special.i1 torch.special.i1e"
    assert sorted(found) == wanted.split()
    assert found["torch.i0"].path == "inside"
    assert all("test_bad_input.py:" in str(refusal) for refusal in found.values())
    assert all("no ONNX operator and no formula for it; " in str(refusal) for refusal in found.values())
    report = bridge.inspect(Several().eval(), torch.randn(batch, 4))
    assert len(report.refusals) == len(found)


X = torch.ones(2, 7, 4)
AXES = ({0: "batch", 1: "time"},)


class Control(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Raises(nn.Module):
    def forward(self, x):
        raise RuntimeError("no more\nthan two inputs")


class Fixed(nn.Module):
    """Unrolls its time axis."""

    def forward(self, x):
        return sum((x[:, step] for step in range(int(x.shape[1]))), torch.zeros(4))


class Positions(nn.Module):
    def forward(self, x):
        return x + torch.arange(7.0)[None, :, None]


def test_export_fails_with_torchs_own_reason():
    refused(
        bridge.ExportError,
        ["torch cannot export Control", "depends on the numbers in a tensor"],
        Control(),
        (X,),
    )
    refused(bridge.ExportError, ["Raises does not run", "no more than two inputs"], Raises(), (X,))


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((X, X), None, "takes 2 positional arguments but 3 were given"),
        ((X,), {"hidden": X}, "unexpected keyword argument 'hidden'"),
        ((X[..., :3],), None, "mat1 and mat2 shapes cannot be multiplied (14x3 and 4x3)"),
        ((X.long(),), None, "must have the same dtype"),
    ],
)
def test_args_that_do_not_fit(args, kwargs, says):
    refused(
        bridge.ExportError, ["Linear does not run on the args given", says], nn.Linear(4, 3), args, kwargs
    )


class Reader(nn.Module):
    """It has a table of places, and takes whatever it is given."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(30, 4), nn.Embedding(12, 4)

    def forward(self, input_ids, attention_mask=None, **others):
        x = self.words(input_ids) + self.places(torch.arange(input_ids.size(1)))
        return {"y": x if attention_mask is None else x * attention_mask[:, :, None], **others}


IDS, LONG = torch.ones(2, 7, dtype=torch.long), torch.ones(2, 15, dtype=torch.long)
MISCALLED = {
    "too long": (
        Reader(),
        {"input_ids": LONG, "attention_mask": LONG},
        "input_ids is 15 long along axis 1, and places.weight has 12 places; with 12 it runs",
    ),
    "a mask of another length": (
        Reader(),
        {"input_ids": IDS, "attention_mask": IDS[:, :5]},
        "given input_ids int64[2, 7], attention_mask int64[2, 5]; forward takes",
    ),
    "a mask of another type": (
        nn.TransformerEncoderLayer(4, 2, batch_first=True),
        {"src": torch.randn(2, 7, 4), "src_key_padding_mask": IDS},
        "given src float32[2, 7, 4], src_key_padding_mask int64[2, 7]; forward takes",
    ),
    "an output that is no tensor": (
        Reader(),
        {"input_ids": IDS, "others": {"note": "read"}},
        "gives outputs that are no tensors (str at others.note): give tensors only",
    ),
}


@pytest.mark.parametrize(("module", "kwargs", "says"), MISCALLED.values(), ids=MISCALLED)
def test_what_is_called_otherwise_than_meant_is_named(module, kwargs, says):
    refused(bridge.BridgeError, [says], module.eval(), None, kwargs)


def test_an_input_that_is_ignored_is_told():
    kwargs = {"input_ids": IDS, "attn_mask": IDS}

    class Ignores(Reader):
        def forward(self, input_ids, token_type_ids=None, **others):
            return super().forward(input_ids)

    notes = bridge.convert(
        Ignores().eval(), kwargs=kwargs | {"token_type_ids": IDS}, verify=False
    ).report.notes
    ignored = [note.partition(" is ignored: no output depends on its numbers") for note in notes]
    assert [(name, why) for name, found, why in ignored if found] == [
        ("input token_type_ids", ""),
        ("input attn_mask", ", and no parameter of forward is called so"),
    ]


@pytest.mark.parametrize("module", [Fixed(), Positions()])
@pytest.mark.parametrize("dim", [str, torch.export.Dim])
def test_an_axis_that_torch_fixed_is_named(module, dim):
    axes = tuple({axis: dim(name) for axis, name in given.items()} for given in AXES)
    says = ["torch fixed axis 1", "of input x to 7 (test_bad_input.py:", "leave the axis out"]
    refused(bridge.ExportError, says, module, (X,), dynamic_shapes=axes)


def test_an_axis_that_a_layer_fixed_is_named_without_a_line():
    says = ["torch fixed axis 1 of input input to 3 at 0: something there", "leave the axis out"]
    source = nn.Sequential(nn.Conv2d(3, 2, 1))
    refused(bridge.ExportError, says, source, torch.randn(2, 3, 4, 5), dynamic_shapes=({1: "time"},))


def test_an_axis_that_only_seems_free_is_told():
    class Flat(nn.Module):
        def forward(self, x):
            return x.reshape(11, 28)

    report = bridge.convert(Flat(), (torch.randn(11, 7, 4),), dynamic_shapes=AXES).report
    assert any("the source itself does not run at batch=12" in note for note in report.notes)
    assert report.verdict.endswith("kinds of odd values only: the source ran at no other")


def test_an_output_that_never_changes_is_told():
    class Dead(nn.Module):
        def forward(self, x):
            return torch.relu(-x.abs() - 1), x + 1

    report = bridge.convert(Dead(), (X,)).report
    assert len(report.unvaried) == 1
    assert report.verdict.startswith(f"equal, which shows little: {report.unvaried[0]} never varied")
    assert report.unvaried[0].endswith(" (0.0)")


def test_a_source_that_is_random_in_evaluation_mode():
    class Always(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5)

    refused(bridge.SourceError, ["other outputs each time it runs", "self.training"], Always(), (X,))


class Uncopied(nn.Module):
    """It holds what `copy.deepcopy` refuses."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(4, 5)
        self.twice = 2 * self.dense.weight

    def forward(self, x):
        return self.dense(x) + x @ self.twice.T


def test_a_module_that_cannot_be_copied():
    """It is proved as far as no other precision and no training is asked for."""
    x = (torch.randn(3, 4),)
    assert bridge.convert(Uncopied().eval(), x).report.proved
    with pytest.raises(bridge.SourceError, match="Uncopied cannot be copied, which comparing in float64 and"):
        bridge.convert(Uncopied().eval(), x, verify=bridge.Verify(training=True))


def test_dynamic_shapes_that_do_not_fit():
    refused(
        bridge.SourceError,
        ["there are the inputs input: give one"],
        nn.Linear(4, 3),
        (X,),
        dynamic_shapes=AXES * 2,
    )


def test_nan_in_the_weights():
    module = nn.Sequential(nn.LSTM(4, 3))
    with torch.no_grad():
        module[0].weight_hh_l0[2, 1:] = float("nan")
    refused(bridge.SourceError, ["0.weight_hh_l0 (2 of 36) holds NaN"], module[0:], (X,))


def test_infinity_in_a_mask_is_fine():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.register_buffer("mask", torch.full((4, 4), float("-inf")).triu(1))

        def forward(self, x):
            return (self.linear(x) + self.mask).softmax(-1)

    assert bridge.convert(Masked(), (torch.randn(3, 4, 4),)).report.verified


@pytest.mark.parametrize(
    ("source", "says"), [(3, "cannot convert int;"), (nn.Linear(4, 3), "needs example inputs")]
)
def test_not_a_model(source, says):
    refused(bridge.SourceError, [says], source)


def test_not_a_pt2_file(tmp_path):
    path = tmp_path / "model.pt2"
    path.write_bytes(b"nothing")
    refused(bridge.SourceError, [str(path), "not an ExportedProgram"], path)
    refused(bridge.SourceError, ["no such file"], tmp_path / "none.pt2")


# --- output -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def converted():
    return bridge.convert(nn.Linear(4, 3), (X,))


def test_output_that_cannot_be_written(converted, tmp_path):
    (tmp_path / "taken.keras").mkdir()
    for path in (tmp_path / "no" / "folder.keras", tmp_path / "taken.keras", tmp_path / "model.h5"):
        with pytest.raises(bridge.OutputError, match=path.name) as caught:
            converted.save(path)
        assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.keras"]


def test_a_failed_save_leaves_the_old_file(converted, tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_text("old")

    def fails(self, beside, *args, **kwargs):
        Path(beside).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(converted.model), "save", fails)
    with pytest.raises(bridge.OutputError, match="No space left on device"):
        converted.save(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# --- packages that are not installed ------------------------------------------------------------------------


WITHOUT = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec
absent = {packages}
PathFinder.find_spec = lambda name, *more: None if name.partition(".")[0] in absent else find(name, *more)

from bridge.cli.commands import main
main()
"""


def run_without(packages, *arguments, **environment):
    """The command in a process in which `packages` cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(packages=packages.split()), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def one_line(result, error, *says):
    assert result.returncode == EXIT_CODES[error]
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert [said for said in says if said not in result.stderr] == [], result.stderr


def test_without_torch_modules_are_refused(tmp_path):
    result = run_without("torch", "convert", "models.digits:make", "-o", tmp_path / "out.keras")
    one_line(
        result, bridge.MissingPackageError, "models.digits:make needs torch", "pip install '", "'torch>="
    )
    assert list(tmp_path.iterdir()) == []


def test_without_torch_pt2_files_are_refused(tmp_path):
    (tmp_path / "model.pt2").write_bytes(b"")
    result = run_without("torch", "convert", tmp_path / "model.pt2", "-o", tmp_path / "out.keras")
    one_line(result, bridge.MissingPackageError, "needs torch", "pip install '", "'torch>=")


def test_without_torch_onnx_files_are_converted(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(with_weight(weight()).SerializeToString())
    result = run_without("torch onnxscript", "convert", path, "-o", tmp_path / "out.keras", "--quiet")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / "out.keras").is_file()


def test_without_the_keras_backend(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(with_weight(weight()).SerializeToString())
    result = run_without(
        "tensorflow", "convert", path, "-o", tmp_path / "out.keras", KERAS_BACKEND="tensorflow"
    )
    one_line(result, bridge.MissingPackageError, "tensorflow", "pip install 'tensorflow>=", "KERAS_BACKEND")
    assert list(tmp_path.iterdir()) == [path]


def test_without_tensorflow_another_backend_does(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(with_weight(weight()).SerializeToString())
    result = run_without(
        "tensorflow", "convert", path, "-o", tmp_path / "out.keras", "--quiet", KERAS_BACKEND="torch"
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_without_onnxruntime(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(with_weight(weight()).SerializeToString())
    result = run_without("onnxruntime", "convert", path, "-o", tmp_path / "out.keras")
    one_line(result, bridge.MissingPackageError, "onnxruntime")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("absent", "extra"), [("safetensors", "safetensors"), ("torch", "torch")])
@pytest.mark.parametrize("way", ["--to-torch", "--from-torch"])
def test_without_what_reads_checkpoints(tmp_path, way, absent, extra):
    model, state = tmp_path / "m.keras", tmp_path / "state.safetensors"
    bridge.convert(with_weight(weight()), verify=False).save(model)
    if way == "--from-torch":
        state.write_bytes(b"")
    result = run_without(absent, "weights", model, way, state)
    one_line(result, bridge.MissingPackageError, f"needs {absent}", "pip install '", f"'{extra}>=")
