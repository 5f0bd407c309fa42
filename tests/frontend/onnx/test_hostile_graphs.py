"""Graphs from strangers that ONNX's checker lets pass and nothing can run: refused in one line, as the file's fault."""

from __future__ import annotations

import re
import resource
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bridge

HEAD = '<ir_version: 10, opset_import: ["": 21, "f": 1, "bridge": 1]>\n'


def parse(text: str) -> onnx.ModelProto:
    """The model, with numbers in the weights that the text only declares."""
    proto = onnx.parser.parse_model(HEAD + text)
    made = {name for node in proto.graph.node for name in node.output}
    for value in [value for value in proto.graph.value_info if value.name not in made]:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        array = np.random.default_rng(0).normal(size=dims).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, value.name))
        proto.graph.value_info.remove(value)
    return proto


def image(weights: str, node: str) -> str:
    return f"g (float[N,4,6,6] x) => (float[A,B,C,D] y) <{weights}> {{ y = {node} }}"


def vector(weights: str, nodes: str) -> str:
    return f"g (float[N,6] x) => (float[A,B] y) <{weights}> {{ {nodes} }}"


def recurrent(weights: str, node: str) -> str:
    return f"g (float[T,N,4] x) => (float[T,D,N,5] y) <{weights}> {{ y = {node} }}"


W, R, B = "float[1,20,4] w", "float[1,20,5] r", "float[1,40] b"
NO_FIT = {
    "gates of W": recurrent(f"float[1,15,4] w, {R}, {B}", "LSTM <hidden_size = 5> (x, w, r, b)"),
    "size of R": recurrent(f"{W}, float[1,20,7] r, {B}", "LSTM <hidden_size = 5> (x, w, r, b)"),
    "rank of B": recurrent(f"{W}, {R}, float[1,20,4] b", "LSTM <hidden_size = 5> (x, w, r, b)"),
    "nothing in R": recurrent(f"{W}, float[1,0,5] r, {B}", "LSTM <hidden_size = 5> (x, w, r, b)"),
    "directions": recurrent(f"{W}, {R}, {B}", 'LSTM <hidden_size = 5, direction = "bidirectional"> (x, w, r, b)'),
    "a direction": recurrent(f"{W}, {R}, {B}", 'LSTM <hidden_size = 5, direction = "sideways"> (x, w, r, b)'),
    "activation": recurrent(f"{W}, {R}, {B}", 'LSTM <hidden_size = 5, activations = ["x", "y", "z"]> (x, w, r, b)'),
    "bias of Conv": image("float[5,4,3,3] w, float[7] b", "Conv (x, w, b)"),
    "rank of its bias": image("float[5,4,3,3] w, float[5,1] b", "Conv (x, w, b)"),
    "rank of its kernel": image("float[5,4,3] w", "Conv (x, w)"),
    "kernel_shape": image("float[5,4,3,3] w", "Conv <kernel_shape = [3]> (x, w)"),
    "another kernel_shape": image("float[5,4,3,3] w", "Conv <kernel_shape = [2,2]> (x, w)"),
    "pads of Conv": image("float[5,4,3,3] w", "Conv <pads = [1,1,1]> (x, w)"),
    "group": image("float[5,4,3,3] w", "Conv <group = 3> (x, w)"),
    "no group": image("float[5,4,3,3] w", "Conv <group = 0> (x, w)"),
    "negative group": image("float[5,4,3,3] w", "Conv <group = -1> (x, w)"),
    "strides": image("float[5,4,3,3] w", "Conv <strides = [-1,1]> (x, w)"),
    "no strides": image("float[5,4,3,3] w", "Conv <strides = [0,0]> (x, w)"),
    "dilations": image("float[5,4,3,3] w", "Conv <dilations = [0,1]> (x, w)"),
    "auto_pad": image("float[5,4,3,3] w", 'Conv <auto_pad = "SOMEHOW"> (x, w)'),
    "group of ConvTranspose": image("float[4,5,3,3] w", "ConvTranspose <group = 0> (x, w)"),
    "windows": image("float c = {0}", "MaxPool <kernel_shape = [9,9]> (x)"),
    "no windows": image("float c = {0}", "MaxPool <kernel_shape = [0,2]> (x)"),
    "strides of a pool": image("float c = {0}", "AveragePool <kernel_shape = [2,2], strides = [0,0]> (x)"),
    "dilations of a pool": image("float c = {0}", "MaxPool <kernel_shape = [2,2], dilations = [0,0]> (x)"),
    "endless windows": image("float c = {0}", 'AveragePool <kernel_shape = [2147483648,1], auto_pad = "SAME_UPPER"> (x)'),
    "statistics": image("float[4] s, float[4] b, float[5] m, float[4] v", "BatchNormalization (x, s, b, m, v)"),
    "groups": image("float[4] s, float[4] b", "GroupNormalization <num_groups = 3> (x, s, b)"),
    "scales": image("float[3] s = {1,1,2}", 'Resize (x, "", s)'),
    "negative scales": image("float[4] s = {1,1,-2,2}", 'Resize (x, "", s)'),
    "pads": image("int64[6] p = {0,0,1,0,0,1}", "Pad (x, p)"),
    "a mode": image("int64[8] p = {0,0,1,1,0,0,1,1}", 'Pad <mode = "somehow"> (x, p)'),
    "a reduction": vector("int64[1,2] i = {0,1}, float[1] u = {1}", 'y = ScatterND <reduction = "somehow"> (x, i, u)'),
    "a padding": image("float c = {0}", 'AveragePool <kernel_shape = [2,2], auto_pad = "SOME"> (x)'),
    "a diagonal": vector("int64 k = {4611686018427387904}", "y = Trilu (x, k)"),
    "a diagonal of ones": vector("float c = {0}", "y = EyeLike <k = -4611686018427387904> (x)"),
    "a limit below nothing": recurrent(f"{W}, {R}, {B}", "LSTM <hidden_size = 5, clip: float = -1> (x, w, r, b)"),
    "flag of TopK": vector("int64[1] k = {2}", "y, i = TopK <largest = 9223372036854775807> (x, k)"),
    "flag of a reduction": vector("float c = {0}", "y = ReduceMax <keepdims = 2> (x)"),
    "flag of Gemm in a function": vector("float[6,2] w", "y = f.F (x, w)")
    + ' <domain: "f", opset_import: ["": 21]> F (x, w) => (y) { y = Gemm <transB = -1> (x, w) }',
    "two constants": vector("float c = {0}", "a = Constant <value_float: float = 1, value_int = 2> () y = Add (x, a)"),
    "no constant": vector("float c = {0}", "a = Constant () y = Add (x, a)"),
    "perm": image("float c = {0}", "Transpose <perm = [0,1,1,3]> (x)"),
    "length of perm": image("float c = {0}", "Transpose <perm = [0,1,2]> (x)"),
    "blocks": image("float c = {0}", "DepthToSpace <blocksize = 3> (x)"),
    "no blocks": image("float c = {0}", "SpaceToDepth <blocksize = 0> (x)"),
    "neighbours": image("float c = {0}", "LRN <size = 999> (x)"),
    "a norm": image("float c = {0}", "LpNormalization <p = 64> (x)"),
    "backwards": vector("int64[1] s = {2}, int64[1] e = {9223372036854775807}, int64[1] a = {1}, int64[1] t = {-1}", "y = Slice (x, s, e, a, t)"),
    "axis": image("float c = {0}", "Softmax <axis = 9> (x)"),
    "axes": image("int64[2] a = {1,9}", "ReduceSum (x, a)"),
    "axes twice": image("int64[2] a = {1,-3}", "ReduceSum (x, a)"),
    "axis of Concat": image("float c = {0}", "Concat <axis = -5> (x, x)"),
    "Squeeze": image("int64[1] a = {1}", "Squeeze (x, a)"),
    "Unsqueeze": image("int64[2] a = {1,1}", "Unsqueeze (x, a)"),
    "scale of integers": "g (int64[N,6] x) => (float[N,6] y) <float[6] s> { y = LayerNormalization (x, s) }",
    "contraction": vector("float[7,2] w", "y = MatMul (x, w)"),
    "bias": vector("float[6,2] w, float[3] b", "m = MatMul (x, w) y = Add (m, b)"),
    "C": vector("float[6,2] w, float[5,5,5] b", "y = Gemm (x, w, b)"),
    "parts": vector("int64[2] s = {2,3}", "y, z = Split <axis = 1> (x, s)"),
    "negative parts": vector("int64[2] s = {7,-1}", "y, z = Split <axis = 1> (x, s)"),
    "num_outputs": vector("float c = {0}", "y, z = Split <axis = 1, num_outputs = 0> (x)"),
    "k": vector("int64[1] k = {9}", "y, i = TopK (x, k)"),
    "negative k": vector("int64[1] k = {-1}", "y, i = TopK (x, k)"),
    "steps": vector("int64[1] s = {0}, int64[1] e = {2}, int64[1] a = {1}, int64[1] t = {0}", "y = Slice (x, s, e, a, t)"),
    "sizes": vector("int64[2] s = {-1,-1}", "y = Reshape (x, s)"),
    "indices": vector("int64[1] i = {9}", "y = Gather <axis = 1> (x, i)"),
    "repeats": vector("int64[3] r = {1,1,1}", "y = Tile (x, r)"),
    "equation": vector("float c = {0}", 'y = Einsum <equation = "ab,bc,de"> (x, x)'),
    "nothing to multiply": vector("float[2,0] w", 'e = Einsum <equation = "ab,cb->acb"> (w, w) s = ReduceSum (e) y = Add (x, s)'),
    "depth": vector("int64[2] i = {0,1}, int64 d = {-3}, float[2] v = {0,1}", "o = OneHot (i, d, v) s = ReduceSum (o) y = Add (x, s)"),
    "inputs": vector("float c = {0}", "y = Relu (x, x, x)"),
    "no inputs": vector("float c = {0}", "y = Add (x)"),
    "types": vector("int64 c = {0}", "y = Add (x, c)"),
    "bits": vector("float c = {0}", "y = BitwiseNot (x)"),
    "condition": vector("float c = {1}", "y = Where (c, x, x)"),
    "an attribute of nobody": vector("float c = {0}", "y = Celu <alpha: float = @beta> (x)"),
    "ours": vector("float c = {0}", "y = bridge.Silu (x)") + ' <domain: "bridge", opset_import: ["": 21]> Silu (x) => (y) { y = Neg (x) }',
    "ours without a body": vector("float c = {0}", "y = bridge.Silu (x)"),
    "ONNX's": vector("float c = {0}", "y = Relu (x)") + ' <domain: "", opset_import: ["": 21]> Relu (x) => (y) { y = Neg (x) }',
    "twice": vector("float c = {0}", "y = f.F (x)") + ' <domain: "f", opset_import: ["": 21]> F (x) => (y) { y = Neg (x) }' * 2,
    "size of W": recurrent(f"float[1,20,6] w, {R}, {B}", "LSTM <hidden_size = 5> (x, w, r, b)"),
    "place of a part": vector("int64[2] s = {3,3}, int64 i = {7}", "q = SplitToSequence <axis = 1> (x, s) y = SequenceAt (q, i)"),
    "no place of a part": vector("int64[2] s = {3,3}, int64[0] i = {}", "q = SplitToSequence <axis = 1> (x, s) y = SequenceAt (q, i)"),
    "no parts": "g (float[2,6] x) => (float[A,B] y) <int64 s = {0}, int64 i = {1}> { q = SplitToSequence <axis = 1> (x, s) y = SequenceAt (q, i) }",
    "parts of ours": vector("float c = {0}", "y = bridge.Silu (x)") + ' <domain: "bridge", opset_import: ["": 21]> Silu (x) => (y) { z = Neg (x) }',
    "the ends of a range": vector("float[2] s = {2,3}, float e = {9}, float d = {1}", "r = Range (s, e, d) m = ReduceSum (r) y = Mul (x, m)"),
    "outer products": vector("float c = {0}", "c0 = Identity (x) " + " ".join(
        f'c{i + 1} = Einsum <equation = "a...,b...->ab..."> (c{i}, c{i})' for i in range(40)) + " s = ReduceSum (c40) y = Add (x, s)"),
}  # fmt: skip


def refused(proto: onnx.ModelProto) -> str:
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((bridge.SourceError, bridge.UnsupportedError)) as caught:
        bridge.convert(proto)
    text = str(caught.value)
    lines = text.splitlines()
    assert len(lines) == len(getattr(caught.value, "refusals", lines[:1]))
    assert all(line.isprintable() and len(line) < 800 for line in lines)
    assert time.monotonic() - start < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB
    return text


@pytest.mark.parametrize("case", NO_FIT)
def test_what_does_not_fit(case: str) -> None:
    refused(parse(NO_FIT[case]))


def test_texts_that_become_numbers_of_no_type():
    proto = parse("g (string[N] x) => (float[N] y) { y = Identity (x) }")
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.UNDEFINED
    assert "Keras has no type STRING" in refused(proto)


def test_a_name_that_is_no_text() -> None:
    data = parse(vector("float c = {0}", "y = Relu (x)")).SerializeToString().replace(b"Relu", b"R\xff\xfeu")
    assert "no text of UTF-8" in refused(onnx.load_from_string(data))


@pytest.mark.parametrize(
    "kind", ["optional_type", "sequence_type", "map_type", "sparse_tensor_type", "shape", ""]
)
def test_inputs_that_are_no_tensors(kind: str) -> None:
    proto = parse(vector("float c = {0}", "y = Identity (x)"))
    type_ = proto.graph.input[0].type
    if kind == "shape":
        type_.tensor_type.ClearField("shape")
    else:
        type_.Clear()
        if kind in ("optional_type", "sequence_type"):
            getattr(type_, kind).elem_type.tensor_type.elem_type = TensorProto.FLOAT
        elif kind == "map_type":
            type_.map_type.key_type = TensorProto.INT64
        elif kind:
            type_.sparse_tensor_type.elem_type = TensorProto.FLOAT
    refused(proto)


@pytest.mark.parametrize(
    "versions", [[], [("", 0)], [("", -1)], [("", 1 << 62)], [("", 21), ("", 7)], [("other", 21)]]
)
def test_opsets(versions: list[tuple[str, int]]) -> None:
    proto = parse(vector("float c = {0}", "y = Relu (x)"))
    del proto.opset_import[:]
    proto.opset_import.extend(helper.make_opsetid(*version) for version in versions)
    refused(proto)


def test_nothing_is_added() -> None:
    text = "g (float[2,3,1] x) => (float[A,B,C] y) <float[3,0] w> { y = Add (x, w) }"
    assert bridge.convert(parse(text)).report.verified


def test_an_axis_that_there_is_not_in_an_old_opset() -> None:
    text = "g (float[6] x) => (float[A] y) <float c = {0}> { y = ReduceL1 <axes = [255]> (x) }"
    proto = parse(text)
    proto.opset_import[0].version = 9
    refused(proto)


@pytest.mark.parametrize(
    "nodes",
    [
        "u = Loop (m, c, x) <body = b (int64 i, bool k, float[N,6] a) => (bool k2, float[N,6] a2) "
        "{ k2 = Identity (k) a2 = Add (a, a) }>",
        "c0 = Identity (x) "
        + " ".join(f'c{i + 1} = Einsum <equation = "a...,b...->ab..."> (c{i}, c{i})' for i in range(20)),
    ],
)
def test_what_no_output_needs_is_not_run(nodes: str) -> None:
    text = vector("int64 m = {4611686018427387904}, bool c = {1}", f"{nodes} y = Relu (x)")
    start = time.monotonic()
    assert bridge.convert(parse(text)).report.verified
    assert time.monotonic() - start < 30


BIG = "int64[2] s = {4000,4000}"
LONG = {
    "products": vector(BIG, "c = ConstantOfShape (s) u = ReduceSum (x) a = Add (u, c) m0 = MatMul (a, a) "
                       + " ".join(f"m{i + 1} = MatMul (m{i}, a)" for i in range(9)) + " r = ReduceSum (m9) y = Add (x, r)"),
    "letters": vector("int64[2] s = {3000,3000}", "c = ConstantOfShape (s) u = ReduceSum (x) a = Add (u, c) "
                      'e = Einsum <equation = "ab,cd,bd->ac"> (a, a, a) r = ReduceSum (e) y = Add (x, r)'),
    "windows": image("int64[4] s = {1,1,4000,4000}", "MaxPool <kernel_shape = [2000,2000]> (e)").replace(
        "{ y", "{ c = ConstantOfShape (s) u = ReduceSum <keepdims = 0> (x) e = Add (u, c) y"),
    "neighbours": image("int64[4] s = {1,4096,100,100}", "LRN <size = 511> (e)").replace(
        "{ y", "{ c = ConstantOfShape (s) u = ReduceSum <keepdims = 0> (x) e = Add (u, c) y"),
}  # fmt: skip


@pytest.mark.parametrize("case", LONG)
def test_what_takes_without_end_is_not_run(case: str) -> None:
    assert re.search(r"its nodes would take [\d,]+ steps", refused(parse(LONG[case])))


def test_outputs_that_are_many_are_compared_at_few_sizes() -> None:
    text = image("int64[8] p = {0,30000,1,1,0,0,1,1}", "Pad (x, p)")
    report = bridge.convert(parse(text)).report
    assert report.verified
    assert any("its outputs would have" in note for note in report.notes)


@pytest.mark.parametrize(
    ("end", "step"),
    [(-(1 << 63), 1), (-(1 << 63) + 1, 1), ((1 << 63) - 1, 1), (-(1 << 63), -1), (-(1 << 63) + 1, -1)],
)
def test_a_slice_to_where_no_axis_reaches(end: int, step: int) -> None:
    text = vector(f"int64[1] s = {{2}}, int64[1] e = {{{end}}}, int64[1] a = {{1}}, int64[1] t = {{{step}}}",
                  "z = Slice (x, s, e, a, t) r = ReduceSum <keepdims = 1> (z) y = Add (x, r)")  # fmt: skip
    assert bridge.convert(parse(text)).report.verified
