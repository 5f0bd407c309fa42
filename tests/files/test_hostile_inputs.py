"""Files of inputs from strangers (`.npz`, `.npy`): arrays of numbers as large as their files, or refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import onnx.parser
import pytest
from hostile import refused

import bridge
from bridge.frontend.asked import Asked

TEXT = '<ir_version: 10, opset_import: ["": 23]> g (float[N,4] x) => (float[N,4] y) { y = Relu (x) }'
X = np.ones((3, 4), np.float32)


def npy(array: Any = X) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def asked(path: Path) -> Callable[[], Any]:
    def work() -> None:
        bridge.convert(onnx.parser.parse_model(TEXT), verify=bridge.Verify(inputs=path))

    return work


@pytest.mark.parametrize("kind", hostile.ANY_ARCHIVE)
def test_no_archive(folder: Path, kind: str) -> None:
    path = folder / "x.npz"
    hostile.ANY_ARCHIVE[kind](path, npz(x=X))
    refused(asked(path), "x.npz: (no such file|not a file of arrays)|inputs: 0 given", folder.parent)


@pytest.mark.parametrize("kind", [*hostile.NO_FILES, *hostile.BROKEN])
def test_no_array(folder: Path, kind: str) -> None:
    path = folder / "x.npy"
    {**hostile.NO_FILES, **hostile.BROKEN}[kind](path, npy())
    refused(asked(path), "x.npy: (no such file|not a file of arrays)", folder.parent)


def header(text: str, version: tuple[int, int] = (1, 0), data: bytes = bytes(48)) -> bytes:
    length = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + text.encode("latin1", "replace") + data


def described(
    descr: str = "'<f4'", order: str = "False", shape: str = "(3, 4)", data: bytes = bytes(48)
) -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n", data=data)


HEADERS = {
    "objects": npy(np.array([{}], object)),
    "texts": npy(np.array(["abc"])),
    "bytes": npy(np.array([b"abc"])),
    "times": npy(np.array(["2020-01-01"], "M8[D]")),
    "records": npy(np.zeros(3, [("a", "f4"), ("b", "O")])),
    "plain records": npy(np.zeros(3, [("a", "f4"), ("b", "i8")])),
    "nothing at all": npy(np.zeros(3, "V0")) if False else described("'|V0'", shape="(4611686018427387904,)", data=b""),
    "texts of nothing": described("'|S0'", shape="(4611686018427387904,)", data=b""),
    "a shape without end": described(shape="(4611686018427387904, 4)"),
    "a shape of no number": described(shape="(1" + "0" * 100 + ",)"),
    "a negative shape": described(shape="(-3, -4)"),
    "a negative axis": described(shape="(-12,)"),
    "a shape that is true": described(shape="(True, 12)") if False else described(shape="('a',)"),
    "a shape of parts": described(shape="(3.0, 4)"),
    "no shape": header("{'descr': '<f4', 'fortran_order': False}\n"),
    "a call": header("{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os').getpid(),)}\n"),
    "a power": described(shape="(9**9**9,)"),
    "an unknown type": described("'<q17'"),
    "a type of a type": described("[('a', [('b', '<f4')])]"),
    "a type without end": described("[" * 500 + "]" * 500),
    "more data": npy() + bytes(100),
    "less data": npy()[:-4],
    "a header without end": header("{'descr': '<f4'" + " " * 60_000),
    "a header of megabytes": header("{'descr': '<f4'" + " " * 5_000_000, (2, 0)),
    "a header beyond the file": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{",
    "another version": header("{}", (9, 9)),
    "65 axes": described(shape="(" + "1, " * 200 + ")", data=bytes(4)),
}  # fmt: skip


@pytest.mark.parametrize("kind", [".npy", ".npz"])
@pytest.mark.parametrize("case", HEADERS)
def test_headers_of_arrays(folder: Path, case: str, kind: str) -> None:
    path = folder / f"x{kind}"
    data = HEADERS[case]
    path.write_bytes(data if kind == ".npy" else hostile.rezipped(npz(x=X), lambda name, old: data))
    refused(asked(path), f"x{kind}: not a file of arrays", folder.parent)


ARRAYS: dict[str, Any] = {
    "float64": X.astype("float64"),
    "complex": X.astype("complex64"),
    "integers": X.astype("int64"),
    "bools": X.astype("bool"),
    "another rank": X[0],
    "another width": X[:, :3],
    "no axes": X[0, 0],
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_do_not_fit(folder: Path, case: str) -> None:
    path = folder / "x.npz"
    path.write_bytes(npz(x=ARRAYS[case]))
    refused(asked(path), "inputs: x is ", folder.parent)


@pytest.mark.parametrize("names", [["y"], ["x", "y"], ["x\x1b[2J"], ["../x"], [], ["a" * 60_000]])
def test_names_that_do_not_fit(folder: Path, names: list[str]) -> None:
    path = folder / "x.npz"
    path.write_bytes(npz(**dict.fromkeys(names, X)))
    refused(
        asked(path),
        "inputs: (x is missing|the model has no input|0 given)|not a file of arrays",
        folder.parent,
    )


def test_what_nobody_reads_is_not_read(folder: Path) -> None:
    for name in ("x.txt", "x", "x.pkl", "x.csv"):
        (folder / name).write_bytes(npy())
        refused(lambda name=name: Asked.of(folder / name), "inputs are read from .npz", folder.parent)
