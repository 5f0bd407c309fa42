"""Files of every kind that `bridge` reads, broken at random: read as they should be, or refused by name.

    python -m benchmarks.fuzz files --n 1000 --seed 0

Bytes are flipped, cut, doubled and overwritten in any file; in an ONNX model fields are set to what no exporter
writes, in an archive the numbers and texts of its JSON. Nothing may be written beside the file.
"""

from __future__ import annotations

import functools
import io
import json
import os
import random
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

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
NUMBERS = (0, -1, 1, 2, 7, 255, 1 << 16, 1 << 31, (1 << 31) - 1, 1 << 33, (1 << 63) - 1, -(1 << 63))
TEXTS = (
    "", "?", "x", "y", "9**9**9", "batch size", "a\nb", "\x1b[31m", "../../outside", "/etc/passwd", "a\0b", "a" * 5000,
    "größe", "\u202e", "factorial(99999999)", "pipe", "loop", "data",
)  # fmt: skip
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


# --- bytes ---------------------------------------------------------------------------------------------------


def _broken(data: bytes, draw: random.Random) -> bytes:
    """`data` with one or a few of its bytes other than they were."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        place = draw.randrange(max(1, len(found)))
        match draw.randrange(6):
            case 0 | 1 if found:
                found[place] ^= 1 << draw.randrange(8)
            case 2:
                found[place : place + draw.choice((1, 4, 9))] = draw.choice((b"\xff", b"\x00", b"\x7f")) * 9
            case 3:
                del found[place : place + draw.randrange(1, 40)]
            case 4:
                found[place:place] = found[place : place + draw.randrange(1, 200)]
            case 5 if draw.random() < 0.2:
                del found[place:]
    return bytes(found)


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
        data = _broken(proto.SerializeToString(), draw)
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


def _dims(proto: onnx.ModelProto, draw: random.Random) -> None:
    values = (*proto.graph.input, *proto.graph.output, *proto.graph.value_info)
    shape = draw.choice(values).type.tensor_type.shape
    match draw.randrange(4):
        case 0 if shape.dim:
            draw.choice(shape.dim).dim_value = draw.choice(NUMBERS)
        case 1 if shape.dim:
            draw.choice(shape.dim).dim_param = draw.choice(TEXTS)
        case 2:
            shape.dim.add().dim_value = draw.choice(NUMBERS)
        case 3:
            for _ in range(draw.choice((1, 10, 200))):
                shape.dim.add().dim_value = 1


def _tensor(proto: onnx.ModelProto, draw: random.Random) -> None:
    if not proto.graph.initializer:
        return
    tensor = draw.choice(proto.graph.initializer)
    match draw.randrange(4):
        case 0 if tensor.dims:
            tensor.dims[draw.randrange(len(tensor.dims))] = draw.choice(NUMBERS)
        case 1:
            tensor.data_type = draw.randrange(30)
        case 2:
            tensor.dims[:] = [1] * draw.choice((0, 1, 9, 200))
        case 3:
            tensor.raw_data = _broken(tensor.raw_data, draw)


def _integers(proto: onnx.ModelProto, draw: random.Random) -> None:
    """Sizes, axes and repeats that the graph holds as constants."""
    found = [t for t in proto.graph.initializer if t.data_type == onnx.TensorProto.INT64 and t.int64_data]
    lists = [a.ints for node in proto.graph.node for a in node.attribute if a.ints]
    numbers: list[Any] = [*(tensor.int64_data for tensor in found), *lists]
    if numbers:
        chosen = draw.choice(numbers)
        chosen[draw.randrange(len(chosen))] = draw.choice(NUMBERS)


def _attribute(proto: onnx.ModelProto, draw: random.Random) -> None:
    node = draw.choice(proto.graph.node) if proto.graph.node else None
    if node is None or not node.attribute:
        return
    attribute = draw.choice(node.attribute)
    match draw.randrange(4):
        case 0:
            attribute.i = draw.choice(NUMBERS)
        case 1:
            attribute.ints[:] = [draw.choice(NUMBERS) for _ in range(draw.choice((0, 1, 2, 9)))]
        case 2:
            attribute.s = draw.choice(TEXTS).encode()
        case 3:
            attribute.type = draw.randrange(1, 15)


def _wiring(proto: onnx.ModelProto, draw: random.Random) -> None:
    """Other inputs and outputs, and so cycles, doubles and what nobody makes."""
    names = [name for node in proto.graph.node for name in (*node.input, *node.output)] or ["x"]
    node = draw.choice(proto.graph.node) if proto.graph.node else proto.graph.node.add()
    places = draw.choice((node.input, node.output))
    if places:
        places[draw.randrange(len(places))] = draw.choice((*names, draw.choice(TEXTS)))


def _node(proto: onnx.ModelProto, draw: random.Random) -> None:
    nodes = proto.graph.node
    node = draw.choice(nodes) if nodes else nodes.add()
    match draw.randrange(6):
        case 0:
            node.op_type = draw.choice(_operators())
        case 1:
            node.name = draw.choice(TEXTS)
        case 2:
            node.domain = draw.choice(("f", "bridge", "com.microsoft", *TEXTS))
        case 3:
            nodes.add().CopyFrom(node)
        case 4:
            nodes.remove(node)
        case 5:
            nodes.sort(key=lambda _: draw.random())


@functools.cache
def _operators() -> tuple[str, ...]:
    return tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas()}))


def _header(proto: onnx.ModelProto, draw: random.Random) -> None:
    graph = proto.graph
    match draw.randrange(6):
        case 0:
            proto.opset_import[0].version = draw.choice((0, -1, 1, 5, 9, 12, 23, 25, 999))
        case 1:
            proto.ir_version = draw.choice(NUMBERS)
        case 2:
            graph.input.add().CopyFrom(draw.choice((*graph.input, *graph.output)))
        case 3:
            draw.choice((*graph.input, *graph.output, *graph.initializer)).name = draw.choice(TEXTS)
        case 4:
            del (graph.output if draw.random() < 0.5 else graph.input)[:]
        case 5:
            kind = draw.choice((*graph.input, *graph.output)).type
            kind.tensor_type.elem_type = draw.randrange(30)


def _function(proto: onnx.ModelProto, draw: random.Random) -> None:
    """A function that calls itself, another that calls it twice, forty of which call the next twice."""
    count = draw.choice((1, 2, 40))
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("f", 1)]
    for i in range(count):
        follower = f"F{(i + 1) % count if draw.random() < 0.5 else i + 1}"
        nodes = [helper.make_node(follower, [a], [b], domain="f") for a, b in (("x", "z"), ("z", "y"))]
        proto.functions.append(helper.make_function("f", f"F{i}", ["x"], ["y"], nodes, imports))
    if proto.graph.node:
        node = draw.choice(proto.graph.node)
        node.op_type, node.domain = "F0", "f"


def _doubled(proto: onnx.ModelProto, draw: random.Random) -> None:
    """A value joined to itself, or multiplied by itself, again and again."""
    names = [tensor.name for tensor in proto.graph.initializer] + [
        name for n in proto.graph.node for name in n.output
    ]
    name, operator = draw.choice(names or ["x"]), draw.choice(("Concat", "Mul", "Add", "Einsum"))
    chain = []
    for i in range(draw.choice((5, 40, 200))):
        extra: dict[str, Any] = {"axis": 0} if operator == "Concat" else {}
        if operator == "Einsum":
            extra = {"equation": "a...,b...->ab..."}
        chain.append(helper.make_node(operator, [name, name], [f"double{i}"], **extra))
        name = f"double{i}"
    proto.graph.node.extend(chain)
    if draw.random() < 0.5:
        proto.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))


EDITS = (
    _dims,
    _tensor,
    _integers,
    _integers,
    _attribute,
    _wiring,
    _node,
    _node,
    _header,
    _function,
    _doubled,
)


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
    broken = _broken_archive(model if kind == "keras" else map_, draw)
    (folder / "m.keras").write_bytes(broken if kind == "keras" else model)
    (folder / "m.bridge.npz").write_bytes(map_ if kind == "keras" else broken)

    def work() -> None:
        again = bridge.open(folder / "m.keras")
        again.weights.pull()

    return work


def _broken_archive(data: bytes, draw: random.Random) -> bytes:
    """Its bytes, or what one of its members holds."""
    if draw.random() < 0.4:
        return _broken(data, draw)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        chosen = draw.choice(old.namelist())
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, _broken_member(content, draw) if name == chosen else content)
        new.comment = old.comment
    return out.getvalue()


def _broken_member(content: bytes, draw: random.Random) -> bytes:
    start = content.find(b"{")
    try:
        data = json.loads(content[start:])
    except ValueError:
        return _broken(content, draw)
    for _ in range(draw.choice((1, 1, 3))):
        _break_json(data, draw)
    text = json.dumps(data).encode()
    if content.startswith(b"\x93NUMPY"):
        file = io.BytesIO()
        np.lib.format.write_array(file, np.frombuffer(text, np.uint8))
        return file.getvalue()
    return text


def _break_json(data: Any, draw: random.Random) -> None:
    """One leaf or branch, anywhere in it, by something else."""
    while isinstance(data, dict | list) and data:
        key = draw.choice(list(data)) if isinstance(data, dict) else draw.randrange(len(data))
        if not isinstance(data[key], dict | list) or not data[key] or draw.random() < 0.05:
            data[key] = draw.choice((*NUMBERS, *TEXTS, None, [], {}, 1e400, float("nan"), [[[]]]))
            return
        data = data[key]


# --- torch ---------------------------------------------------------------------------------------------------


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
    path.write_bytes(_broken(data, draw) if kind == "safetensors" else _broken_archive(data, draw))
    return lambda: bridge.convert(path) if kind == "pt2" else disk.read_state(path)
