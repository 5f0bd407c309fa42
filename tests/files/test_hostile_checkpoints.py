"""Checkpoints from strangers (`.pt`, `.pth`, `.safetensors`): tensors of the model's own state, or refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
import safetensors.torch
import torch
from hostile import refused, with_member

import bridge
from bridge import saving
from bridge.files.checkpoints import read_state

SUFFIXES = [".pt", ".pth", ".safetensors"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "m.keras"
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).eval()
    return bridge.convert(module, torch.randn(2, 4)).save(path)


STATE = {
    "0.weight": torch.arange(12.0).reshape(3, 4), "0.bias": torch.ones(3), "1.weight": torch.ones(3), "1.bias": torch.ones(3),
    "1.running_mean": torch.zeros(3), "1.running_var": torch.ones(3), "1.num_batches_tracked": torch.tensor(7),
}  # fmt: skip


def saved(state: Any, suffix: str = ".pt", **options: Any) -> bytes:
    if suffix == ".safetensors":
        return safetensors.torch.save(state)
    out = io.BytesIO()
    torch.save(state, out, **options)
    return out.getvalue()


def load(model: Path, path: Path) -> None:
    """All that `bridge weights --from-torch` does with a checkpoint but save."""
    bridge.load(model).weights.load_torch(read_state(path))


def test_a_harmless_checkpoint(model: Path, folder: Path) -> None:
    for suffix in SUFFIXES:
        path = folder / f"s{suffix}"
        path.write_bytes(saved(STATE, suffix))
        load(model, path)
    path.write_bytes(saved(STATE, _use_new_zipfile_serialization=False))
    with pytest.raises(bridge.SourceError, match="not a .safetensors file"):
        load(model, path)
    load(model, path.rename(folder / "old.pth"))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", [*hostile.NO_FILES, *hostile.BROKEN])
def test_no_checkpoint(folder: Path, suffix: str, kind: str) -> None:
    path = folder / f"s{suffix}"
    {**hostile.NO_FILES, **hostile.BROKEN}[kind](path, saved(STATE, suffix))
    refused(lambda: read_state(path), f"s{suffix}: (no such file|not a)", folder.parent)


@pytest.mark.parametrize("kind", hostile.ARCHIVES)
def test_archives(folder: Path, kind: str) -> None:
    path = folder / "s.pt"
    path.write_bytes(hostile.ARCHIVES[kind](saved(STATE)))
    refused(lambda: read_state(path), r"s.pt: not a file of tensors only", folder.parent)


# --- pickles -------------------------------------------------------------------------------------------------


class Calls:
    """Calls a function where it is unpickled."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def opcodes(text: bytes) -> Callable[[Path], bytes]:
    return lambda mark: b"\x80\x02" + text + b"."


PICKLES: dict[str, Callable[[Path], Any]] = {
    "os.system": lambda mark: Calls(os.system, f"touch {mark}"),
    "exec": lambda mark: Calls(exec, f"open({str(mark)!r}, 'w')"),
    "open": lambda mark: Calls(open, str(mark), "w"),
    "a function of torch": lambda mark: Calls(torch.save, 1, str(mark)),
    "torch.load": lambda mark: Calls(torch.load, str(mark)),
    "numpy": lambda mark: np.ones(3),
    "room": lambda mark: Calls(bytearray, 1 << 34),
    "a module": lambda mark: torch.nn.Linear(4, 3),
    "a list": lambda mark: [STATE],
    "a tensor": lambda mark: torch.ones(3),
    "a number": lambda mark: 7,
    "states inside": lambda mark: {"model": STATE, "optimizer": {}},
    "numbers in a state": lambda mark: {**STATE, "epoch": 3},
    "names that are none": lambda mark: {7: torch.ones(3), None: torch.ones(3)},
}
RAW = {
    "deep": b"\x80\x02" + b"(" * 100_000 + b".",
    "a deep tuple": b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "a long text": b"\x80\x02" + b"X\xff\xff\xff\x7fabc.",
    "a long number": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "memory": b"\x80\x02Nr\xff\xff\xff\xff.",
    "a global": b"cos\nsystem\n(S'true'\ntR.",
    "a name of dots": b"\x80\x02ctorch.os\nsystem\n.",
    "a lot of nothing": b"\x80\x02" + b"]" * 100_000 + b".",
    "no end": b"\x80\x02}",
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("case", PICKLES)
def test_pickles(folder: Path, tmp_path: Path, case: str, zipped: bool) -> None:
    path, mark = folder / "s.pt", tmp_path / "ran"
    path.write_bytes(saved(PICKLES[case](mark), _use_new_zipfile_serialization=zipped))
    refused(lambda: read_state(path), r"s.pt: (not a file of tensors only|holds no state_dict)", tmp_path)


@pytest.mark.parametrize("case", RAW)
def test_raw_pickles(folder: Path, case: str) -> None:
    path, whole = folder / "s.pt", saved(STATE)
    for data in (RAW[case], with_member(whole, ".pkl", lambda old: RAW[case])):
        path.write_bytes(data)
        refused(
            lambda: read_state(path), r"s.pt: (not a file of tensors only|holds no state_dict)", folder.parent
        )


def test_a_plain_pickle(folder: Path) -> None:
    path = folder / "s.pt"
    path.write_bytes(pickle.dumps({"w": 1.0}))
    refused(
        lambda: read_state(path), r"s.pt: (not a file of tensors only|holds no state_dict)", folder.parent
    )


# --- tensors -------------------------------------------------------------------------------------------------


def quantized(tensor: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


TENSORS: dict[str, Callable[[torch.Tensor], torch.Tensor | None]] = {
    "sparse": lambda w: w.to_sparse(),
    "sparse rows": lambda w: w.to_sparse_csr(),
    "quantised": quantized,
    "nowhere": lambda w: w.to("meta"),
    "complex": lambda w: w.to(torch.complex64),
    "nested": lambda w: torch.nested.nested_tensor(list(w)),
    "another shape": lambda w: w.T,
    "no axes": lambda w: w[0, 0],
    "nothing": lambda w: w[:0],
    "without end": lambda w: w[0, :1].expand(1 << 30, 1 << 30),
    "missing": lambda w: None,
}


@pytest.mark.filterwarnings("ignore:Sparse|The PyTorch API of nested|.*storage")
@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_do_not_fit(model: Path, folder: Path, case: str) -> None:
    path, other = folder / "s.pt", TENSORS[case](STATE["0.weight"])
    state = {**STATE, "0.weight": other}
    if other is None:
        del state["0.weight"]
    path.write_bytes(saved(state))
    refused(lambda: load(model, path), r"0.weight|not a file of tensors only", folder.parent)


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float64", "int32", "bool"]
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_numbers_of_other_types(model: Path, folder: Path, suffix: str, dtype: str) -> None:
    path, given = folder / f"s{suffix}", STATE["0.weight"].to(getattr(torch, dtype))
    path.write_bytes(saved({**STATE, "0.weight": given}, suffix))
    conversion = bridge.load(model)
    conversion.weights.load_torch(read_state(path))
    assert torch.equal(conversion.weights.to_torch()["0.weight"], given.to(torch.float32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_counts_are_whole_numbers(model: Path, folder: Path, dtype: str) -> None:
    path = folder / "s.pt"
    path.write_bytes(saved({**STATE, "1.num_batches_tracked": torch.tensor(7.5).to(getattr(torch, dtype))}))
    refused(lambda: load(model, path), "1.num_batches_tracked is ", folder.parent)


def test_names_without_end(model: Path, folder: Path) -> None:
    path = folder / "s.pt"
    path.write_bytes(
        saved({**STATE, **{f"x{i}\x1b[2J": torch.ones(1) for i in range(5000)}, "y" * 100_000: torch.ones(1)})
    )
    refused(lambda: load(model, path), r"x0\\x1b\[2J is not of this model", folder.parent)


# --- safetensors ---------------------------------------------------------------------------------------------


def tensors(header: Any, data: bytes = bytes(48), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", (len(text) if length is None else length) % (1 << 64)) + text + data


def one(**fields: Any) -> bytes:
    return tensors({"0.weight": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48], **fields}})


SAFETENSORS = {
    "a header beyond the file": tensors({}, length=1 << 20),
    "a header without end": tensors({}, length=(1 << 63) + 5),
    "a negative header": tensors({}, length=-1),
    "no header": tensors(b""),
    "a header of text": tensors(b"no JSON"),
    "a header of a list": tensors([]),
    "a deep header": tensors(b"[" * 100_000),
    "a deep header that closes": tensors(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "a name twice": tensors(b'{"a":{"dtype":"F32","shape":[6],"data_offsets":[0,24]},"a":{"dtype":"F32","shape":[12],"data_offsets":[0,48]}}'),
    "no type": one(dtype=None),
    "an unknown type": one(dtype="F7"),
    "texts": one(dtype="STR"),
    "a negative shape": one(shape=[-3, -4]),
    "a shape without end": one(shape=[1 << 62, 4]),
    "a shape of more than there is a number for": one(shape=[1 << 70]),
    "a shape of nothing": one(shape=[1 << 62, 0]),
    "a shape of parts": one(shape=[3.5, 4]),
    "200 axes": one(shape=[1] * 200),
    "another shape": one(shape=[4, 4]),
    "offsets beyond the file": one(data_offsets=[0, 1 << 40], shape=[1 << 38]),
    "offsets backwards": one(data_offsets=[48, 0]),
    "negative offsets": one(data_offsets=[-48, 0]),
    "offsets with a gap": one(data_offsets=[4, 52]),
    "too few offsets": one(data_offsets=[0]),
    "data that nobody names": tensors({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}),
    "overlapping": tensors({n: {"dtype": "F32", "shape": [12], "data_offsets": [0, 48]} for n in "ab"}),
    "half overlapping": tensors({
        "a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}, "b": {"dtype": "F32", "shape": [8], "data_offsets": [16, 48]}}),
    "notes that are no texts": tensors({"__metadata__": {"a": 1}, "a": {"dtype": "F32", "shape": [12], "data_offsets": [0, 48]}}),
}  # fmt: skip


@pytest.mark.parametrize("case", SAFETENSORS)
def test_headers_of_safetensors(model: Path, folder: Path, case: str) -> None:
    path = folder / "s.safetensors"
    path.write_bytes(SAFETENSORS[case])
    refused(lambda: load(model, path), "not a .safetensors file|is missing|has shape", folder.parent)


def test_a_checkpoint_that_does_not_fit_changes_nothing(model: Path, folder: Path) -> None:
    path = folder / "s.pt"
    path.write_bytes(saved({**STATE, "1.running_var": torch.ones(4)}))
    conversion = bridge.load(model)
    before = conversion.weights.to_torch()
    with pytest.raises(bridge.WeightsError, match=r"1.running_var has shape \(4,\), expected \(3,\)"):
        conversion.weights.load_torch(read_state(path))
    after = conversion.weights.to_torch()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert saving.map_path(model).exists()
    assert zipfile.is_zipfile(path)
