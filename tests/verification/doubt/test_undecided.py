"""What nobody defines, and what only rounding decides, counts for nothing in a proof; the rest counts for all."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import onnx.parser
import pytest
from keras import ops

import bridge
from bridge.frontend.source import as_ir, load_source
from bridge.verification.doubt.sure import Alone, Form, Sure, elements_sure
from bridge.verification.reference.as_given import as_given
from bridge.verification.trials import Trial

HEAD = '<ir_version: 8, opset_import: ["": {}{}]> '
ALARMS = {  # that each of these ended in
    "the rank of NaN, read by others": (
        18,
        "g (float[5,4] x) => (float[5,4] y) { l = Log (x)  h = Hardmax <axis = 0> (l)  y = Acosh (h) }",
    ),
    "a deviation of one number": (
        9,
        "g (float[N,5,1,1] x) => (float[N,5,1,1] y) { y = MeanVarianceNormalization (x) }",
    ),
    "a sum that cancels": (
        18,
        "g (float[N,6] x) => (float[N,1] y) <int64[1] a = {1}> { y = ReduceLogSum (x, a) }",
    ),
    "integers beyond their type": (
        21,
        "g (double[N,3] x) => (uint8[N,3] y) <uint8 t = {1}> { y = CastLike (x, t) }",
    ),
    "constants of 32 bits in its formula, in float64": (
        20,
        "g (float16[N,3] x) => (float16[N,3] y, float16[N,3] z, float16[N,3] u) "
        '{ y = Gelu (x)  z = Gelu <approximate = "tanh"> (x)  u = HardSwish (x) }',
    ),
    "a half that is rounded node by node only": (
        21,
        "g (float16[6,3] x) => (bool[3] y) <int64[1] a = {0}> { p = ReduceProd <keepdims = 0> (x, a)  y = Cast <to = 9> (p) }",
    ),
    "squares beyond a half": (18, "g (float16[N,3] x) => (float16[N,3] y) { y = LpNormalization (x) }"),
    "a state that is not given beside one that is infinite": (
        18,
        "g (float[1,2,2] c) => (float[2,1,2,2] y) <float[2,2,1] x = {1, 2, 3, 4}, float[1,8,1] w = {1, 2, 3, 4, 5, 6, 7, "
        "8}, float[1,8,2] r = {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}> "
        '{ y = LSTM <hidden_size = 2> (x, w, r, "", "", "", c) }',
    ),
    "the alpha of Selu, which its schema has in 32 bits, in float64": (
        21,
        "g (float16[N,3] x) => (float16[N,3] y) { y = Selu <gamma = -0.1> (x) }",
    ),
    "an alpha of 32 bits in float64, beside a half": (
        21,
        "g (float16[N,3] x, float[N,3] z) => (float16[N,3] y, float[N,3] u) { y = Erf (x)  u = Celu (z) }",
    ),
    "a bound below zero, in float64": (
        21,
        "g (float16[N,4,4,3] x) => (float16[N,4,4,3] y) { y = Shrink <bias = -0.09, lambd = -0.02> (x) }",
    ),
    "the largest of nothing but padding": (
        17,
        "g (float[N,1,3] x) => (float[N,1,2] y) { y = MaxPool <kernel_shape = [2], dilations = [4], pads = [1, 2]> (x) }",
    ),
    "a mean of what a loop gives, which cancels": (
        15,
        "g (float[N,6,8,1] x) => (float[1,1,1,1] y) <int64 i = {0}, int64 n = {4}, bool t = {1}> "
        "{ s = Gather (x, i)  e, v = Loop (n, t, s) <body = b (int64 c, bool o, float[6,8,1] a) => "
        "(bool p, float[6,8,1] d, float[6,8,1] w) { h = Tanh (a)  d = Add (h, a)  w = Sin (d)  p = Identity (o) }> "
        "m = ReduceMean <keepdims = 1> (v)  k = ReduceMean <keepdims = 1> (m)  y = Sub (m, k) }",
    ),
    "a sixth in float64": (
        21,
        "g (float16[N,3,4] x) => (float16[N,3,4] y) { l = Log (x)  h = HardSwish (l)  y = Softmax <axis = 1> (h) }",
    ),
    "a sum of integers that is a half, within one node": (
        24,
        "g (int8[N,999] x) => (int8[N,999] y) <int8[1] z = {-23}, float a = {0.1947592}, int8 i = {68}, "
        "float b = {0.02501213}, int8 j = {36}, float c = {0.581546}, int8 k = {-66}> "
        "{ y = com.microsoft.QLinearAdd (x, a, i, z, b, j, c, k) }",
    ),
    "rounding that an operator of onnxruntime's own amplifies": (
        20,
        "g (float[N,40] x) => (float[N,40] y) <float b = {3e5}> { g = com.microsoft.Gelu (x)  m = Mul (g, b)  y = Sin (m) }",
    ),
    "rounding of a normalisation, amplified": (
        20,
        "g (float[N,4,3] x) => (float[N,4,3] y) <float b = {3e5}> "
        "{ g = MeanVarianceNormalization <axes = [1, 2]> (x)  m = Mul (g, b)  y = Sin (m) }",
    ),
    "rounding of an old file, amplified": (
        5,
        "g (float[N,40] x) => (float[N,40] y) <float[40] b = {"
        + ", ".join(["3e4"] * 40)
        + '}> { c = Cast <to = "FLOAT"> (x)  t = Tanh (c)  m = Mul <broadcast = 1> (t, b)  f = Floor (m)  y = Sub (m, f) }',
    ),
}


def parsed(opset: int, text: str) -> onnx.ModelProto:
    microsoft = ', "com.microsoft": 1' if "com.microsoft." in text else ""
    return onnx.parser.parse_model(HEAD.format(opset, microsoft) + text)


@pytest.mark.parametrize("name", ALARMS)
def test_no_alarm(name):
    assert bridge.convert(parsed(*ALARMS[name])).report.verified


UNDECIDED = {  # the graph, what it is given, and of what of its output it is sure
    "ranks beside NaN": (
        "g (float[2,3] x) => (float[2,3] v, int64[2,3] y) <int64[1] k = {3}> { v, y = TopK (x, k) }",
        [[[3, np.nan, 1], [3, 2, 1]]],
        [[False] * 3, [True] * 3],
    ),
    "the rank that a number beside NaN has": (
        "g (float[2,3] x) => (float[2,1] v, int64[2,1] y) <int64[1] k = {1}> { v, i = TopK (x, k)  y = Mul (i, i) }",
        [[[3, np.nan, 1], [3, 2, 1]]],
        [[False], [True]],
    ),
    "a number beside NaN, of which alone there is a logarithm": (
        "g (float[2,1,3] x) => (float[2,1,1] y) "
        "{ p = MaxPool <kernel_shape = [3], pads = [0, 0]> (x)  a = Atanh (p)  y = Log (a) }",
        [[[[np.nan, 0.2, -0.3]], [[0.1, 0.2, -0.3]]]],
        [[[False]], [[True]]],
    ),
    "NaN against a large number": (
        "g (float[1,2] x, float[1,1] u) => (float[1,2] y) <int64[1,1] i = {0}> "
        '{ y = ScatterElements <axis = 1, reduction = "max"> (x, i, u) }',
        [[[5000, 1]], [[np.nan]]],
        [[False, True]],
    ),
    "NaN alone, which may be no maximum": (
        "g (float[1,2] x) => (float[1,2] y) { y = Hardmax <axis = 0> (x) }",
        [[[np.nan, 1.0]]],
        [[False, True]],
    ),
    "a sum of products beside infinity, that may be taken first": (
        'g (float[2] x, float[2] z) => (float[2] y) <float[2] w = {2, -1}> { y = Einsum <equation = "b,e,e->b"> (x, z, w) }',
        [[np.inf, 1.0], [1.0, 1.0]],
        [False, True],
    ),
    "NaN as an integer with a scale": (
        "g (float[2] x) => (uint8[2] y) <float s = {0.1}, uint8 z = {3}> { y = QuantizeLinear (x, s, z) }",
        [[np.nan, 1.0]],
        [False, True],
    ),
    "an integer to a power that is none": (
        "g (float[3] x) => (int64[3] y) <float e = {1.5}> { i = Cast <to = 7> (x)  y = Pow (i, e) }",
        [[-4.0, 4.0, 1e14]],
        [False, True, False],
    ),
    "what is normalised with a scale that broadcasts": (
        "g (float[2,2,3,2] x) => (float[2,2,3,1] y) <float[2] s = {1, 2}, float[2] b = {3, 4}> "
        "{ n = LayerNormalization <axis = 1> (x, s, b)  y = MaxPool <kernel_shape = [1, 2]> (n) }",
        [[[[[1.0, 2.0]] * 3] * 2, [[[1.0, np.nan]] * 3] * 2]],
        [[[[True]] * 3] * 2, [[[False]] * 3] * 2],
    ),
    "a mean of ranks beside NaN, cut to a whole number": (
        "g (float[2,4,3] x) => (float[2,4,3] v, int64[2,1,3] y) <int64[1] k = {3}, int64[1] a = {1}> "
        "{ v, i = TopK (x, k)  y = ReduceMean (i, a) }",
        [[[[3, np.nan, 1]] * 4, [[3, 2, 1]] * 4]],
        [[[False] * 3], [[True] * 3]],
    ),
    "NaN times a weight of zero": (
        "g (float[1,2,3] x) => (float[1,1,2,1] y) <float[1,1,3] w = {1, 1, 0}, float[1,1,1] r = {1}> "
        '{ y = RNN <hidden_size = 1, activations = ["Relu"]> (x, w, r) }',
        [[[[1, 2, np.nan], [1, 2, 3]]]],
        [[[[False], [True]]]],
    ),
    "ranks beside NaN in a part of a sequence": (
        "g (float[4,3] x) => (float[2,3] v, int64[2,3] y) <int64[1] k = {3}, int64[2] s = {2,2}, int64 i = {0}> "
        "{ q = SplitToSequence <axis = 0> (x, s)  p = SequenceAt (q, i)  v, y = TopK (p, k) }",
        [[[3, np.nan, 1], [3, 2, 1], [1, 2, 3], [1, 2, 3]]],
        [[False] * 3, [True] * 3],
    ),
    "ranks beside NaN, and a size that is computed": (
        "g (float[1,1,2] x, float[2,3] z) => (float[1,1,2] u, float[2,3] v, int64[2,3] y) <int64[1] k = {3}> "
        "{ s = Shape (x)  c = Concat <axis = 0> (s)  u = Resize (x, , , c)  v, y = TopK (z, k) }",
        [[[[1, 2]]], [[3, np.nan, 1], [3, 2, 1]]],
        [[False] * 3, [True] * 3],
    ),
    "a place that is read by a factor which 32 bits do not hold": (
        "g (float[1,12] x) => (float[1,7] y) <float[2] s = {1, 0.6}> "
        '{ y = Resize <nearest_mode = "floor"> (x, "", s) }',
        [[[float(i) for i in range(12)]]],
        [[True, False, True, True, False, True, True]],
    ),
    "a negative number as an unsigned integer": (
        "g (float[3] x) => (uint8[3] y) { y = Cast <to = 2> (x) }",
        [[-3.0, 3.0, 300.0]],
        [False, True, False],
    ),
    "a quotient of rounding": (
        "g (float[1,2,1,3] x) => (float[1,2,1,3] y) { y = MeanVarianceNormalization (x) }",
        [[[[[0.1] * 3], [[1.0, 2.0, 3.0]]]]],
        [[[[False] * 3], [[True] * 3]]],
    ),
    "a node that onnxruntime runs in old opsets only": (
        "g (float[1,1,3] x, float[2] z) => (float[1,1,1] p, float y) "
        "{ p = GlobalLpPool <p = 1> (x)  y = ReduceMax <keepdims = 0> (z) }",
        [[[[1.0, 2.0, 3.0]]], [np.nan, 1.0]],
        False,
    ),
    "that, of a file of old, whose weights are inputs": (
        "g (float[1,1,3] x, float[1] w) => (float[1,1,3] y, float[1,1,1] p) <float[1] w = {2}> "
        "{ y = Mul (x, w)  p = GlobalLpPool <p = 1> (y) }",
        [[[[1.0, 2.0, np.nan]]]],
        [[[True]]],
    ),
    "the least of NaN and -inf": (
        "g (float[2] x, float[1] z) => (float[2] y) <int64[1] i = {0}> "
        '{ y = ScatterElements <reduction = "min"> (x, i, z) }',
        [[np.nan, 1.0], [-np.inf]],
        [False, True],
    ),
    "what a cell overflows to": (
        "g (float[1,1,1] x) => (float[1,1,1,1] y) <float[1,3,1] w = {100, 100, 100}, float[1,3,1] r = {1, 1, 1}> "
        '{ h = GRU <hidden_size = 1, activations = ["Softplus", "Sigmoid"]> (x, w, r)  y = Acosh (h) }',
        [[[[3.0]]]],
        [[[[False]]]],
    ),
    "what a cell overflows to, and nothing else": (
        "g (float[1,1,1] x) => (float[1,1,1,1] y) <float[1,3,1] w = {100, 100, 100}, float[1,3,1] r = {1, 1, 1}> "
        '{ y = GRU <hidden_size = 1, activations = ["LeakyRelu", "Softplus"]> (x, w, r) }',
        [[[[3.0]]]],
        [[[[False]]]],
    ),
    "what a cell cuts off at the largest number": (
        "g (float[2,1,1] x) => (float[1,1,1] y) <float[1,1,1] w = {3e38}, float[1,1,1] r = {-1}, float one = {1}> "
        '{ s, h = RNN <hidden_size = 1, activations = ["Relu"]> (x, w, r)  y = Min (h, one) }',
        [[[[10.0]], [[10.0]]]],
        [[[False]]],
    ),
    "NaN that a cell passes on or cuts off, where any number gives zero": (
        "g (float[1,8] b) => (float[1,1,1,1] y) <float[1,1,1] x = {0}, float[1,4,1] w = {0, 0, 0, 0}> "
        '{ y = LSTM <hidden_size = 1, activations = ["Tanh", "Relu", "Relu"]> (x, w, w, b) }',
        [[[-1, 1, 1, np.nan, 0, 0, 0, 0]]],
        [[[[False]]]],
    ),
    "what a window begins from, compared": (
        "g (float[1,1,2] x) => (bool[1,1,1] y) <float c = {-2}> "
        "{ m = MaxPool <kernel_shape = [2]> (x)  y = Greater (c, m) }",
        [[[[np.nan, 1.0]]]],
        [[[False]]],
    ),
    "a sum of neighbours that is infinite, or nothing": (
        "g (float[1,3,1,1] x) => (float[1,3,1,1] y) { n = LRN <size = 3, bias = 1e-6> (x)  y = Acos (n) }",
        [[[[[1000.0]], [[np.inf]], [[0.0]]]]],
        [[[[False]], [[False]], [[False]]]],
    ),
    "infinity that is masked": (
        "g (float[1,1,2] q, float[1,2,2] k, float[1,2,2] v) => (float[1,1,2] y) "
        "{ y = Attention <is_causal = 1, q_num_heads = 1, kv_num_heads = 1> (q, k, v) }",
        [[[[1.0, 2.0]]], [[[1.0, 2.0], [3.0, 4.0]]], [[[1.0, 2.0], [3.0, np.inf]]]],
        [[[False, False]]],
    ),
    "what is there once": (
        "g (float[4] x) => (float[N] y) { y = Unique <sorted = 1> (x) }",
        [[1.0, np.nan, np.nan, 2.0]],
        [False, False],  # of onnxruntime, which finds two
    ),
    "boxes beside NaN": (
        "g (float[1,3,4] b, float[1,1,3] s) => (int64[N, 3] y) <int64 n = {5}> { y = NonMaxSuppression (b, s, n) }",
        [[[[0.0, 0, 1, 1], [0, 2, 1, 3], [0, 4, 1, 5]]], [[[0.5, np.nan, 0.7]]]],
        [[False, False, False]] * 3,
    ),
    "what is beside a sequence": (
        "g (float[2] x, float[2] z) => (float[4] y, float u) { s = SequenceConstruct (x, x) "
        "y = ConcatFromSequence <axis = 0> (s)  u = ReduceMin <keepdims = 0> (z) }",
        [[1.0, 2.0], [np.nan, 1.0]],
        False,
    ),
    "what is beside numbers that numpy lacks": (
        "g (float[1] x, float[2] z) => (float[1] y, float u) "
        "{ b = Cast <to = 16> (x)  y = Cast <to = 1> (b)  u = ReduceMin <keepdims = 0> (z) }",
        [[1.0], [np.nan, 1.0]],
        False,
    ),
    "what is beside the logarithm of integers": (
        "g (float[2] x, float[2] z) => (int64[1] s, float u) "
        "{ i = Cast <to = 7> (x)  s = ReduceLogSum (i)  u = ReduceMin <keepdims = 0> (z) }",
        [[1.0, 2.0], [np.nan, 1.0]],
        False,
    ),
    "infinity that a Clip without bounds passes on, compared": (
        "g (float[2] x) => (bool[2] y) { c = Clip (x)  y = Equal (c, x) }",
        [[np.inf, 1.0]],
        [False, True],
    ),
    "a product of integers that is too large": (
        "g (float[2,3] x) => (int32[2] y) <int64[1] a = {1}> { i = Cast <to = 6> (x)  y = ReduceProd <keepdims = 0> (i, a) }",
        [[[1e5, 1e5, 1], [2, 3, 4]]],
        [False, False],
    ),
    "a sum of integers that is too large": (
        "g (float[2,3] x) => (int32[2] y) <int64[1] a = {1}> { i = Cast <to = 6> (x)  y = ReduceSum <keepdims = 0> (i, a) }",
        [[[2e9, 2e9, 1], [2, 3, 4]]],
        [False, False],
    ),
    "a sum of squares of integers that is too large": (
        "g (float[2,3] x) => (int32[2] y) <int64[1] a = {1}> { i = Cast <to = 6> (x)  y = ReduceSumSquare <keepdims = 0> (i, a) }",
        [[[1e5, 1e5, 1], [2, 3, 4]]],
        [False, False],
    ),
    "sums of integers": (
        "g (float[2,3] x) => (int32[2] y) <int64[1] a = {1}> { i = Cast <to = 6> (x)  s = ReduceSumSquare (i, a)  "
        "y = ReduceSum <keepdims = 0> (s, a) }",
        [[[9, 9, 1], [2, 3, 4]]],
        [True, True],
    ),
    "a product of integers": (
        "g (float[2,3] x) => (int32[2] y) <int64[1] a = {1}> { i = Cast <to = 6> (x)  y = ReduceProd <keepdims = 0> (i, a) }",
        [[[9, 9, 1], [2, 3, 4]]],
        [True, True],
    ),
    "a branch within a branch, with a constant of its own": (
        "g (float[2] x) => (float[2] y) <bool t = {1}> { y = If (t) <then_branch = a () => (float[2] p) { p = If (t) "
        "<then_branch = b () => (float[2] q) <float[1] k = {2}> { q = Mul (x, k) }, else_branch = c () => (float[2] r) "
        "{ r = Neg (x) }> }, else_branch = d () => (float[2] s) { s = Neg (x) }> }",
        [[1.0, 2.0]],
        [True, True],
    ),
    "what overflows": ("g (float[2] x) => (float[2] y) { y = Exp (x) }", [[100.0, 1.0]], [True, True]),
}


def known(text: str, inputs: list[np.ndarray]) -> Sure:
    opened = load_source(parsed(5 if "GlobalLpPool" in text else 23, text))
    found = elements_sure(Alone(opened), Trial({}, inputs, None, as_given(opened.given)[0](inputs)))
    assert found is not None
    return found


@pytest.mark.parametrize("name", UNDECIDED)
def test_undecided(name):
    text, given, decided = UNDECIDED[name]
    found = known(text, [np.asarray(x, "float32") for x in given])
    assert found.decided[-1].tolist() == decided


def test_an_error_beside_what_is_undecided_is_caught(build_with):
    build_with("Softsign", lambda x: ops.softsign(x) * 1.001)
    text = "g (float[5,4] x) => (float[5,4] y) { l = Log (x)  y = Softsign (l) }"
    with pytest.raises(bridge.MismatchError, match="first at Softsign"):
        bridge.convert(parsed(18, text))


def test_squares_beyond_a_half_are_right():
    model = bridge.convert(parsed(18, ALARMS["squares beyond a half"][1])).model
    for scale in (1e-4, 1e3):
        got = keras.ops.convert_to_numpy(model(np.full((1, 3), scale, "float16")))
        np.testing.assert_allclose(got, 3**-0.5, rtol=1e-3)


@pytest.mark.parametrize("opset", [14, 18, 21])
def test_normalisations_of_any_opset_are_written_out(opset):
    """As groups of one channel, where there are groups."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> g (float[2, 3, 5] x) => (float[2, 3, 5] y) '
        "<float[3] s = {1, 2, 3}, float[3] b = {0, 1, 0}> { y = InstanceNormalization (x, s, b) }"
    )
    feed = [np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)]
    written = Form(as_ir(model)).written.model
    np.testing.assert_allclose(as_given(written)[0](feed)[0], as_given(model)[0](feed)[0], atol=1e-5)
    assert (opset < 18) == any(node.op_type == "InstanceNormalization" for node in written.graph)
