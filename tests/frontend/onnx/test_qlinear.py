"""Integers in the place of numbers, as onnxruntime's quantiser writes them, against its own kernels at every rounding."""

import numpy as np
import onnx
import onnxruntime
import pytest
from checking import check, parse
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

import bridge
from bridge.frontend.onnx.load import load, load_numbers
from bridge.passes import simplify
from bridge.verification.reference.as_given import as_given

HEADER = '<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>\n'
# numbers whose quotients lie halfway between integers
SCALES = "<float as = {0.02}, uint8 az = {128}, float bs = {0.03}, uint8 bz = {100}, float cs = {0.05}, uint8 cz = {120}>"
EVERY = {"a": (0, 256), "b": (0, 256), "w": (-128, 128), "s": (0.01, 0.03), "x": (0, 256)}
ROWS = {
    "of every number": """g (uint8[N, 4, 6] a, uint8[N, 4, 6] b) => (uint8[N, 4, 6] c, uint8[N, 4, 6] d, uint8[N, 4, 6] e,
          uint8[N, 4, 6] f, uint8[N, 4, 6] h, uint8[N, 8, 6] i)
        { c = com.microsoft.QLinearAdd (a, as, az, b, bs, bz, cs, cz)
          d = com.microsoft.QLinearMul (a, as, az, b, bs, bz, cs, cz)
          e = com.microsoft.QLinearSigmoid (a, as, az, cs, cz)
          f = com.microsoft.QLinearLeakyRelu <alpha = 0.2> (a, as, az, cs, cz)
          h = com.microsoft.QLinearSoftmax <opset = 13, axis = -1> (a, as, az, cs, cz)
          i = com.microsoft.QLinearConcat <axis = 1> (cs, cz, a, as, az, b, bs, bz) }""",
    "pools": """g (uint8[N, 4, 6, 6] a) => (uint8[N, 4, 1, 1] c, uint8[N, 4, 3, 3] d, uint8[N, 3, 5, 6] e)
        { c = com.microsoft.QLinearGlobalAveragePool (a, as, az, cs, cz)
          d = com.microsoft.QLinearAveragePool <kernel_shape = [2, 2], strides = [2, 2]> (a, as, az, cs, cz)
          e = com.microsoft.QLinearAveragePool <kernel_shape = [2, 2], channels_last = 1> (a, as, az, cs, cz) }""",
}  # fmt: skip


def test_a_pool_of_halves():
    """Of two integers the mean is one or lies between two of them."""
    text = """g (uint8[N, 3, 5, 6] a) => (uint8[N, 3, 5, 5] c, uint8[N, 3, 4, 5] d) <float s = {0.17}, uint8 z = {3}, uint8 o = {8}>
        { c = com.microsoft.QLinearAveragePool <kernel_shape = [1, 2]> (a, s, z, s, z)
          d = com.microsoft.QLinearAveragePool <kernel_shape = [2, 2]> (a, s, o, s, z) }"""
    check(HEADER + text, ranges={"a": (0, 60)}, transposes=None)


@pytest.mark.parametrize("row", ROWS)
def test_exact(row):
    signature, body = ROWS[row].split("{", 1)
    scales = SCALES if row == "of every number" else SCALES.replace("0.05", "0.0517")
    check(f"{HEADER}{signature} {scales} {{{body}", ranges=EVERY, transposes={"pools": 3}.get(row, 0))


def test_products():
    text = """g (uint8[N, 40] x, float[N, 40] f) => (float[N, 6] c, float[N, 6] d, uint8[N, 6] e, float[N, 6] h)
        <float xs = {0.02}, uint8 z = {128}, int8[40, 6] w, float[6] s, int8[6] v, float[6] b, int8[6, 40] u, int32[6] i,
         float ys = {0.09}, uint8 yz = {100}>
        { c = com.microsoft.MatMulIntegerToFloat (x, w, xs, s, z, v, b)
          d = com.microsoft.DynamicQuantizeMatMul (f, w, s, v, b)
          e = com.microsoft.QGemm <transB = 1, alpha = 0.5> (x, xs, z, u, s, v, i, ys, yz)
          h = com.microsoft.QGemm <transB = 1> (x, xs, z, u, s, v, i) }"""
    check(HEADER + text, ranges=EVERY | {"u": (-128, 128), "i": (-3000, 3000)})


def test_attention():
    text = """g (uint8[N, T, 8] x, int32[N] l) => (float[N, T, 8] y)
        <int8[8, 24] w, float[24] b, float xs = {0.02}, float s = {0.01}, uint8 z = {128}, int8 v = {0}>
        { y = com.microsoft.QAttention <num_heads = 2> (x, w, b, xs, s, l, z, v) }"""
    check(HEADER + text, ranges={"x": (0, 256), "w": (-128, 128), "l": (1, 5)})


NETS = {
    "convolutions": """g (float[N, 3, 12, 12] x) => (float[N, 5] y) <float[8, 3, 3, 3] w1, float[8] b1, float[8, 1, 3, 3] w2,
          float[8] b2, float[8, 8, 1, 1] w3, float[8, 5] w4, float[5] b4>
        { a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)  r = Relu (a)  m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
          d = Conv <group = 8, pads = [1, 1, 1, 1]> (m, w2, b2)  s = Sigmoid (d)  p = Conv (s, w3)  q = Add (p, m)
          l = LeakyRelu <alpha = 0.1> (q)  v = GlobalAveragePool (l)  f = Flatten (v)  z = Gemm (f, w4, b4)
          y = Softmax (z) }""",
    "recurrent": """g (float[T, N, 6] x) => (float[T, 1, N, 8] y) <float[1, 32, 6] w, float[1, 32, 8] r, float[1, 64] b>
        { y = LSTM <hidden_size = 8> (x, w, r, b) }""",
    "products": """g (float[N, 16] x) => (float[N, 4] y) <float[16, 32] w1, float[32] b1, float[32, 4] w2, float[4] b2>
        { a = MatMul (x, w1)  b = Add (a, b1)  c = Relu (b)  d = MatMul (c, w2)  y = Add (d, b2) }""",
}  # fmt: skip


class Drawn(CalibrationDataReader):
    def __init__(self, proto):
        value, random = proto.graph.input[0], np.random.default_rng(1)
        dims = [dim.dim_value or 4 for dim in value.type.tensor_type.shape.dim]
        self.batches = iter([{value.name: random.normal(size=dims).astype("float32")} for _ in range(32)])

    def get_next(self):
        return next(self.batches, None)


def _quantised(net, format, optimised, folder):
    """The file of a float network that onnxruntime's quantiser has written."""
    proto, path = parse(HEADER + NETS[net], {}), folder / "net.onnx"
    onnx.save(proto, folder / "float.onnx")
    if format is None:
        quantize_dynamic(folder / "float.onnx", path)
    else:
        quantize_static(folder / "float.onnx", path, Drawn(proto), quant_format=format, per_channel=True)
    if optimised:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath, options.log_severity_level = str(path), 3
        onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    return path


@pytest.mark.parametrize(
    ("net", "format", "optimised"),
    [
        ("convolutions", QuantFormat.QDQ, False),
        ("convolutions", QuantFormat.QDQ, True),
        ("convolutions", QuantFormat.QOperator, False),
        ("products", None, True),
    ],
)
def test_files_of_the_quantiser(net, format, optimised, tmp_path):
    """As onnxruntime writes them, with its optimiser behind or without; `None` quantises while it runs."""
    path = _quantised(net, format, optimised, tmp_path)
    result = bridge.convert(path, verify=bridge.Verify(seed=1))
    assert result.report.verified
    made = [row.layer for row in result.report.rows]
    native = {"convolutions": ["Conv2D", "DepthwiseConv2D", "Conv2D"], "products": ["Dense", "Dense"]}[net]
    assert [layer for layer in made if layer in set(native)][: len(native)] == native
    assert {node.domain for node in onnx.load(path).graph.node} >= ({"com.microsoft"} if optimised else set())


@pytest.mark.parametrize(
    ("net", "format", "optimised", "becomes"),
    [
        ("convolutions", QuantFormat.QDQ, False, "Conv Clip MaxPool Conv Sigmoid Conv Add LeakyRelu"),
        ("products", None, False, "Linear Relu Linear"),
        ("products", QuantFormat.QOperator, False, "Linear Clip Linear"),
        ("recurrent", None, False, "Transpose LSTM"),
    ],
)
def test_numbers_that_integers_stand_for(net, format, optimised, becomes, tmp_path):
    """No integer is left, and what comes out is close to what the integers give."""
    path = _quantised(net, format, optimised, tmp_path)
    simple = simplify(load(load_numbers(path)))
    assert [node.op_type for node in simple.graph][: len(becomes.split())] == becomes.split()
    proto, random = onnx.load(path), np.random.default_rng(3)
    dims = [dim.dim_value or 5 for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    x = random.normal(size=dims).astype("float32")
    (integers,), (numbers,) = as_given(proto)[0]([x]), as_given(simple)[0]([x])
    assert 0 < np.abs(integers - numbers).max() < 0.06 * np.abs(integers).max()


def test_dequantized(tmp_path):
    """The proof is about the model of numbers, and the report says how far the integers are."""
    path = _quantised("products", QuantFormat.QDQ, False, tmp_path)
    result = bridge.convert(path, dequantize=True)
    assert [row.layer for row in result.report.rows] == ["Dense", "ReLU", "Dense"]
    assert any("off from the integers of the file by" in note for note in result.report.notes)
