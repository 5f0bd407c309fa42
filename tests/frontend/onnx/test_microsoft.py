"""Operators of onnxruntime's own domain, against its own kernels."""

import inspect

import onnx
import onnxruntime.capi.onnxruntime_pybind11_state as onnxruntime
import pytest
from checking import check, parse, refuses

import bridge
from bridge.frontend.onnx.expressions import LOWERINGS, MICROSOFT
from bridge.graph.decimals import number
from bridge.verification.checks import SIMPLIFIED

HEADER = '<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1]>\n'
ROWS = {
    "activations": """g (float[N, 8] x) => (float[N, 8] a, float[N, 8] b, float[N, 8] c, float[N, 8] d) <float[8] v>
        { a = com.microsoft.Gelu (x)  b = com.microsoft.BiasGelu (x, v)  c = com.microsoft.FastGelu (x, v)
          d = com.microsoft.QuickGelu (x) }""",
    "products": """g (float[N, 4, 8] x, float[N, 4, 8] z, float[N, 8] v)
        => (float[N, 4, 4] a, float[N, 8, 8] b, float[N, 4] c, float[4, N, 8] d) <float[8, 4] w, float[4] u, float[4, 8, 8] k>
        { a = com.microsoft.FusedMatMul <transB = 1, alpha = 0.25> (x, z)  b = com.microsoft.FusedMatMul <transA = 1> (x, z)
          c = com.microsoft.FusedGemm <activation = "LeakyRelu", activation_alpha = 0.2> (v, w, u)
          d = com.microsoft.FusedMatMul <transBatchA = 1> (x, k) }""",
    "normalisations": """g (float[N, T, 8] x, float[N, T, 8] z) => (float[N, T, 8] a, float[N, T, 8] s, float[N, T, 8] c)
        <float[8] g, float[8] b, float[8] v>
        { a, , , s = com.microsoft.SkipLayerNormalization <epsilon = 0.001> (x, z, g, b, v)
          c = com.microsoft.SkipSimplifiedLayerNormalization (x, z, g) }""",
    "attention": """g (float[N, T, 8] x, int32[N, T] m, int32[N] l) => (float[N, T, 8] a, float[N, T, 8] b, float[N, T, 8] c)
        <float[8, 24] w, float[24] v>
        { a = com.microsoft.Attention <num_heads = 2, unidirectional = 1> (x, w, v)
          b = com.microsoft.Attention <num_heads = 2> (x, w, v, m)  c = com.microsoft.Attention <num_heads = 2> (x, w, v, l) }""",
    "many heads": """g (float[N, T, 8] q, float[N, S, 8] k, float[N, S, 8] v, int32[N, S] m, float[1, 2, T, S] a)
        => (float[N, T, 8] y) <float[24] b>
        { y = com.microsoft.MultiHeadAttention <num_heads = 2, scale = 0.3> (q, k, v, b, m, a) }""",
    "positions": """g (float[N, T, 8] x, int64[N, T] p) => (float[N, T, 8] y) <float[20, 2] c, float[20, 2] s>
        { y = com.microsoft.RotaryEmbedding <interleaved = 1> (x, p, c, s) }""",
    "few bits": """g (float[N, 40] x) => (float[N, 6] y, float[N, 6] z) <uint8[6, 3, 8] w, float[18] s, uint8[12] o, float[6] b>
        { y = com.microsoft.MatMulNBits <K = 40, N = 6, bits = 4, block_size = 16> (x, w, s, o, , b)
          z = com.microsoft.MatMulNBits <K = 40, N = 6, bits = 4, block_size = 16> (x, w, s) }""",
}  # fmt: skip
RANGES = {"m": (0, 2), "l": (1, 5), "p": (0, 9), "w": (0, 256), "o": (0, 256)}


@pytest.mark.parametrize("row", ROWS)
def test_equal(row):
    ranges = RANGES if row in ("few bits", "positions") else {"m": (0, 4), "l": (1, 5)}
    sizes = [{"N": 2, "T": 3, "S": 6}, {"N": 1, "T": 2, "S": 5}]  # keys enough that some are never masked
    check(HEADER + ROWS[row], ranges=ranges, sizes=sizes, transposes={"products": 2}.get(row, 0))


def test_convolutions_and_what_follows_them():
    text = """g (float[N, 4, 8, 8] x, float[N, 6, 8, 8] z, uint8[N, 4, 6, 6] i)
        => (float[N, 6, 8, 8] a, float[N, 6, 8, 8] b, uint8[N, 3, 5, 6] c) <float[6, 4, 3, 3] w, float[6] v>
        { a = com.microsoft.FusedConv <pads = [1, 1, 1, 1], activation = "Relu"> (x, w, v, z)
          b = com.microsoft.FusedConv <pads = [1, 1, 1, 1], activation = "Clip", activation_params = [-1.0, 2.0]> (x, w, v)
          c = com.microsoft.NhwcMaxPool <kernel_shape = [2, 2]> (i) }"""
    check(HEADER + text, transposes=3, ranges={"i": (0, 256)})


def test_embeddings():
    text = """g (int32[N, T] i, int32[N, T] s, int32[N, T] m) => (float[N, T, 8] y, int32[N] k)
        <float[20, 8] w, float[9, 8] p, float[3, 8] e, float[8] g, float[8] b>
        { y, k = com.microsoft.EmbedLayerNormalization <epsilon = 0.001> (i, s, w, p, e, g, b, m) }"""
    sizes = [{"N": 2, "T": 3}, {"N": 1, "T": 5}]
    layers = ["Embedding", "Embedding", "Embedding", "Add", "LayerNormalization"]
    check(HEADER + text, sizes=sizes, ranges={"i": (0, 20), "s": (0, 3), "m": (1, 2)}, layers=layers)


def test_past():
    text = """g (float[N, T, 8] x, float[2, N, 2, P, 4] p) => (float[N, T, 8] y, float[2, N, 2, Q, 4] q)
        <float[8, 24] w, float[24] b> { y, q = com.microsoft.Attention <num_heads = 2, unidirectional = 1> (x, w, b, , p) }"""
    check(HEADER + text, sizes=[{"N": 2, "T": 3, "P": 4, "Q": 7}], transposes=3)


def test_a_mask_that_is_one_for_all_queries_is_compared_before_keras_too():
    """Which onnxruntime does not repeat in ONNX's own Attention."""
    text = """g (float[N, T, 8] x, int32[N] n) => (float[N, T, 8] y)
        { y = com.microsoft.MultiHeadAttention <num_heads = 2> (x, x, x, , n) }"""
    report = bridge.convert(parse(HEADER + text, {})).report
    assert report.proved
    assert SIMPLIFIED in {check.leg for check in report.checks}


@pytest.mark.parametrize(
    ("call", "match"),
    [
        ("Attention <num_heads = 2, do_rotary = 1> (x, w)", "do_rotary"),
        ("Attention <num_heads = 2, other = 1> (x, w)", "attribute other is not handled"),
        ("FusedMatMulActivation <activation = \"Erf\"> (x, w)", "activation 'Erf' is none of"),
        ("Gelu (x, w)", "input 1 is not handled"),
        ("DynamicQuantizeLSTM <hidden_size = 8> (x, w, w)", "dequantize=True makes it an LSTM of numbers"),
        ("Sampling (x, w)", "no builder for this operator"),
        ("MatMulNBits <K = 8, N = 0, block_size = 16> (x, w, g)", "do not hold 0 rows of 8 numbers of 4 bits"),
        ("MatMulNBits <K = 8, N = 1, block_size = 8> (x, bytes, one, few)", "do not hold 1 rows of 8 numbers of 4 bits"),
        ("MatMulNBits <K = 8, N = 3, block_size = 0> (x, w, g)", "do not hold 3 rows of 8 numbers of 4 bits"),
        ("SkipLayerNormalization (z, x, g)", "its skip has 2 rows for N of its input"),
    ],
)  # fmt: skip
def test_refused(call, match):
    text = f"""g (float[2, 3, 8] x, float[N, 3, 8] z) => (float[A, B, C] y) <float[8, 24] w, float[8] g,
        uint8[4] bytes = {{1, 2, 3, 4}}, float[1] one = {{1}}, uint8[3] few = {{1, 2, 3}}> {{ y = com.microsoft.{call} }}"""
    refuses(HEADER + text, match)


SCHEMAS = {
    (schema.domain, schema.name): schema
    for schema in onnxruntime.get_all_operator_schema()
    if schema.domain == MICROSOFT
}
OURS = {
    "LayerNormalization",
    "SimplifiedLayerNormalization",
    "TransposeMatMul",
    "DynamicQuantizeLSTM",
}  # which it has elsewhere


@pytest.mark.parametrize(
    "name", sorted(name for domain, name in LOWERINGS if domain == MICROSOFT and name not in OURS)
)
def test_signatures_are_the_schemas(name):
    """Inputs, and attributes with their defaults; one that is left out is refused by name."""
    schema = SCHEMAS[MICROSOFT, name]
    _, *parameters = inspect.signature(LOWERINGS[MICROSOFT, name]).parameters.values()
    attributes = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    inputs = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    assert len(inputs) <= len(schema.inputs)
    for name, default in attributes.items():
        formal = schema.attributes.get(name)
        if formal is None or not formal._default_value:  # an operator of two domains has more in one of them
            continue
        stated = onnx.AttributeProto.FromString(formal._default_value)
        if stated.type:
            stated = onnx.helper.get_attribute_value(stated)
            stated = stated.decode() if isinstance(stated, bytes) else stated
            assert default == (number(stated) if isinstance(stated, float) else stated), name
