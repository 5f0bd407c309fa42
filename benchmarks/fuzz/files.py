"""Files of every kind that `bridge` reads, broken at random: read as they should be, or refused by name.

    python -m benchmarks.fuzz files --n 1000 --seed 0

Bytes are flipped, cut, doubled and overwritten in any file (`broken.py`); in an ONNX model fields are set to what no
exporter writes (`edits.py`, `structure.py`), in an archive the numbers and texts of its JSON. Nothing may be written
beside the file.
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

import onnx

from benchmarks.fuzz.bases import base, layers
from benchmarks.fuzz.broken import NUMBERS, TEXTS, broken, broken_archive
from benchmarks.fuzz.edits import EDITS
from benchmarks.fuzz.structure import STRUCTURE
from benchmarks.fuzz.workers import ALARM, CRASHED, EQUAL, INVALID, REFUSED, WRONG, Outcome

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
        from bridge.errors import BridgeError, InternalError, MismatchError

        with tempfile.TemporaryDirectory() as outer:
            folder = Path(outer) / "folder"
            folder.mkdir()
            work = self.written(folder)
            before = _listing(Path(outer))
            try:
                work()
            except InternalError as error:
                outcome = Outcome(CRASHED, _line(error))
            except MismatchError as error:
                outcome = Outcome(INVALID if _rounds(folder / "m.onnx") else ALARM, _line(error))
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


def _rounds(path: Path) -> bool:
    """Whether the graph amplifies rounding, or asks for what nobody defines, node by node."""
    from benchmarks.fuzz.graphs import amplifies

    model = onnx.load(path)
    plain = not model.functions and not any(
        a.HasField("g") for node in model.graph.node for a in node.attribute
    )
    return plain and amplifies(model)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def _listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# --- ONNX ----------------------------------------------------------------------------------------------------


def _onnx_file(folder: Path, draw: random.Random, external: bool) -> Callable[[], Any]:
    import bridge

    proto = base(draw)
    path = folder / "m.onnx"
    if external:
        _outside(proto, folder, draw)
    if external or draw.random() < 0.7:
        for _ in range(draw.choice((1, 1, 2, 3))):
            draw.choice(EDITS if draw.random() < 0.65 else STRUCTURE)(proto, draw)
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
        bridge.convert(layers(2)).save(path)
        return path.read_bytes(), path.with_suffix(".bridge.npz").read_bytes()


def _saved(folder: Path, draw: random.Random, kind: str) -> Callable[[], Any]:
    import bridge

    model, map_ = _pair()
    broken = broken_archive(model if kind == "keras" else map_, draw)
    (folder / "m.keras").write_bytes(broken if kind == "keras" else model)
    (folder / "m.bridge.npz").write_bytes(map_ if kind == "keras" else broken)

    def work() -> None:
        again = bridge.load(folder / "m.keras")
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
    from bridge.files.checkpoints import read_state

    path, data = folder / f"m.{kind}", _torch_bytes(kind)
    path.write_bytes(broken(data, draw) if kind == "safetensors" else broken_archive(data, draw))
    return lambda: bridge.convert(path) if kind == "pt2" else read_state(path)
