"""Element by element: rows of ONNX text, each proved against onnxruntime."""

import keras
import numpy as np
import pytest
from checking import check, parse, refuses
from onnx.parser import parse_model

from bridge import convert

CUBE = "float[N, T, 4]"
DOMAINS = {
    "Acos": (-1, 1),
    "Acosh": (1, 4),
    "Asin": (-1, 1),
    "Atanh": (-0.9, 0.9),
    "Log": (0.1, 5),
    "Sqrt": (0, 5),
}
UNARY = """Abs Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Erf Exp Floor Log Neg Reciprocal Round Sign Sin Sinh
    Sqrt Tan""".split()


@pytest.mark.parametrize("op", UNARY)
def test_unary(op):
    check(
        f"g ({CUBE} x) => ({CUBE} y) {{ y = {op} (x) }}",
        layers=[],
        ranges={"x": DOMAINS.get(op, (-3, 3))},
    )


@pytest.mark.parametrize("op", ["Abs", "Neg", "Sign", "BitwiseNot"])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_unary_of_integers(op, dtype):
    check(f"g ({dtype}[N, 3] x) => ({dtype}[N, 3] y) {{ y = {op} (x) }}")


ARITHMETIC = {
    "add": ("float[N, T, 4] a, float[N, T, 4] b", "Add (a, b)", ["Add"]),
    "add-broadcast": ("float[N, T, 4] a, float[N, 1, 4] b", "Add (a, b)", []),
    "add-empty": ("float[0, 3] a, float[0, 3] b", "Add (a, b)", []),
    "add-lower-rank": ("float[N, T, 4] a, float[4] b", "Add (a, b)", []),
    "add-double": ("double[N, T, 4] a, double[N, T, 4] b", "Add (a, b)", ["Add"]),
    "add-int64": ("int64[N, T, 4] a, int64[N, T, 4] b", "Add (a, b)", []),
    "sub": ("float[N, T, 4] a, float[N, T, 4] b", "Sub (a, b)", ["Subtract"]),
    "sub-int32": ("int32[N, T, 4] a, int32[T, 4] b", "Sub (a, b)", []),
    "mul": ("float[N, T, 4] a, float[N, T, 4] b", "Mul (a, b)", ["Multiply"]),
    "mul-scalar": ("float[N, T, 4] a, float b", "Mul (a, b)", []),
    "div": ("float[N, T, 4] a, float[4] b", "Div (a, b)", []),
    "max": ("float[N, T, 4] a, float[N, T, 4] b", "Max (a, b)", ["Maximum"]),
    "max-one": ("float[N, T, 4] a", "Max (a)", []),
    "max-three": ("float[N, T, 4] a, float[4] b, float[T, 1] c", "Max (a, b, c)", []),
    "min": ("float[N, T, 4] a, float[N, T, 4] b", "Min (a, b)", ["Minimum"]),
    "min-int64": ("int64[N, T, 4] a, int64[4] b", "Min (a, b)", []),
    "sum-three": ("float[N, T, 4] a, float[N, T, 4] b, float[N, T, 4] c", "Sum (a, b, c)", ["Add"]),
    "mean-three": ("float[N, T, 4] a, float[N, T, 4] b, float[N, T, 4] c", "Mean (a, b, c)", ["Average"]),
    "mean-vectors": ("float[4] a, float[4] b, float[N, T, 4] c", "Mean (a, b, c)", []),
    "mean-broadcast": ("float[N, T, 4] a, float[4] b", "Mean (a, b)", []),
}


@pytest.mark.parametrize("row", ARITHMETIC.values(), ids=ARITHMETIC)
def test_arithmetic(row):
    inputs, call, layers = row
    dtype = inputs.split("[")[0]
    check(f"g ({inputs}) => ({dtype}[N, T, 4] y) {{ y = {call} }}", layers=layers)


INTEGERS = {
    "div-int32": ("int32", "Div (a, b)", {"b": (1, 5)}),
    "div-negative": ("int64", "Div (a, b)", {"b": (-4, 0)}),
    "div-unsigned": ("uint8", "Div (a, b)", {"a": (0, 200), "b": (1, 9)}),
    "mod-int64": ("int64", "Mod (a, b)", {"b": (1, 5)}),
    "mod-negative": ("int64", "Mod (a, b)", {"b": (-4, 0)}),
    "fmod-int64": ("int64", "Mod <fmod = 1> (a, b)", {"b": (-4, 0)}),
    "fmod-float": ("float", "Mod <fmod = 1> (a, b)", {"a": (-9, 9), "b": (1, 2)}),
    "fmod-double-negative": ("double", "Mod <fmod = 1> (a, b)", {"a": (-9, 9), "b": (-2, -1)}),
    "and": ("int32", "BitwiseAnd (a, b)", {}),
    "or": ("int64", "BitwiseOr (a, b)", {}),
    "xor": ("uint8", "BitwiseXor (a, b)", {}),
    "left": ("uint32", 'BitShift <direction = "LEFT"> (a, b)', {"a": (0, 99), "b": (0, 5)}),
    "right": ("uint32", 'BitShift <direction = "RIGHT"> (a, b)', {"a": (0, 99), "b": (0, 5)}),
    "left-beyond": ("uint32", 'BitShift <direction = "LEFT"> (a, b)', {"b": (30, 34)}),
    "right-beyond": ("uint8", 'BitShift <direction = "RIGHT"> (a, b)', {"b": (5, 11)}),
    "max-uint32": ("uint32", "Max (a, b)", {}),
}


@pytest.mark.parametrize("row", INTEGERS.values(), ids=INTEGERS)
def test_integer_arithmetic(row):
    dtype, call, ranges = row
    if keras.backend.backend() == "torch" and (dtype == "uint32" or "fmod" in call and dtype == "double"):
        pytest.skip("PyTorch, or Keras on it, has no such operation")
    check(f"g ({dtype}[N, 4] a, {dtype}[N, 4] b) => ({dtype}[N, 4] y) {{ y = {call} }}", ranges=ranges)


POWERS = {
    "float": ("float", "float[4]", {"x": (0.1, 3)}),
    "half-float": ("float16", "float[4]", {"x": (1, 3), "e": (2.01, 2.1)}),
    "float-int": ("float", "int64[4]", {"e": (0, 4)}),
    "int-float": ("int32", "float[4]", {"x": (0, 5), "e": (0, 3)}),
    "int-half": ("int64", "float16[4]", {"x": (0, 99), "e": (2, 6)}),
    "int-int": ("int64", "int64[4]", {"e": (0, 4)}),
}


@pytest.mark.parametrize("row", POWERS.values(), ids=POWERS)
def test_power(row):
    base, exponent, ranges = row
    check(f"g ({base}[N, 4] x, {exponent} e) => ({base}[N, 4] y) {{ y = Pow (x, e) }}", ranges=ranges)


@pytest.mark.parametrize(
    "exponent", ["float e = {2}", "float e = {3}", "int64 e = {2}", "float[2] e = {0.5, 2}"]
)
def test_power_of_a_constant(exponent):
    text = f"g (float[N, 3, 2] x) => (float[N, 3, 2] y) <{exponent}> {{ y = Pow (x, e) }}"
    check(text, layers=[], ranges={"x": (0.1, 3)})


CONSTANTS = {
    "add": ("float[4] c = {1, 2, -3, 4}", "float[N, T, 4]", "Add (x, c)"),
    "add, of more axes": ("float[1, 1, 1, 4] c = {1, 2, -3, 4}", "float[1, N, T, 4]", "Add (x, c)"),
    "rsub": ("float c = {1}", "float[N, T, 4]", "Sub (c, x)"),
    "rdiv": ("float[1, 1, 1] c = {2}", "float[N, T, 4]", "Div (c, x)"),
    "max": ("float c = {0.5}", "float[N, T, 4]", "Max (x, c)"),
    "less": ("float c = {0.5}", "bool[N, T, 4]", "Less (x, c)"),
    "higher-rank": ("float[2, 1, 1, 1] c = {1, 2}", "float[2, N, T, 4]", "Add (c, x)"),
}


@pytest.mark.parametrize("row", CONSTANTS.values(), ids=CONSTANTS)
def test_constant_among_the_inputs(row):
    constant, result, call = row
    check(f"g (float[N, T, 4] x) => ({result} y) <{constant}> {{ y = {call} }}", layers=[])


TYPED = {
    "or": "int64[N, 3] x => int64 c = {5}: BitwiseOr (x, c)",
    "xor, the first": "uint8[N] x => uint8 c = {5}: BitwiseXor (c, x)",
    "and, no axis": "int64[] x => int64 c = {5}: BitwiseAnd (c, x)",
    "shift": 'uint8[N] x => uint8 c = {2}: BitShift <direction = "LEFT"> (x, c)',
    "shifted": 'uint8[N] x => uint8 c = {2}: BitShift <direction = "RIGHT"> (c, x)',
    "chosen": "int64[N] x => int64 c = {2}, int64 d = {3}: Where (m, c, d)",
}


@pytest.mark.parametrize("text", TYPED.values(), ids=TYPED)
def test_a_scalar_keeps_its_type_when_saved(text):
    value, _, rest = text.partition(" => ")
    constants, _, call = rest.partition(": ")
    x = value.replace("[]", "")
    mask = "z = Constant <value = int64 {0}> () m = Less (x, z)" if "(m" in call else ""
    model = parse_model(
        '<ir_version: 10, opset_import: ["": 23]>\n'
        f"g ({x}) => ({x.replace(' x', ' y')}) <{constants}> {{ {mask} y = {call} }}"
    )
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.SetInParent()  # no axes, where the text has none
    check(model)


SQUARE = {
    # an axis as long as another one: the Keras function must not mistake the one for the other
    "row": "float[N, 3, 3] a, float[3] b",
    "column": "float[N, 3, 3] a, float[3, 1] b",
    "column-first": "float[3, 1] a, float[N, 3, 3] b",
    "unknown-column": "float[N, T, T] a, float[T, 1] b",
    "outer": "float[N, 3, 1] a, float[3] b",
    "unknown-outer": "float[N, T, 1] a, float[T] b",
    "batch": "float[3, 3, 3] a, float[3, 1, 1] b",
    "unknown-batch": "float[T, T, T] a, float[T, 1, 1] b",
    "integers": "int64[N, 3, 3] a, int64[3, 1] b",
    "unsigned": "uint8[N, 3, 3] a, uint8[3, 1] b",
}


@pytest.mark.parametrize("inputs", SQUARE.values(), ids=SQUARE)
@pytest.mark.parametrize("op", ["Add", "Sum", "Sub", "Mul"])
def test_square(op, inputs):
    dtype = inputs.split("[")[0]
    if dtype == "float" or op == "Add":
        sizes = [{"N": 3, "T": 3}, {"N": 1, "T": 4}]
        check(f"g ({inputs}) => ({dtype}[A, B, C] y) {{ y = {op} (a, b) }}", layers=[], sizes=sizes)


def test_square_constant():
    check(
        "g (float[N, 3, 3] a) => (float[N, 3, 3] y) <float[3, 1] b = {1, 2, 3}> { y = Add (b, a) }", layers=[]
    )


COMPARISONS = {
    "equal": ("int64", "Equal (a, b)"),
    "equal-bool": ("bool", "Equal (a, b)"),
    "greater": ("float", "Greater (a, b)"),
    "greater-or-equal": ("int32", "GreaterOrEqual (a, b)"),
    "less": ("double", "Less (a, b)"),
    "less-or-equal": ("int64", "LessOrEqual (a, b)"),
    "and": ("bool", "And (a, b)"),
    "or": ("bool", "Or (a, b)"),
    "xor": ("bool", "Xor (a, b)"),
}


@pytest.mark.parametrize("row", COMPARISONS.values(), ids=COMPARISONS)
def test_comparison(row):
    dtype, call = row
    check(f"g ({dtype}[N, 1, 4] a, {dtype}[T, 4] b) => (bool[N, T, 4] y) {{ y = {call} }}", layers=[])


LOGIC = {
    "not": "g (bool[N, 3] x) => (bool[N, 3] y) { y = Not (x) }",
    "where": "g (bool[N, 1] c, float[N, 3] a, float[3] b) => (float[N, 3] y) { y = Where (c, a, b) }",
    "where-int": "g (bool[N, 3] c, int64[N, 3] a) => (int64[N, 3] y) <int64 b = {7}> { y = Where (c, a, b) }",
    "where-constant": "g (bool[N, 3] c) => (float[N, 3] y) <float a = {0}, float b = {-7}> { y = Where (c, a, b) }",
    "is-nan": "g (float[N, 3] x) => (bool[N, 3] y) { r = Sqrt (x)  y = IsNaN (r) }",
    "is-inf": "g (float[N, 3] x) => (bool[N, 3] y) { e = Exp (x)  y = IsInf (e) }",
    "is-inf-up": "g (float[N, 3] x) => (bool[N, 3] y) { e = Exp (x)  y = IsInf <detect_negative = 0> (e) }",
    "is-inf-down": "g (float[N, 3] x) => (bool[N, 3] y) { e = Exp (x)  y = IsInf <detect_positive = 0> (e) }",
}


@pytest.mark.parametrize("text", LOGIC.values(), ids=LOGIC)
def test_logic(text):
    check(text, ranges={"x": (-200, 200)})


CASTS = {
    "float-int64": ("float", "int64", 7),
    "float-bool": ("float", "bool", 9),
    "bool-float": ("bool", "float", 1),
    "bool-int64": ("bool", "int64", 7),
    "int64-float": ("int64", "float", 1),
    "int64-int32": ("int64", "int32", 6),
    "float-double": ("float", "double", 11),
    "double-float": ("double", "float", 1),
    "float-half": ("float", "float16", 10),
    "int32-uint8": ("int32", "uint8", 2),
}


@pytest.mark.parametrize("row", CASTS.values(), ids=CASTS)
def test_cast(row):
    source, target, number = row
    ranges = {"x": (-90, 90) if target != "uint8" else (0, 90)}
    check(f"g ({source}[N, 3] x) => ({target}[N, 3] y) {{ y = Cast <to = {number}> (x) }}", ranges=ranges)


def test_cast_like_follows_the_axes_of_its_first_input():
    check(
        "g (float[N, 3] x, int64[2, 2, 2, 2] t) => (int64[N, 3] y) { y = CastLike (x, t) }",
        ranges={"x": (-9, 9)},
    )


ACTIVATIONS = {
    "relu": ("Relu (x)", ["ReLU"]),
    "relu6": ("Clip (x, zero, six)", ["ReLU"]),
    "clip": ("Clip (x, one, six)", []),
    "clip-low": ("Clip (x, one)", []),
    "clip-high": ("Clip (x, , one)", []),
    "clip-nothing": ("Clip (x)", []),
    "leaky-relu": ("LeakyRelu (x)", ["LeakyReLU"]),
    "leaky-relu-alpha": ("LeakyRelu <alpha = 0.3> (x)", ["LeakyReLU"]),
    "elu": ("Elu <alpha = 0.7> (x)", ["ELU"]),
    "celu": ("Celu (x)", ["Activation"]),
    "celu-alpha": ("Celu <alpha = 2.0> (x)", []),
    "selu": ("Selu (x)", ["Activation"]),
    "selu-alpha": ("Selu <alpha = 2.0, gamma = 1.5> (x)", []),
    "gelu": ("Gelu (x)", ["Activation"]),
    "gelu-tanh": ('Gelu <approximate = "tanh"> (x)', []),
    "hard-sigmoid": ("HardSigmoid (x)", []),
    "hard-sigmoid-torch": ("HardSigmoid <alpha = 0.1666666716337204> (x)", ["Activation"]),
    "hard-swish": ("HardSwish (x)", ["Activation"]),
    "mish": ("Mish (x)", ["Activation"]),
    "sigmoid": ("Sigmoid (x)", ["Activation"]),
    "softplus": ("Softplus (x)", ["Activation"]),
    "softsign": ("Softsign (x)", ["Activation"]),
    "tanh": ("Tanh (x)", ["Activation"]),
    "thresholded-relu": ("ThresholdedRelu <alpha = 0.7> (x)", []),
    "shrink": ("Shrink <bias = 1.5, lambd = 1.0> (x)", []),
    "softmax": ("Softmax (x)", ["Softmax"]),
    "softmax-axis": ("Softmax <axis = 1> (x)", ["Softmax"]),
    "log-softmax": ("LogSoftmax (x)", []),
    "log-softmax-axis": ("LogSoftmax <axis = -2> (x)", []),
    "hardmax": ("Hardmax <axis = 1> (x)", []),
    "dropout": ("Dropout (x, tenth)", ["Dropout"]),
    "dropout-default": ("Dropout (x)", ["Dropout"]),
    "dropout-none": ("Dropout (x, zero)", []),
    "dropout-inference": ("Dropout (x, tenth, no)", ["Dropout"]),
}
NUMBERS = "<float zero = {0}, float one = {1}, float six = {6}, float tenth = {0.1}, bool no = {0}>"


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activation(row):
    call, layers = row
    check(f"g ({CUBE} x) => ({CUBE} y) {NUMBERS} {{ y = {call} }}", layers=layers, ranges={"x": (-8, 8)})


def test_softmax_of_more_axes_than_the_kernel_takes():
    check("g (float[n,1,2,1,m,3] x) => (float[n,1,2,1,m,3] y) { y = Softmax <axis = 2> (x) }")


@pytest.mark.parametrize("call", ["Clip (x, z)", "Clip (x, , z)", "Clip (x, z, z)"])
def test_bounds_that_are_nan(call):
    among = {"x": (-1.0, 2.0, np.nan), "z": (np.nan,)}
    check(f"g (float[N, 20] x, float z) => (float[N, 20] y) {{ y = {call} }}", among=among)


@pytest.mark.parametrize("call", ["Relu (c)", "Sigmoid (c)", "Softmax <axis = 1> (c)", "Hardmax <axis = 1> (c)",
                                  "Add (c, k)", "Mul (c, r)", "Clip (c, zero)", "Dropout (c, zero)"])  # fmt: skip
def test_any_order_of_axes(call):
    """Between two convolutions nothing is transposed, whatever stands there."""
    constants = "float[5, 1, 1] k = {1, 2, 3, 4, 5}, float zero = {0}"
    check(
        f"""g (float[N, 3, 6, 7] x, float[6, 7] r) => (float[N, 2, 4, 5] y)
        <float[5, 3, 1, 1] w, float[2, 5, 3, 3] v, {constants}>
        {{ c = Conv (x, w)  m = {call}  y = Conv (m, v) }}""",
        transposes=2,
    )


def test_integers_are_cut_off_at_zero():
    check("g (int32[N, 3] x) => (int32[N, 3] y) { y = Relu (x) }", layers=[])


def test_mean_of_vectors():
    check("g (float[N] a, float[N] b) => (float[N] y) { y = Mean (a, b) }", layers=[])


def test_dropout_keeps_its_rate():
    built = check(f"g ({CUBE} x) => ({CUBE} y) {NUMBERS} {{ y = Dropout (x, tenth) }}")
    assert built.model.get_layer("dropout").rate == 0.1


@pytest.mark.parametrize(
    ("dims", "layer"),
    [("N, 3", "Dropout"), ("N, 3, 5", "SpatialDropout1D"), ("N, 3, 5, 4", "SpatialDropout2D"),
     ("N, 3, 2, 5, 4", "SpatialDropout3D")],
)  # fmt: skip
def test_feature_dropout(dims, layer):
    text = f"g (float[{dims}] x) => (float[{dims}] y) {{ y = bridge.FeatureDropout <ratio = 0.25> (x) }}"
    check(text, layers=[layer], transposes=0 if dims.count(",") == 1 else 2)


PRELU = {
    "channels": ("float[N, 3, 4, 5] x, float[N, 3, 4, 5] y, float[3, 1, 1] s", ["PReLU"]),
    "one": ("float[N, 3, 4, 5] x, float[N, 3, 4, 5] y, float[1] s", ["PReLU"]),
    "rank-2": ("float[N, 3] x, float[N, 3] y, float[3] s", ["PReLU"]),
    "whole": ("float[N, T, 3] x, float[N, T, 3] y, float[1, 1, 3] s", ["PReLU"]),
    "of-the-batch": ("float[2, 3] x, float[2, 3] y, float[2, 1] s", []),
}


@pytest.mark.parametrize("row", PRELU.values(), ids=PRELU)
def test_prelu(row):
    declared, layers = row
    x, y, s = declared.split(", float")
    check(f"g ({x}) => (float{y}) <float{s}> {{ y = PRelu (x, s) }}", layers=layers)


def test_prelu_after_a_convolution():
    check(
        """g (float[N, 3, 6, 7] x) => (float[N, 5, 6, 7] y) <float[5, 3, 1, 1] w, float[5, 1, 1] s>
        { c = Conv (x, w)  y = PRelu (c, s) }""",
        layers=["Conv2D", "PReLU"],
        transposes=2,
    )


def test_prelu_with_a_computed_slope():
    check("g (float[N, 3, 4] x, float[3, 1] s) => (float[N, 3, 4] y) { y = PRelu (x, s) }", layers=[])


@pytest.mark.parametrize("bias", ["", "a = Identity (y)", "a = Add (y, b)"], ids=["none", "unread", "bias"])
def test_a_matrix_says_how_long_the_last_axis_is(bias):
    out = "a" if bias else "y"
    check(
        f"g (float[N, D] x) => (float[N, 3] {out}) <float[4, 3] w, float[3] b> {{ y = MatMul (x, w)  {bias} }}",
        sizes=[{"N": 2, "D": 4}, {"N": 3, "D": 4}],
    )


def test_prelu_of_nothing():
    check(
        "g (float[4, 3, 0, 3] x) => (float[4, 3, 0, 3] y) <float[4, 3, 0, 3] s> { y = PRelu (x, s) }",
        layers=[],
    )


def test_prelu_of_a_constant():
    check("g (float[N, 3] s) => (float[N, 3] y) <float[3] x> { y = PRelu (x, s) }", layers=[])


def test_refusals():
    dropout = "<float r = {0.5}, bool t = {1}> { y = Dropout (x, r, t) }"
    refuses(f"g (float[N, 3] x) => (float[N, 3] y) {dropout}", "training_mode")
    refuses("g (float[N, 3] x) => (float8e4m3fn[N, 3] y) { y = Cast <to = 17> (x) }", "FLOAT8E4M3FN")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="elsewhere Keras has integers of 32 bits")
def test_no_integer_loses_bits():
    refuses("g (uint64[N, 3] x) => (uint64[N, 3] y) { y = Max (x, x) }", "uint32 where the graph has uint64")


@pytest.mark.parametrize("kind", ["int64", "uint8", "int32"])
@pytest.mark.parametrize("op", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
def test_bits_of_a_number(op, kind):
    check(f"g ({kind}[N, 4] x) => ({kind}[N, 4] y) <{kind} c = {{5}}> {{ y = {op} (c, x) }}")


@pytest.mark.parametrize("call", ["Xor (x, c)", "Or (c, x)"])
def test_a_constant_without_elements(call):
    check(f"g (bool[1, 1, 0, 6] x) => (bool[1, 4, 0, 6] y) <bool[1, 4, 0, 6] c> {{ y = {call} }}")


def test_a_matrix_without_elements():
    check("g (float[N, 1, 3, 0] x) => (float[N, 1, 3, 2] y) <float[1, 1, 0, 2] w> { y = MatMul (x, w) }")


@pytest.mark.parametrize("kind", ["int32", "uint8"])
def test_shrunk_integers(kind):
    head = '<ir_version: 8, opset_import: ["": 17]>'
    check(f"{head} g ({kind}[N, 9] x) => ({kind}[N, 9] y) {{ y = Shrink <bias = 0.7, lambd = 1.3> (x) }}")


ROWS = [(kind, "Reciprocal (x)") for kind in ("float", "double", "float16")]


@pytest.mark.parametrize(("kind", "call"), [*ROWS, ("float", "LeakyRelu <alpha = -0.25> (x)")])
def test_keeps_its_type(kind, call):
    tolerance = 1e-3 if kind == "float16" else 1e-5
    check(
        f"g ({kind}[N, 4] x) => ({kind}[N, 4] y) {{ y = {call} }}", tolerance=tolerance, ranges={"x": (1, 9)}
    )


def test_numbers_in_between_that_numpy_lacks():
    text = "g (float[N, 3] x) => (float[N, 3] y) { b = Cast <to = 16> (x) y = Cast <to = 1> (b) }"
    assert convert(parse(text, {})).report.verified


@pytest.mark.parametrize("op", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
def test_bits_of_the_wider_one_are_read_by_others(op):
    body = f"b = {op} (a, x) y = ReduceMin <keepdims = 0> (b, k)"
    check(f"g (int64[1] a, int64[N, 6, 1] x) => (int64[N] y) <int64[2] k = {{1, 2}}> {{ {body} }}")
