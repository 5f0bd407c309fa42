"""What computes with integers is exact to the integer, whatever sums its products make."""

import numpy as np
import onnx
import pytest
from checking import HEADER, check, parse, planned

EVERY = {"x": (0, 256), "w": (-128, 128), "s": (0.01, 0.03), "b": (-3000, 3000)}
ROWS = {
    "sums beyond single precision": """g (uint8[N, 300] x) => (int32[N, 7] y) <uint8 z = {3}, int8[300, 7] w, int8[7] v>
        { y = MatMulInteger (x, w, z, v) }""",
    "of two tensors": """g (uint8[N, A, K] x, int8[N, K, B] w) => (int32[N, A, B] y) { y = MatMulInteger (x, w) }""",
    "of a matrix": """g (uint8[N, 40] x) => (uint8[N, 6] y)
        <float xs = {0.02}, uint8 z = {128}, int8[40, 6] w, float[6] s, int8[6] v, float ys = {0.3}, uint8 yz = {100}>
        { y = QLinearMatMul (x, xs, z, w, s, v, ys, yz) }""",
    "dynamic": """g (float[N, 40] f) => (uint8[N, 40] y, float s, uint8 z) { y, s, z = DynamicQuantizeLinear (f) }""",
    "along an axis": """g (float[N, 4, 5] f) => (float[N, 4, 5] y, int8[N, 4, 5] q) <float[4] s, int8[4] w>
        { q = QuantizeLinear <axis = 1> (f, s, w)  y = DequantizeLinear <axis = 1> (q, s, w) }""",
    "along an axis as long as the last one is": """g (float[5, 4, T] f) => (int8[5, 4, T] q) <float[5] s, int8[5] w>
        { q = QuantizeLinear <axis = 0> (f, s, w) }""",
}
SIZES = {"along an axis as long as the last one is": [{"T": 5}, {"T": 3}]}


@pytest.mark.parametrize("row", ROWS)
def test_exact(row):
    check(ROWS[row], ranges=EVERY, sizes=SIZES.get(row))


def test_convolutions():
    """Padded by the zero point, in groups, an integer for each output."""
    text = """g (uint8[N, 4, 9, 9] x) => (int32[N, 6, 4, 4] y, uint8[N, 6, 9, 9] q)
        <uint8 z = {128}, uint8[6, 2, 3, 3] k, uint8 kz = {120}, float xs = {0.02}, int8[6, 4, 3, 3] w, float[6] s,
         int8[6] v, float ys = {0.09}, uint8 yz = {100}, int32[6] b>
        { y = ConvInteger <group = 2, pads = [0, 0, 1, 1], strides = [2, 2]> (x, k, z, kz)
          q = QLinearConv <pads = [1, 1, 1, 1]> (x, xs, z, w, s, v, ys, yz, b) }"""
    check(text, ranges=EVERY | {"k": (0, 256)}, transposes=4, layers=["ZeroPadding2D", "Conv2D", "Conv2D"])


def test_stored_weights():
    """What is stored in integers and only dequantised is the weight of a native layer, whatever its integers are."""
    text = """g (float[N, 4] x) => (float[N, 3] y, float[N, 8] z)
        <int8[4, 3] w, float[3] s, int8[3] v, float[3] b, float[2, 8] t>
        { d = DequantizeLinear <axis = 1> (w, s, v)  m = MatMul (x, d)  y = Add (m, b)
          e = DequantizeLinear <axis = 0, block_size = 2> (four, t)  z = MatMul (x, e) }"""
    proto = parse(text, {"s": (0.01, 0.03)})
    numbers = np.arange(32).reshape(4, 8) % 16 - 8
    proto.graph.initializer.append(onnx.helper.make_tensor("four", onnx.TensorProto.INT4, (4, 8), numbers))
    built = check(proto, layers=["Dense", "Dense"])
    assert {"w_as_float32", "b"} <= set(built.weights.pull())


def test_large_sums_take_two_parts_only_where_they_need_them():
    """What sums may be is read off the kernel."""
    text = """g (int8[N, 2200] x) => (int32[N, 3] y) <int8[2200, 3] w> {{ y = MatMulInteger (x, w) }}"""
    for largest, parts in ((20, 1), (127, 2)):
        proto = onnx.parser.parse_model(HEADER + text.format())
        kernel = np.full((2200, 3), largest, np.int8)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "w"))
        steps = planned(proto).require().steps
        assert [step.node.op_type for step in steps].count("MatMul") == parts
