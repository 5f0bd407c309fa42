"""Files of every kind that `bridge` reads, broken at random: read as they should be, or refused by name.

    python -m benchmarks.fuzz files --n 1000 --seed 0

Bytes are flipped, cut, doubled and overwritten in any file (`broken.py`); in an ONNX model fields are set to what no
exporter writes (`edits.py`), in an archive the numbers and texts of its JSON. Nothing may be written beside the file.
"""

from __future__ import annotations

import functools
import io
import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.fuzz.broken import NUMBERS, TEXTS, broken, broken_archive
from benchmarks.fuzz.edits import EDITS
from benchmarks.fuzz.workers import ALARM, CRASHED, EQUAL, REFUSED, WRONG, Outcome

HEAD = '<ir_version: 10, opset_import: ["": 21, "f": 1]>\n'
GRAPHS = (
    "g (float[N,3,8,8] x) => (float[N,M] y) <float[4,3,3,3] w, float[4] b> { c = Conv <pads = [1,1,1,1]> (x, w, b) "
    "r = Relu (c) p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (r) y = Flatten (p) }",
    "g (float[N,T,4] x) => (float[N,A] y) <float[4,6] w, float[6] b> { s = Shape (x) "
    "i = Constant <value_ints = [0]> () "
    "n = Gather (s, i) k = Constant <value_ints = [-1]> () d = Concat <axis = 0> (n, k) m = MatMul (x, w) "
    "a = Add (m, b) y = Reshape (a, d) }",
    "g (float[T,N,4] x) => (float[T,D,N,5] y) <float[1,20,4] w, float[1,20,5] r, float[1,40] b> "
    "{ y, h, c = LSTM <hidden_size = 5> (x, w, r, b) }",
    "g (int64[N,T] x) => (float[N,A,6] y) <float[9,6] w, float[6] s, float[6] b> { e = Gather (w, x) "
    "z = LayerNormalization (e, s, b) y = Softmax (z) }",
    "g (float[N,2,4,4] x) => (float[A,B,C,D] y) <float[4] s = {1,1,2,2}, int64[8] p = {0,0,1,1,0,0,1,1}> "
    '{ r = Resize <mode = "nearest"> (x, "", s) y = Pad (r, p) }',
    "g (float[N,6] x) => (float[N,B] y) <int64[2] s = {2,3}, float[1] c = {0.5}, int64[2] t = {1,2}> "
    "{ e = Expand (c, s) f = Tile (e, t) q = ReduceSum (f) a = Mul (x, q) y = f.Twice (a) } "
    '<domain: "f", opset_import: ["": 21]> Twice (x) => (y) { y = Add (x, x) }',
)
KINDS = {"onnx": 14, "external": 3, "keras": 3, "npz": 4, "pt": 2, "safetensors": 2, "pt2": 1}


@dataclass(frozen=True)
class File:
    """One broken file."""

    seed: int

    @property
    def kind(self) -> str:
        return random.Random(self.seed).choices(list(KINDS), list(KINDS.values()))[0]

    @property
    def groups(self) -> tuple[str, ...]:
        return (self.kind,)

    def run(self) -> Outcome:
        from bridge.errors import BridgeError, InternalError, Mismatch

        with tempfile.TemporaryDirectory() as outer:
            folder = Path(outer) / "folder"
            folder.mkdir()
            work = self.written(folder)
            before = _listing(Path(outer))
            try:
                work()
            except InternalError as error:
                outcome = Outcome(CRASHED, _line(error))
            except Mismatch as error:
                outcome = Outcome(ALARM, _line(error))
            except BridgeError as error:
                text = str(error)
                printable = all(line.isprintable() for line in text.splitlines())
                outcome = Outcome(REFUSED if printable else CRASHED, _line(error))
            else:
                outcome = Outcome(EQUAL)
            left = _listing(Path(outer)) - before
            return Outcome(WRONG, f"wrote {sorted(left)}") if left else outcome

    def written(self, folder: Path) -> Callable[[], Any]:
        """Write the file, and give what reads it."""
        draw, kind = random.Random(self.seed), self.kind
        draw.random()
        if kind in ("onnx", "external"):
            return _onnx_file(folder, draw, kind == "external")
        if kind in ("keras", "npz"):
            return _saved(folder, draw, kind)
        return _torch_file(folder, draw, kind)

    def shrunk(self, fails: Callable[[File], bool]) -> File:
        return self

    def shown(self) -> str:
        seed, first = divmod(self.seed, 1_000_000)
        return f"python -m benchmarks.fuzz files --seed {seed} --from {first} --n 1   # {self.kind}"


case = File


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def _listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# --- ONNX ----------------------------------------------------------------------------------------------------


@functools.cache
def _model(index: int) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(HEAD + GRAPHS[index])
    numbers = np.random.default_rng(index)
    made = {name for node in proto.graph.node for name in node.output}
    for value in [value for value in proto.graph.value_info if value.name not in made]:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        array = numbers.normal(size=dims).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
        proto.graph.value_info.remove(value)
    return proto


def _onnx_file(folder: Path, draw: random.Random, external: bool) -> Callable[[], Any]:
    import bridge

    proto = onnx.ModelProto()
    proto.CopyFrom(_model(draw.randrange(len(GRAPHS))))
    path = folder / "m.onnx"
    if external:
        _outside(proto, folder, draw)
    if external or draw.random() < 0.7:
        for _ in range(draw.choice((1, 1, 2, 3))):
            draw.choice(EDITS)(proto, draw)
        data = proto.SerializeToString()
    else:
        data = broken(proto.SerializeToString(), draw)
    path.write_bytes(data)
    return lambda: bridge.convert(path)


def _outside(proto: onnx.ModelProto, folder: Path, draw: random.Random) -> None:
    """Every tensor's bytes into a file, and one entry of that wrong."""
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    data = bytearray()
    for tensor in proto.graph.initializer:
        raw = onnx.numpy_helper.to_array(tensor).tobytes()
        for field in ("float_data", "int64_data", "raw_data"):
            tensor.ClearField(field)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entries = {"location": "data", "offset": str(len(data)), "length": str(len(raw))}
        data += raw
        if draw.random() < 0.4:
            key = draw.choice(list(entries))
            entries[key] = draw.choice(TEXTS) if draw.random() < 0.5 else str(draw.choice(NUMBERS))
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
    (folder / "data").write_bytes(data)


# --- archives ------------------------------------------------------------------------------------------------


@functools.cache
def _pair() -> tuple[bytes, bytes]:
    """A saved model and its map."""
    import bridge

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.keras"
        bridge.convert(_model(2)).save(path)
        return path.read_bytes(), path.with_suffix(".bridge.npz").read_bytes()


def _saved(folder: Path, draw: random.Random, kind: str) -> Callable[[], Any]:
    import bridge

    model, map_ = _pair()
    broken = broken_archive(model if kind == "keras" else map_, draw)
    (folder / "m.keras").write_bytes(broken if kind == "keras" else model)
    (folder / "m.bridge.npz").write_bytes(map_ if kind == "keras" else broken)

    def work() -> None:
        again = bridge.open(folder / "m.keras")
        again.weights.pull()

    return work


@functools.cache
def _torch_bytes(kind: str) -> bytes:
    import safetensors.torch
    import torch

    state = {"a": torch.arange(12.0).reshape(3, 4), "n": torch.tensor(7)}
    if kind == "safetensors":
        return safetensors.torch.save(state)
    out = io.BytesIO()
    if kind == "pt":
        torch.save(state, out)
    else:
        module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
        torch.export.save(torch.export.export(module, (torch.ones(2, 4),)), out)
    return out.getvalue()


def _torch_file(folder: Path, draw: random.Random, kind: str) -> Callable[[], Any]:
    import bridge
    from bridge import disk

    path, data = folder / f"m.{kind}", _torch_bytes(kind)
    path.write_bytes(broken(data, draw) if kind == "safetensors" else broken_archive(data, draw))
    return lambda: bridge.convert(path) if kind == "pt2" else disk.read_state(path)
