"""Numbers of few bits inside of a graph, which others carry, against onnxruntime."""

import numpy as np
import onnx.parser
import pytest
from checking import check, refuses

import bridge

HEADER = '<ir_version: 12, opset_import: ["": 24]>\n'
KINDS = {"float8e4m3fn": 17, "float8e4m3fnuz": 18, "float8e5m2": 19, "float8e5m2fnuz": 20}
NUMBERS = [
    0.0,
    1e-9,
    0.0019,
    0.0157,
    0.4803367,
    0.7,
    1.0625,
    2.3,
    -3.1,
    17.5,
    -448.1,
    464.0,
    57345.0,
    1e6,
    np.inf,
    -np.inf,
    np.nan,
]


@pytest.mark.parametrize("saturate", [1, 0])
@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind, saturate):
    row = f"{{ f = Cast <to = {KINDS[kind]}, saturate = {saturate}> (x)  y = Cast <to = 1> (f) }}"
    check(HEADER + f"g (float[N, 20] x) => (float[N, 20] y) {row}", among={"x": NUMBERS})


def test_quantised_to_floats():
    row = """g (float[N, 4] x) => (float[N, 4] y) <float s = {0.25}, float8e4m3fn z>
        { q = QuantizeLinear (x, s, z)  r = Relu (x)  d = DequantizeLinear (q, s, z)  y = Add (d, r) }"""
    proto = onnx.parser.parse_model(HEADER + row)
    del proto.graph.value_info[:]
    proto.graph.initializer.append(onnx.helper.make_tensor("z", onnx.TensorProto.FLOAT8E4M3FN, [], [0]))
    check(proto, sizes=[{"N": 3}, {"N": 40}])


@pytest.mark.parametrize("kind", [onnx.TensorProto.INT4, onnx.TensorProto.UINT4])
def test_quantised_to_four_bits(kind):
    row = """g (float[N, 4] x) => (float[N, 4] y) <float s = {0.25}>
        { q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, s, z) }"""
    proto = onnx.parser.parse_model(HEADER + row)
    proto.graph.initializer.append(onnx.helper.make_tensor("z", kind, [], [1]))
    check(proto, sizes=[{"N": 3}, {"N": 40}])


def test_at_the_ends_of_a_graph_they_are_refused():
    refuses(
        HEADER + "g (float8e5m2[N, 4] x) => (float[N, 4] y) { y = Cast <to = 1> (x) }", "no type FLOAT8E5M2"
    )
    refuses(HEADER + "g (float[N, 4] x) => (float8e5m2[N, 4] y) { y = Cast <to = 19> (x) }", "cast it before")


@pytest.mark.parametrize("dtype", KINDS.values(), ids=KINDS)
def test_numbers_that_numpy_lacks_are_compared_between_nodes(dtype):
    text = f"g (float[N, 3] x) => (float[N, 3] y) {{ a = Cast <to = {dtype}> (x) b = Cast <to = 1> (a) y = Neg (b) }}"
    report = bridge.convert(onnx.parser.parse_model(HEADER + text)).report
    assert report.verified
    assert all(row.error is not None for row in report.rows)
