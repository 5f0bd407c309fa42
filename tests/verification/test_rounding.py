"""A network that amplifies rounding is judged by the rounding of its source, and its formulas by float64."""

import keras
import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

import bridge
from bridge.frontend.onnx.double import in_double
from bridge.verification.checks import LIMIT, ORT_KERAS, TORCH_KERAS
from bridge.verification.metrics import cast, worst_error
from bridge.verification.reference.as_given import as_given, in_float64

torch.set_num_threads(1)


class Amplifies(nn.Module):
    """A sine of large numbers, which gives all of their rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(5, 64)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(3e4 * torch.sigmoid(self.lin(x)))


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return Amplifies().eval()


def test_it_is_proved_in_float64(module, tmp_path):
    result = bridge.convert(module, torch.randn(3, 5))
    report = result.report
    assert report.verified
    assert report.amplifies
    assert max(c.error for c in report.checks if c.dtype == "float32") > LIMIT
    assert {c.leg for c in report.checks if c.dtype == "float64"} == {TORCH_KERAS}
    assert report.verdict.startswith("proved equal in float64")
    result.save(tmp_path / "m.keras")
    again = bridge.verify(tmp_path / "m.keras", module, torch.randn(3, 5))
    assert again.verdict.startswith("equal within its source's own rounding")


def test_a_wrong_formula_within_that_rounding_is_caught(module, build_with):
    build_with("Sin", lambda x: keras.ops.sin(x) * (1 + 1e-6))
    with pytest.raises(bridge.MismatchError, match="torch ↔ Keras differ by 1e-06 .limit 1e-10") as caught:
        bridge.convert(module, torch.randn(3, 5))
    assert all(check.passed for check in caught.value.report.checks if check.dtype == "float32")


class InSingle(Amplifies):
    """It names a precision, so that it runs in no other."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(3e4 * torch.sigmoid(self.lin(x.float())))


class Insists(Amplifies):
    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise TypeError("in single precision alone")
        return self.lin(x)


class Closed(Amplifies):
    """A gate that is shut for all inputs: onnxruntime has no digits of what it lets through."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.lin(x) - 40)


HIDDEN = {
    InSingle: "Sin",
    Closed: "Sigmoid",
}  # modules of which float32 shows nothing, and an operator of theirs


@pytest.mark.parametrize("made", HIDDEN)
def test_float64_shows_what_the_source_hides(made):
    report = bridge.convert(made().eval(), torch.randn(3, 5)).report
    assert report.verdict.startswith("proved equal in float64")
    assert any("as if it named no other" in note for note in report.notes) == (made is InSingle)


@pytest.mark.parametrize(("made", "operator"), HIDDEN.items())
def test_a_wrong_formula_is_no_more_hidden(made, operator, build_with):
    function = {"Sin": keras.ops.sin, "Sigmoid": keras.ops.sigmoid}[operator]
    build_with(operator, lambda x: function(x) * (1 + 1e-6))
    with pytest.raises(bridge.MismatchError, match="Keras differ by 1e-06 .limit 1e-10"):
        bridge.convert(made().eval(), torch.randn(3, 5))


def test_training_has_to_run_in_float64():
    with pytest.raises(bridge.BridgeError, match="in single precision alone"):
        bridge.convert(Insists().eval(), torch.randn(3, 5), verify=bridge.Verify(training=True))


def test_what_is_off_by_more_is_caught_in_float32(module, build_with):
    build_with("Sin", keras.ops.cos)
    with pytest.raises(bridge.MismatchError, match="onnxruntime ↔ Keras differ by .* first at Sin"):
        bridge.convert(module, torch.randn(3, 5))


class TinySelu(nn.Module):
    """Selu of numbers of which ONNX's formula, by exp(x) - 1, loses the digits that torch's keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(5, 8)
        torch.nn.init.uniform_(self.lin.weight, -1e-6, 1e-6)
        torch.nn.init.zeros_(self.lin.bias)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.selu(self.lin(x))


def test_digits_that_the_exported_formula_loses_are_no_false_alarm():
    torch.manual_seed(0)
    report = bridge.convert(TinySelu().eval(), torch.randn(3, 5)).report
    assert max(c.error for c in report.checks if c.dtype == "float32") > LIMIT
    assert report.verdict.startswith("proved equal in float64")


# --- files, which have no torch to ask ---------------------------------------------------------------------------

AMPLIFIES = """<ir_version: 8, opset_import: ["": 17]> g (float[n,5] x) => (float[n,5] y) <float k = {30000}>
    { s = Sigmoid (x)  z = Mul (s, k)  y = Sin (z) }"""
SPECTRUM = """<ir_version: 8, opset_import: ["": 17]> g (float[n,t,1] x) => (float[n,f,201,2] y)
    <int64 s = {160}, int64 l = {400}> { y = STFT (x, s, "", l) }"""  # of which onnxruntime loses four digits


@pytest.mark.parametrize("text", [AMPLIFIES, SPECTRUM])
def test_a_file_is_proved_in_float64(text):
    report = bridge.convert(
        onnx.parser.parse_model(text),
        verify=bridge.Verify(sizes={"t": (480, 1000)} if "t," in text else None),
    ).report
    assert max(c.error for c in report.checks if c.dtype == "float32") > LIMIT
    assert {c.leg for c in report.checks if c.dtype == "float64"} == {ORT_KERAS}
    assert report.verdict.startswith("proved equal in float64")


UNBOUNDED = """<ir_version: 8, opset_import: ["": 17]> g (float[n,5] x) => (float[n,5] y) <float k = {3e7}>
    { s = Sigmoid (x)  z = Mul (s, k)  y = Sin (z) }"""  # whose float64 too is off by more than 1e-10


WRITTEN = {  # numbers of 32 bits that the layers take for what was meant
    "a sixth": "s = HardSigmoid <alpha = 0.16666667> (x)",
    "gelu": "r = Constant <value = float {1.4142135}> ()  o = Constant <value = float {1}> ()"
    "  h = Constant <value = float {0.5}> ()  d = Div (x, r)  e = Erf (d)  p = Add (e, o)  m = Mul (x, p)  s = Mul (m, h)",
    "selu": "s = Selu (x)",
    "a sixth within HardSwish": "s = HardSwish (x)",
    "a slope": "s = LeakyRelu <alpha = 0.1> (x)",
}


@pytest.mark.parametrize("body", WRITTEN.values(), ids=WRITTEN)
def test_numbers_are_in_float64_what_was_written(body):
    text = AMPLIFIES.replace("s = Sigmoid (x)", body)
    report = bridge.convert(onnx.parser.parse_model(text), verify=bridge.Verify(float64=True)).report
    assert max(check.error for check in report.checks if check.dtype == "float64") < 1e-10


def test_what_rounds_beyond_all_digits_is_allowed_that_in_float64():
    report = bridge.convert(onnx.parser.parse_model(UNBOUNDED)).report
    assert max(c.limit for c in report.checks if c.dtype == "float64") > 1e-10
    assert report.verdict.startswith("proved equal in float64")


def test_a_wrong_formula_of_a_file_is_caught(build_with):
    build_with("Sin", lambda x: keras.ops.sin(x) * (1 + 1e-6))
    with pytest.raises(bridge.MismatchError, match="onnxruntime ↔ Keras differ by 1e-06 .limit 1e-10"):
        bridge.convert(onnx.parser.parse_model(AMPLIFIES))


def test_a_file_can_be_asked_to_be_proved_in_float64_but_not_in_training():
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        g (float[n,5] x) => (float[n,5] y) { y = Tanh (x) }""")
    report = bridge.convert(model, verify=bridge.Verify(float64=True)).report
    assert {c.limit for c in report.checks if c.dtype == "float64"} == {1e-10}
    with pytest.raises(bridge.SourceError, match="training needs the nn.Module itself"):
        bridge.convert(model, verify=bridge.Verify(training=True))


IN_32_BITS = {
    "statistics": "g (double[n,4,5] x) => (double[n,4,5] y) <double[4] s = {1, 2, 3, 4}, double[4] b = {0, 1, -1, 0}>"
    "{ y = GroupNormalization <epsilon = 0.1, num_groups = 2> (x, s, b) }",
    "what is added": "g (float[n,2] x) => (float[n,3] y) <float[2,3] w = {1,2,3,4,5,6}, float[3] c = {1,2,3}> { y = Gemm <alpha = 0.3, beta = 0.55> (x, w, c) }",
    "what is added in a step": "g (double[n,2] x, double[n,2] z, double[n,2] h) => (double[n,2] y) "
    "<double[2,2] w = {0.1, 0.2, 0.3, 0.4}, double[2,2] r = {0.5, -0.6, 0.7, 0.8}, double[2] b = {0.9, 1}> "
    "{ p = Gemm <beta = 0.55> (x, w, b)  q = MatMul (h, r)  s = Add (p, q)  k = Tanh (s) "
    "u = Gemm <beta = 0.55> (z, w, b)  v = MatMul (k, r)  t = Add (u, v)  y = Tanh (t) }",
    "a rotation": "g (float[n,2,3,4] x, float[5,2] c, float[5,2] s, int64[n,3] p) => (float[n,2,3,4] y)"
    "{ y = RotaryEmbedding (x, c, s, p) }",
    "what is shrunk": "g (double[n,4] x) => (double[n,4] y) { y = Shrink <bias = 0.25> (x) }",
    "a factor": 'g (double[2,n] x) => (double[2,m] y) <float[2] s = {1, 2.6}> { y = Resize <mode = "cubic"> (x, "", s) }',
    "a scale": "g (double[n,2,4,3] x) => (double[n,2,4,3] y) { y = Attention <softcap = 2.0> (x, x, x) }",
}


@pytest.mark.parametrize("name", IN_32_BITS)
def test_what_onnxruntime_takes_in_32_bits_is_in_float64_what_was_meant(name):
    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 23]>' + IN_32_BITS[name])
    assert bridge.convert(model, verify=bridge.Verify(float64=True)).report.verified


def numbers(count):
    return ", ".join(f"{number:.2f}" for number in np.random.default_rng(count).normal(size=count))


DOUBLED = {
    "a type that is named": "y = Cast <to = 1> (x)",
    "a half in between": "h = Cast <to = 10> (x)  y = Cast <to = 1> (h)",
    "scales of 32 bits": '<float[4] s = {1, 1, 2, 1.5}> { y = Resize <mode = "linear"> (x, "", s) }',
    "names that are taken": "<float[4] s = {1, 1, 2, 1.5}, float s_float = {0.3}> "
    '{ r = Resize <mode = "linear"> (x, "", s)  y = Mul (r, s_float) }',
    "constants": "a = Constant <value_float = 0.1> ()  b = Constant <value = float {0.3}> ()"
    "  c = Mul (x, a)  y = Add (c, b)",
    "a type that is not named": "s = Shape (x)  z = ConstantOfShape (s)  y = Sub (x, z)",
    "a branch": "c = Constant <value = bool {1}> ()  y = If (c) <then_branch = t () => (float[2,3,4,4] p) "
    "<float k = {0.1}> { p = Mul (x, k) }, else_branch = e () => (float[2,3,4,4] q) { q = Identity (x) }>",
    "quantised": "<float s = {0.05}, uint8 z = {128}> { q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, s, z) }",
    "a function": "y = f.Tenth (x)",
    "neighbours": "y = LRN <alpha = 0.9, size = 2> (x)",
    "more neighbours": "y = LRN <alpha = 0.9, bias = 0.5, size = 3> (x)",
    "sums of powers": "y = GlobalLpPool <p = 3> (x)",
    "sums of powers in windows": "y = LpPool <kernel_shape = [2,3], p = 3, pads = [0,1,1,1], strides = [1,2]> (x)",
    "means in windows": "y = AveragePool <kernel_shape = [3,2], pads = [1,0,1,1], strides = [2,2], ceil_mode = 1> (x)",
    "means in windows, padding counted": "y = AveragePool <kernel_shape = [3,2], pads = [1,0,1,1], strides = [2,3], "
    "ceil_mode = 1, count_include_pad = 1> (x)",
    "a transposed convolution of groups": "<float[3,2,2,3] w = {"
    + numbers(36)
    + "}, float[6] b = {1,2,3,4,5,6}> "
    "{ y = ConvTranspose <group = 3, strides = [2,3], dilations = [2,1], pads = [1,0,0,2], output_padding = [1,1]> (x, w, b) }",
    "of a size that is asked for": "<float[3,2,3,3] w = {" + numbers(54) + "}> "
    "{ y = ConvTranspose <strides = [2,2], output_shape = [8,7]> (x, w) }",
    "as long as its strides": "<float[3,2,3,3] w = {" + numbers(54) + "}> "
    '{ y = ConvTranspose <strides = [2,1], auto_pad = "SAME_UPPER"> (x, w) }',
    "erf": "y = Erf (x)",
    "celu": "y = Celu <alpha = 0.7> (x)",
    "hard swish": "y = HardSwish (x)",
    "a layer norm": "<float[4] s = {1, 2, 3, 4}> { y = LayerNormalization (x, s) }",
}
OLD = ["Hardmax", "LogSoftmax", "Softmax"]


@pytest.mark.parametrize("op", OLD)
@pytest.mark.parametrize("axis", ["", "<axis = 0>", "<axis = 2>", "<axis = -1>"])
def test_an_old_graph_in_float64_is_the_same_graph(op, axis):
    """Along all the axes from `axis` on, which the evaluator does not know."""
    _same_in_float64(f"y = {op} {axis} (x)")


def test_old_statistics_in_float64_are_what_was_learned():
    """The evaluator goes on learning."""
    _same_in_float64("<float[3] a = {1, 2, 3}> { y = BatchNormalization <momentum = 0.7> (x, a, a, a, a) }")


def test_a_size_of_any_name_in_float64():
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        g (float[n,3] x) => (float[n,3] y) { y = Celu (x) }""")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch size"
    (double,) = in_float64(in_double(ir.from_proto(model)))([np.full((1, 3), -1.0)])
    assert worst_error([double], [np.full((1, 3), np.expm1(-1.0))]) < 1e-15


def test_what_a_loop_gives_in_float64_is_stacked():
    """The evaluator joins it."""
    _same_in_float64(
        "<int64 n = {2}, bool t = {1}, int64 i = {0}> { s = Gather <axis = 0> (x, i)  e, y = Loop (n, t, s) <body = b "
        "(int64 c, bool o, float[3,4] a) => (bool p, float[3,4] d, float[3,4] w) "
        "{ d = Tanh (a)  w = Sin (d)  p = Identity (o) }> }"
    )


def test_an_output_without_a_name_is_no_input_that_is_left_out():
    """Which the evaluator takes for it."""
    _same_in_float64(
        f"<float[1,16,4] w = {{{numbers(64)}}}> {{ "
        '"", h = LSTM <hidden_size = 4> (x, w, w)  s = LSTM <hidden_size = 4> (x, w, w, "", "", h) '
        "y = Squeeze <axes = [1]> (s) }"
    )


def _same_in_float64(body):
    head = '<ir_version: 6, opset_import: ["": 11]> g (float[2,3,4] x) => (float[2,3,4] y)'
    model = onnx.parser.parse_model(f"{head} {body}" if body.startswith("<") else f"{head} {{ {body} }}")
    inputs = [np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")]
    double = in_float64(in_double(ir.from_proto(model)))(cast(inputs, "float64"))
    assert worst_error(as_given(model)[0](inputs), double) < 1e-6


TENTH = """<domain: "f", opset_import: ["": 17]> Tenth (x) => (y)
    { k = Constant <value_float = 0.1> ()  a = Mul (x, k)  y = Cast <to = 1> (a) }"""


@pytest.mark.parametrize("name", DOUBLED)
def test_a_graph_in_float64_is_the_same_graph(name):
    body = DOUBLED[name] if DOUBLED[name].startswith("<") else f"{{ {DOUBLED[name]} }}"
    head = '<ir_version: 8, opset_import: ["": 17, "f": 1]> g (float[2,3,4,4] x) => (float[a,b,c,d] y)'
    model = onnx.parser.parse_model(f"{head} {body} {TENTH if name == 'a function' else ''}")
    inputs = [np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype("float32")]
    double = as_given(in_double(ir.from_proto(model)))[0](cast(inputs, "float64"))
    assert double[0].dtype == np.float64
    assert worst_error(as_given(model)[0](inputs), double) < (1e-3 if "half" in name else 1e-6)


def test_a_reference_in_float64_that_leaves_out_lengths_allows_nothing(monkeypatch):
    """ONNX's evaluator, which alone has the operator in float64, reads on behind the end of a sequence."""
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[3,3,3] x, int32[3] n) => (float[t,d,b,h] y)
    <float[1,3,3] w = {-0.9, 0.3, 0.6, 1.0, -0.2, 0.4, 0.8, -1.3, 0.8}, float[1,3,1] r = {-0.5, -0.3, -1.1}>
    { y, h = GRU <hidden_size = 1, linear_before_reset = 1> (x, w, r, "", n) }"""
    assert bridge.convert(onnx.parser.parse_model(text)).report.verified
    monkeypatch.setattr(
        "bridge.ops.recurrent._inside", lambda x, lens: keras.ops.ones_like(x[:, :, 0], dtype=bool)
    )
    with pytest.raises(bridge.MismatchError, match="first at GRU"):
        bridge.convert(onnx.parser.parse_model(text))


def test_a_single_number_in_float64():
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 13]>
        g (double x) => (double y) { y = Exp (x) }""")
    assert bridge.convert(model).report.proved
