"""Files from strangers: whatever they hold, they end in one of bridge's errors in one line, soon and in little memory."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as helper
import pytest
from onnx import TensorProto

import bridge
from bridge.frontend.onnx.load import load
from bridge.passes import simplify

HEAD = '<ir_version: 10, opset_import: ["": 23, "f": 1]>'


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEAD + text)


def relu(*sizes: str | int) -> onnx.ModelProto:
    """A model of one node, its input's sizes named or numbered as given."""
    proto = parse("g (float[N,M] x) => (float[A,B] y) { y = Relu (x) }")
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims, sizes, strict=False):
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size
    return proto


def refused(source: object, says: str, kind: type[bridge.BridgeError] = bridge.SourceError) -> None:
    with pytest.raises(kind, match=says) as caught:
        load(source)
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) < 600


# --- names of sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "plain"),
    [
        (("batch size", "seq/len"), "batch_size, seq_len"),
        (("9**9**9", "batch-size"), "size_9_9_9, batch_size"),
        (("a b", "a-b"), "a_b, a_b_2"),
        (("a b", "a b"), "a_b, a_b"),
        (("batch size", "batch_size"), "batch_size_2, batch_size"),
        (("factorial(99999)", "x\ny"), "factorial_99999, x_y"),
        (("größe", "\x1b[31m"), "größe, size_31m"),
        (("3", "x²"), "size_3, size"),
        (("?", "?"), "x_0, x_1"),
        (("", -1), "x_0, x_1"),
    ],
)
def test_names_of_sizes_become_plain_symbols(names: tuple[str, str], plain: str) -> None:
    model = load(relu(*names))
    dims = model.graph.inputs[0].shape
    assert dims is not None
    assert ", ".join(str(getattr(dim, "value", dim)) for dim in dims) == plain


def test_no_name_is_evaluated_where_the_source_is_asked_what_it_is_sure_of() -> None:
    """As of what NaN becomes as an integer."""
    model = relu("9**9**9", "factorial(99999)")
    model.graph.node[0].op_type = "DynamicQuantizeLinear"
    model.graph.node[0].output.extend(["scale", "zero"])
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    assert bridge.convert(model).report.verified


def test_a_report_says_which_sizes_are_called_otherwise() -> None:
    report = bridge.convert(relu("batch size", "9**9**9")).report
    assert report.verified
    assert (
        "sizes named otherwise than in the file: '9**9**9' is size_9_9_9, 'batch size' is batch_size"
        in report.notes
    )


def test_what_a_file_says_of_contents_is_not_believed() -> None:
    proto = parse("g (float[N,M] x, int64[2] s) => (float[A,B] y) { t = Identity (s) y = Reshape (x, t) }")
    value = proto.graph.value_info.add(name="t")
    value.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.INT64, [2]))
    value.metadata_props.add(key="pkg.onnx_shape_inference.sym_data", value='["9**9**9", 2]')
    proto.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value="[" * 100_000)
    for node in proto.graph.node[1:]:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['a\x1b[31m', '']")
    model = load(proto)
    assert [dict(value.metadata_props) for node in model.graph for value in node.outputs] == [{}, {}]
    assert [dict(node.metadata_props) for node in model.graph] == [{}, {}]


# --- what is no model ----------------------------------------------------------------------------------------


def with_tensor(**fields: object) -> onnx.ModelProto:
    proto = relu()
    proto.graph.initializer.append(TensorProto(**{"name": "w", "data_type": 1, **fields}))
    return proto


def calling(*functions: onnx.FunctionProto) -> onnx.ModelProto:
    proto = relu()
    proto.functions.extend(functions)
    proto.graph.node[0].op_type, proto.graph.node[0].domain = functions[0].name, "f"
    return proto


def function(name: str, *calls: str) -> onnx.FunctionProto:
    """x -> each of `calls` after another -> y; a call in small letters is an operator's."""
    values = ["x", *(f"v{i}" for i in range(1, len(calls))), "y"]
    nodes = [
        helper.make_node(call, [values[i]], [values[i + 1]], domain="f" if call.startswith("F") else "")
        for i, call in enumerate(calls)
    ]
    imports = [helper.make_opsetid("", 23), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, ["x"], ["y"], nodes, imports)


def nested(depth: int) -> onnx.ModelProto:
    text = "y = Relu (x)"
    for level in range(depth):
        text = f"y = If (c) <then_branch = t{level} () => (float[N] y) {{ {text} }}, "
        text += f"else_branch = e{level} () => (float[N] y) {{ y = Neg (x) }}>"
    return parse(f"g (float[N] x, bool c) => (float[N] y) {{ {text} }}")


def named(name: str) -> onnx.ModelProto:
    proto = relu()
    proto.graph.node[0].name = name
    return proto


NO_MODELS = {
    "an axis of a negative size": [relu(-5), with_tensor(dims=[-3])],
    "unknown element type": [with_tensor(dims=[3], data_type=77, raw_data=b"abc")],
    "holds 3 bytes in place of 12": [with_tensor(dims=[3], raw_data=b"abc")],
    "holds 2 numbers in place of 3": [with_tensor(dims=[3], float_data=[1, 2])],
    "is larger than 8 GiB": [with_tensor(dims=[1 << 40]), with_tensor(dims=[1 << 40, 1 << 40, 0])],
    "has 200 axes": [with_tensor(dims=[1] * 200, float_data=[1])],
    "calls itself": [calling(function("F", "F")), calling(function("F", "F1"), function("F1", "F2", "F"), function("F2", "Relu"))],
    "nodes with its functions written out": [
        calling(*(function(f"F{i}", *([f"F{i + 1}"] * 2)) for i in range(40)), function("F40", "Relu"))
    ],
    "holds control characters": [named("a\x1b[31m"), named("a\nb"), named("a\x9b"), named("a\u202e")],
    "its graph has no outputs": [onnx.ModelProto(ir_version=10, graph=onnx.GraphProto(name="g"))],
    "not a valid ONNX model": [
        parse("g (float[N,M] x) => (float[A,B] y) { a = Add (x, b) b = Relu (a) y = Relu (b) }"),
        parse("g (float[N,M] x) => (float[A,B] y) { y = Relu (x) y = Relu (x) }"),
        parse("g (float[N,M] x) => (float[A,B] y) { }"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("says", "proto"), [(says, proto) for says, protos in NO_MODELS.items() for proto in protos]
)
def test_no_model(says: str, proto: onnx.ModelProto) -> None:
    refused(proto, says)


def test_graphs_inside_one_another() -> None:
    assert load(nested(10))
    refused(nested(24), "not a valid|inside one another")


# --- external data -------------------------------------------------------------------------------------------


def with_external(
    folder: Path, place: str, location: str, offset: object, length: object, dims: list[int]
) -> Path:
    """A file whose tensor lies elsewhere: as an initializer, in a Constant, in a branch, or in a function."""
    tensor = TensorProto(dims=dims, data_type=1, name="w", data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    proto = relu()
    if place == "initializer":
        proto.graph.initializer.append(tensor)
    elif place == "constant":
        proto.graph.node.append(constant)
    elif place == "branch":
        proto = nested(2)
        proto.graph.node[0].attribute[0].g.node.append(constant)
    else:
        imports = [helper.make_opsetid("", 23)]
        proto.functions.append(helper.make_function("f", "F", ["x"], ["c"], [constant], imports))
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "outside").write_bytes(bytes(16))
    (inner / "data").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    for link, target in {"loop": "pool", "pool": "loop", "link": "../outside", "zero": "/dev/zero"}.items():
        os.symlink(target, inner / link)
    os.mkfifo(inner / "pipe")
    return inner


@pytest.mark.parametrize("place", ["initializer", "constant", "branch", "function"])
@pytest.mark.parametrize(
    ("location", "offset", "length", "dims", "says"),
    [
        ("data", 0, 8, [2, 2], "takes 16 bytes, external data 'data' gives 8"),
        ("data", 8, 16, [2, 2], "takes 16 bytes, external data 'data' gives 8"),
        ("data", 0, None, [3], "takes 12 bytes, external data 'data' gives 16"),
        ("data", 1 << 70, None, [2, 2], "gives 0"),
        ("data", -1, None, [2, 2], "must be non-negative"),
        ("data", "x", None, [2, 2], "invalid literal"),
        ("data", None, None, [1 << 15, 1 << 15], "larger than the external data"),
        ("loop", None, None, [2, 2], "no such file"),
        ("pipe", None, None, [2, 2], "a folder, a pipe or a device"),
        (".", None, None, [2, 2], "a folder, a pipe or a device"),
        ("link", None, None, [2, 2], "outside the model's folder"),
        ("zero", None, None, [2, 2], "outside the model's folder"),
        ("/etc/hostname", None, None, [2, 2], "outside the model's folder"),
        ("../outside", None, None, [2, 2], "outside the model's folder"),
        ("a\0b", None, None, [2, 2], "no such file"),
        ("a" * 5000, None, None, [2, 2], "no such file"),
        ("\x1b[31mred", None, None, [2, 2], "missing beside it"),
    ],
)  # fmt: skip
def test_external_data_is_measured(folder, place, location, offset, length, dims, says) -> None:
    refused(with_external(folder, place, location, offset, length, dims), says)


@pytest.mark.parametrize("place", ["initializer", "constant", "function"])
def test_external_data_is_read_wherever_it_is_named(folder: Path, place: str) -> None:
    assert load(with_external(folder, place, "data", 0, 16, [2, 2]))


def test_external_data_of_a_model_in_memory(folder: Path) -> None:
    path = with_external(folder, "constant", "data", 0, 16, [2, 2])
    refused(onnx.load(path, load_external_data=False), "give the path of the model")
    assert load(onnx.load(path))


@pytest.mark.parametrize("name", ["pipe", "loop", ".", "a\0b", "a" * 400])
def test_what_is_no_file(folder: Path, name: str) -> None:
    refused(folder / name, "no such file")


# --- constants that unfold, and the algebra of sizes ---------------------------------------------------------

VECTOR = "g (float[N] x) => (float[A] y)"
AND_ADDED = "r = ReduceSum (e) y = Add (x, r)"
LARGE = "int64[2] s = {1000000, 1000000}"


def doubled(times: int, op: str, operator: str) -> str:
    return f"c0 = {op} " + " ".join(f"c{i + 1} = {operator} (c{i}, c{i})" for i in range(times))


TOO_LARGE = {
    "Expand": f"{VECTOR} <float[1] c = {{1}}, {LARGE}> {{ e = Expand (c, s) {AND_ADDED} }}",
    "Tile": f"{VECTOR} <float[1,1] c = {{1}}, {LARGE}> {{ e = Tile (c, s) {AND_ADDED} }}",
    "ConstantOfShape": f"{VECTOR} <{LARGE}> {{ e = ConstantOfShape (s) {AND_ADDED} }}",
    "ConstantOfShape of less": f"{VECTOR} <int64[1] s = {{200000000}}> {{ e = ConstantOfShape (s) {AND_ADDED} }}",
    "Range": f"{VECTOR} <float a = {{0}}, float b = {{1e11}}, float c = {{1}}> {{ e = Range (a, b, c) {AND_ADDED} }}",
    "Range by halves": f"{VECTOR} <float a = {{0}}, float b = {{1e11}}, float c = {{0.5}}> {{ e = Range (a, b, c) {AND_ADDED} }}",
    "OneHot": f"{VECTOR} <int64[2] i = {{0,1}}, int64 d = {{100000000000}}, float[2] v = {{0,1}}> {{ e = OneHot (i, d, v) {AND_ADDED} }}",
    "Pad": f"{VECTOR} <float[1] c = {{1}}, int64[2] s = {{0,100000000000}}> {{ e = Pad (c, s) {AND_ADDED} }}",
    "Resize": f'{VECTOR} <float[1,1,1,1] c = {{1}}, float[4] s = {{1,1,1e5,1e5}}> {{ e = Resize (c, "", s) {AND_ADDED} }}',
    "Concat of a weight": f"{VECTOR} <float[1] c = {{1}}> {{ {doubled(40, 'Identity (c)', 'Concat <axis = 0>')} e = Neg (c40) {AND_ADDED} }}",
    "Concat of sizes": f"{VECTOR} {{ {doubled(40, 'Shape (x)', 'Concat <axis = 0>')} y = Expand (x, c40) }}",
    "a product": f"{VECTOR} <int64[1] s = {{100000}}> {{ e0 = ConstantOfShape (s) a = Constant <value_ints = [1,-1]> () "
    f"b = Constant <value_ints = [-1,1]> () p = Reshape (e0, a) q = Reshape (e0, b) e = Mul (p, q) {AND_ADDED} }}",
    "many": f"{VECTOR} <int64[1] s = {{16000000}}> {{ e0 = ConstantOfShape (s) "
    + " ".join(f"n{i} = Neg (e0)" for i in range(30)) + " e = Sum (" + ", ".join(f"n{i}" for i in range(30)) + f") {AND_ADDED} }}",
    "a free axis": f"{VECTOR} <int64[1] s = {{1000000000000}}> {{ y = Tile (x, s) }}",
    "an input": "g (float[8589934592] x) => (float[A] y) { y = Relu (x) }",
    "axes": "g (float[N] x, int64[100000000] s) => (float[A] y) { y = Reshape (x, s) }",
}  # fmt: skip


@pytest.mark.parametrize("case", TOO_LARGE)
def test_what_is_too_large_is_refused_from_its_shape(case: str) -> None:
    proto = parse(TOO_LARGE[case])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with pytest.raises(bridge.SourceError, match=r"are not built|unfold to more|has 100,000,000 axes"):
        simplify(load(proto))
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700 << 10  # KiB


def test_constants_are_forgotten_as_they_are_folded() -> None:
    text = f"{VECTOR} <int64[1] s = {{8000000}}> {{ c0 = ConstantOfShape (s) "
    text += " ".join(f"c{i + 1} = Neg (c{i})" for i in range(40)) + " e = Neg (c40) " + AND_ADDED + "}"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert [node.op_type for node in simplify(load(parse(text))).graph] == ["Add"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10


@pytest.mark.parametrize(
    "steps",
    [
        doubled(200, "Shape (x)", "Mul"),
        "c0 = Shape (x) "
        + " ".join(f"m{i} = Mul (c{i}, c{i}) c{i + 1} = Add (m{i}, c{i})" for i in range(200)),
        "c0 = Shape (x) k = Constant <value_ints = [3]> () "
        + " ".join(f"m{i} = Max (c{i}, k) c{i + 1} = Div (m{i}, k)" for i in range(200)),
    ],
)
@pytest.mark.parametrize("size", ["N", "7"])
def test_the_algebra_of_sizes_ends(steps: str, size: str) -> None:
    start = time.process_time()
    simplify(load(parse(f"g (float[{size}] x) => (int64[1] y) {{ {steps} y = Neg (c200) }}")))
    assert time.process_time() - start < 10


NO_FIT = [
    "g (float[2,3] x) => (float[A,B] y) <float[4,2] w> { y = MatMul (x, w) }",
    "g (float[2,3] x) => (float[A,B] y) <float[4,2] w> { y = Gemm (x, w) }",
    "g (float[N] x) => (float[A] y) <float[3] w, int64[2] s = {2,2}> { z = Reshape (w, s) r = ReduceSum (z) y = Add (x, r) }",
    "g (float[N] x) => (float[A] y) <float[3] w, int64 s = {7}> { z = Gather (w, s) y = Add (x, z) }",
    "g (float[N] x) => (float[A] y) <float[3] w, int64[2] s = {2,5}> { z, r = Split (w, s) y = Add (x, r) }",
    "g (float[N] x) => (float[A] y) <float[3,1] w> { z = Concat <axis = 7> (w, w) r = ReduceSum (z) y = Add (x, r) }",
    "g (float[N] x) => (float[A] y) <float[3] w, int64[1] s = {0}, int64[1] e = {2}, int64[1] a = {5}>"
    "{ z = Slice (w, s, e, a) r = ReduceSum (z) y = Add (x, r) }",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_FIT)
def test_sizes_that_do_not_fit(text: str) -> None:
    with pytest.raises(bridge.SourceError, match=r"shapes do not fit|does not fit the weight"):
        simplify(load(filled(parse(text))))


def filled(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With zeros for the weights that the text declares."""
    for value in proto.graph.value_info:
        if value.name == "w":
            dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(dims, np.float32), "w"))
    return proto


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
def test_kernels_of_other_channels(operator: str) -> None:
    proto = filled(
        parse(f"g (float[1,3,8,8] x) => (float[A,B,C,D] y) <float[2,4,1,1] w> {{ y = {operator} (x, w) }}")
    )
    with pytest.raises(bridge.BridgeError, match="its kernel takes . channels, its input has 3|do not fit"):
        bridge.convert(proto)
