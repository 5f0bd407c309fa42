"""`.pt2` files from strangers, which are programs: read only if they can do nothing but compute."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import pytest
import torch
from hostile import refused, rezipped, with_json

import bridge

Json = Any


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv1d(4, 4, 3, padding=1)
        self.register_buffer("shift", torch.ones(3))

    def forward(self, x, other):
        y = self.conv(x.transpose(1, 2)).transpose(1, 2)[..., :3] + self.shift
        return {"sum": y + other["b"], "flat": y.reshape(y.shape[0] * y.shape[1], 3)}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    batch, time_ = torch.export.Dim("batch"), torch.export.Dim("time", min=2)
    axes = {0: batch, 1: time_}
    exported = torch.export.export(
        Net().eval(), (torch.randn(3, 8, 4), {"b": torch.randn(3, 8, 3)}), dynamic_shapes=(axes, {"b": axes})
    )
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    torch.export.save(exported, path)
    return path


def evil(program: Path, path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    path.write_bytes(rezipped(program.read_bytes(), change))
    return path


class Runs:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_harmless_program(program: Path) -> None:
    assert bridge.convert(program).report.verified


def replaced(old: str, new: str) -> Callable[[str, bytes], bytes]:
    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return data
        text = data.decode()
        assert old in text
        return text.replace(old, new, 1).encode()

    return change


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"target": "torch.ops.aten.transpose.int"', '"target": "torch.os.system"', "it calls"),
        (
            '"target": "torch.ops.aten.transpose.int"',
            '"target": "torch.ops.aten.from_file.default"',
            "it calls",
        ),
        ('"target": "torch.ops.aten.transpose.int"', '"target": "_operator.__class__"', "it calls"),
        ('"expr_str": "Mul(', '"expr_str": "__import__(0).system(1)+Mul(', "it evaluates"),
        ('"expr_str": "Mul(', '"expr_str": "9**9**9**9+Mul(', "it evaluates"),
        ('"guards_code": [', '"guards_code": ["print(1)",', "it evaluates"),
        ('"name": "x"', '"name": "x=print(1)"', "it names"),
    ],
)
def test_a_program_that_is_more_than_a_computation(program, tmp_path, old, new, says) -> None:
    refused_program(evil(program, tmp_path / "evil.pt2", replaced(old, new)), says)


def test_a_program_whose_example_inputs_are_a_pickle(program: Path, tmp_path: Path) -> None:
    buffer, mark = io.BytesIO(), tmp_path / "ran"
    torch.save(((Runs(mark),), {}), buffer)

    def change(name: str, data: bytes) -> bytes:
        return buffer.getvalue() if "sample_inputs" in name else data

    refused_program(
        evil(program, tmp_path / "evil.pt2", change), "cannot|not an ExportedProgram|can run code"
    )
    assert not mark.exists()


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_program_cut_short(program: Path, tmp_path: Path, part: float) -> None:
    path = tmp_path / "short.pt2"
    path.write_bytes(program.read_bytes()[: int(program.stat().st_size * part)])
    refused_program(path, "not an ExportedProgram")


def refused_program(path: Path, says: str) -> None:
    with pytest.raises(bridge.SourceError, match=says) as caught:
        bridge.convert(path)
    assert "\n" not in str(caught.value)


# --- what is no program, or one of no sense ------------------------------------------------------------------


@pytest.mark.parametrize("kind", hostile.ANY_ARCHIVE)
def test_no_program(program: Path, folder: Path, kind: str) -> None:
    path = folder / "p.pt2"
    hostile.ANY_ARCHIVE[kind](path, program.read_bytes())
    refused(
        lambda: bridge.convert(path),
        "p.pt2: (no such file|not an ExportedProgram|it can run code)",
        folder.parent,
    )


def graph(change: Callable[[Json], Any]) -> Callable[[Json], None]:
    return lambda whole: change(whole["graph_module"]["graph"])


def node(index: int, **fields: Json) -> Callable[[Json], None]:
    return graph(lambda g: g["nodes"][index].update(fields))


def argument(value: Json) -> Callable[[Json], None]:
    """In the place of the first number that an operator is given."""
    return graph(lambda g: g["nodes"][0]["inputs"][1].update(arg=value))


def sizes(*given: Json) -> Callable[[Json], None]:
    """Of the first tensor."""
    return graph(lambda g: next(iter(g["tensor_values"].values())).update(sizes=list(given)))


def calls(target: str, *shape: int) -> Callable[[Json], None]:
    """The transposition is an operator that makes a tensor of `shape`."""
    arguments = [
        {"name": "size", "arg": {"as_ints": list(shape)}, "kind": 1},
        {"name": "fill_value", "arg": {"as_float": 1.0}, "kind": 1},
    ]
    return node(2, target=target, inputs=arguments[: 2 if "full" in target else 1])


def metadata(**fields: str) -> Callable[[Json], None]:
    return graph(lambda g: g["nodes"][2]["metadata"].update(fields))


def ranges(low: Json, high: Json) -> Callable[[Json], None]:
    return lambda whole: [r.update(min_val=low, max_val=high) for r in whole["range_constraints"].values()]


MODELS: dict[str, Callable[[Json], Any]] = {
    "no graph": lambda m: m.pop("graph_module"),
    "no nodes": graph(lambda g: g.update(nodes=[])),
    "nodes that are none": graph(lambda g: g.update(nodes=[None, 7])),
    "a node twice": graph(lambda g: g["nodes"].append(g["nodes"][0])),
    "nodes backwards": graph(lambda g: g["nodes"].reverse()),
    "no outputs": graph(lambda g: g.update(outputs=[])),
    "an output that there is not": graph(lambda g: g.update(outputs=[{"as_tensor": {"name": "nobody"}}])),
    "no inputs": graph(lambda g: g.update(inputs=[])),
    "an operator that there is not": node(2, target="torch.ops.aten.nothing.int"),
    "an overload that there is not": node(2, target="torch.ops.aten.transpose.nothing"),
    "another operator": node(2, target="torch.ops.aten.add.Tensor"),
    "an operator that loads a file": node(2, target="torch.ops.aten.from_file.default"),
    "an operator that loads a library": node(2, target="torch.ops.load_library"),
    "an operator of python": node(2, target="builtins.eval"),
    "a chain of names": node(2, target="torch.ops.aten.__class__.__init__"),
    "math of no end": node(9, target="math.factorial"),
    "an operator that prints": node(2, target="torch.ops.aten._print.default"),
    "an operator that calls": node(2, target="torch.ops.higher_order.call_torchbind"),
    "terabytes of ones": calls("torch.ops.aten.full.default", 1 << 21, 1 << 21),
    "gigabytes of ones": calls("torch.ops.aten.full.default", 1 << 16, 1 << 16),
    "gigabytes of zeros": calls("torch.ops.aten.zeros.default", 1 << 16, 1 << 16),
    "a negative size": calls("torch.ops.aten.zeros.default", -1),
    "an axis of no number": argument({"as_int": "x"}),
    "an axis of parts": argument({"as_float": 0.5}),
    "an axis far away": argument({"as_int": 1 << 62}),
    "an axis of more than there is a number for": argument({"as_int": 1 << 80}),
    "an argument of two kinds": argument({"as_int": 1, "as_float": 2.0}),
    "an argument of no kind": argument({"as_nothing": 1}),
    "a device": argument({"as_device": {"type": "cuda", "index": 9}}),
    "an object": argument({"as_custom_obj": {"name": "x", "class_fqn": "os.system"}}),
    "a graph that is none": argument({"as_graph": {"name": "g", "graph": None}}),
    "huge sizes": sizes({"as_int": 1 << 40}, {"as_int": 1 << 40}),
    "negative sizes": sizes({"as_int": -4}),
    "sizes of text": sizes({"as_int": "9**9**9"}),
    "an expression that takes no end": sizes({"as_expr": {"expr_str": "9**9**9", "hint": None}}),
    "an expression of many powers": sizes({"as_expr": {"expr_str": "(" * 50 + "s0**9" + ")**9" * 50, "hint": None}}),
    "a deep expression": sizes({"as_expr": {"expr_str": "(" * 900 + "s0" + ")" * 900, "hint": None}}),
    "a call in an expression": sizes({"as_expr": {"expr_str": "exit()", "hint": None}}),
    "ranges backwards": ranges(9, 2),
    "ranges of text": ranges("a", "b"),
    "a guard that runs": lambda m: m.update(guards_code=["__import__('os').system('true')"]),
    "a guard that is no formula": lambda m: m.update(guards_code=["x = 1", "import os", "lambda: 0"]),
    "a guard of numbers": lambda m: m.update(guards_code=[1, None]),
    "a version to come": lambda m: m.update(schema_version={"major": 10**9, "minor": 0}),
    "a version of text": lambda m: m.update(schema_version={"major": "x", "minor": "y"}),
    "no version": lambda m: m.pop("schema_version"),
    "a signature of nobody": lambda m: m["graph_module"]["signature"].update(input_specs=[], output_specs=[]),
    "calls of no sense": lambda m: m["graph_module"].update(module_call_graph=[]),
    "a tree of foreign nodes": lambda m: m["graph_module"]["module_call_graph"][0]["signature"].update(
        in_spec=json.dumps([1, {"type": "os.system", "context": "null", "children_spec": []}])
    ),
    "a tree of no end": lambda m: m["graph_module"]["module_call_graph"][0]["signature"].update(
        in_spec="[" * 100_000
    ),
}  # fmt: skip
HARMLESS = {  # what torch says of where a node came from, and what it does not read
    "ranges without end": ranges(-(10**300), 10**300),
    "opsets of no sense": lambda m: m.update(opset_version={"aten": "x"}),
    "a module of another class": metadata(nn_module_stack="L__self__,,os.system"),
    "a trace of no sense": metadata(stack_trace="File '/etc/passwd', line 1" * 100, torch_fn="os.system;os.system"),
}  # fmt: skip


@pytest.mark.parametrize("case", HARMLESS)
def test_words_that_nobody_runs(program: Path, folder: Path, case: str) -> None:
    path = folder / "p.pt2"
    path.write_bytes(with_json(program.read_bytes(), "models/model.json", HARMLESS[case]))
    with hostile.bounded(folder):
        assert bridge.convert(path, verify=False).model


def weight(**fields: Json) -> Callable[[Json], None]:
    """The first weight as the file tells it."""
    return lambda config: config["config"]["conv.weight"].update(fields)


def measure(**fields: Json) -> Callable[[Json], None]:
    return lambda config: config["config"]["conv.weight"]["tensor_meta"].update(fields)


def ints(*numbers: int) -> Json:
    return [{"as_int": number} for number in numbers]


CONFIGS: dict[str, Callable[[Json], Any]] = {
    "no config": lambda c: c.pop("config"),
    "a weight less": lambda c: c["config"].pop("conv.weight"),
    "another path": weight(path_name="../../outside"),
    "an absolute path": weight(path_name="/etc/passwd"),
    "a path that there is not": weight(path_name="weight_99"),
    "a pickle": weight(use_pickle=True),
    "no sizes": weight(tensor_meta=None),
    "huge sizes": measure(sizes=ints(1 << 40, 1 << 40)),
    "negative sizes": measure(sizes=ints(-4, 4, 3)),
    "negative sizes that make a positive": measure(sizes=ints(-4, -4, 3)),
    "larger sizes": measure(sizes=ints(40, 4, 3)),
    "other sizes": measure(sizes=ints(4, 4, 1)),
    "sizes of text": measure(sizes=[{"as_int": "4"}]),
    "sizes of symbols": measure(sizes=[{"as_expr": {"expr_str": "s0", "hint": None}}]),
    "strides beyond": measure(strides=ints(1 << 40, 3, 1)),
    "negative strides": measure(strides=ints(-12, 3, 1)),
    "an offset beyond": measure(storage_offset={"as_int": 1 << 40}),
    "a negative offset": measure(storage_offset={"as_int": -8}),
    "another type": measure(dtype=13),
    "no type": measure(dtype=999),
    "complex": measure(dtype=10),
    "a device": measure(device={"type": "cuda", "index": 0}),
    "a device of no kind": measure(device={"type": "x", "index": None}),
}  # fmt: skip


MEMBERS = {"models/model.json": MODELS, "model_weights_config.json": CONFIGS}


@pytest.mark.parametrize(
    ("member", "case"), [(member, case) for member in MEMBERS for case in MEMBERS[member]]
)
def test_a_program_of_no_sense(program: Path, folder: Path, member: str, case: str) -> None:
    path = folder / "p.pt2"
    path.write_bytes(with_json(program.read_bytes(), member, MEMBERS[member][case]))
    refused(lambda: bridge.convert(path), ".", folder.parent)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("net/models/other.json", b"{}"),
        ("net/models/deep.json", b"[" * 1_000_000),
        ("net/data/aotinductor/model/x.so", b"\x7fELF"),
        ("net/data/weights/../../../outside", b"x"),
        ("net/extra/a\nb", b"x"),
        ("other/archive_format", b"pt2"),
        ("net/archive_format", b"x"),
    ],
)
def test_other_members(program: Path, folder: Path, name: str, content: bytes) -> None:
    path = folder / "p.pt2"
    known = name == "net/archive_format"
    changed = rezipped(program.read_bytes(), lambda old, data: content if known and old == name else data,
                       None if known else {name: content})  # fmt: skip
    path.write_bytes(changed)
    with hostile.bounded(folder.parent), contextlib.suppress(bridge.SourceError):
        bridge.convert(path, verify=False)


def test_a_pickle_that_makes_room(program: Path, folder: Path) -> None:
    buffer, path = io.BytesIO(), folder / "p.pt2"

    class Room:
        def __reduce__(self) -> Any:
            return bytearray, (1 << 34,)

    torch.save(((Room(),), {}), buffer)
    changed = rezipped(
        program.read_bytes(), lambda name, old: buffer.getvalue() if "sample_inputs" in name else old
    )
    path.write_bytes(changed)
    refused(lambda: bridge.convert(path), "makes room", folder.parent)


def test_no_example_inputs(program: Path, folder: Path) -> None:
    path = folder / "p.pt2"
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if "sample_inputs" not in name:
                new.writestr(name, old.read(name))
    refused(lambda: bridge.convert(path), "not an ExportedProgram that torch can read", folder.parent)
