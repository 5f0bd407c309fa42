"""A Scan or Loop over cells is a layer over the sequence; one that does more is not, and is equal too."""

import pytest
from checking import check, parse

from bridge.frontend.onnx.load import load
from bridge.graph.rewriting import all_nodes
from bridge.passes import simplify
from bridge.passes.unroll_loops import MOST_NODES

WEIGHTS = "float[3, 16] w, float[4, 16] r, float[16] b"
STEP = (
    "xw = MatMul (xt, w) hr = MatMul (h, r) s = Add (xw, hr) z = Add (s, b) "
    "iz, fz, gz, oz = Split <axis = 1, num_outputs = 4> (z) i = Sigmoid (iz) f = Sigmoid (fz) g = Tanh (gz) "
    "o = Sigmoid (oz) new = Mul (i, g) kept = Mul (f, c) d = Add (kept, new) t = Tanh (d) k = Mul (o, t) "
)
RNN = "xw = MatMul (xt, w) hr = MatMul (h, r) s = Add (xw, hr) z = Add (s, b) k = Tanh (z) "
RNN_WEIGHTS = "float[3, 4] w, float[4, 4] r, float[4] b"
STATES = "float[N, 4] h0, float[N, 4] c0"


def scan(
    step: str,
    weights: str,
    gives: str = "k, d, y",
    attributes: str = "",
    x: str = "float[T, N, 3] x",
    y: str = "k",
) -> str:
    return (
        f"g ({x}, {STATES}) => (float[N, 4] k, float[N, 4] d, float[A, B, 4] y) <{weights}> {{ {gives} = Scan "
        f"<num_scan_inputs = 1, {attributes} body = step (float[N, 4] h, float[N, 4] c, float[N, 3] xt) => "
        f"(float[N, 4] k, float[N, 4] d, float[N, 4] y) {{ {step} y = Identity ({y}) }}> (h0, c0, x) }}"
    )


def loop(
    step: str, weights: str, limit: str, goes_on: str = "go = Identity (on)", start: str = "1", axis: int = 0
) -> str:
    x = "float[T, N, 3] x" if axis == 0 else "float[N, T, 3] x"
    return (
        f"g ({x}, {STATES}) => (float[N, 4] k, float[T, N, 4] y) <{weights}> {{ one = Constant <value_int = 1> () "
        f"start = Constant <value = bool {{{start}}}> () shape = Shape (x) at = Constant <value_int = {axis}> () "
        f"time = Gather (shape, at) {limit} "
        f"k, d, y = Loop <body = step (int64 count, bool on, float[N, 4] h, float[N, 4] c) => "
        f"(bool go, float[N, 4] k, float[N, 4] d, float[N, 4] y) {{ xt = Gather <axis = {axis}> (x, count) {step} "
        f"y = Identity (k) {goes_on} }}> (limit, start, h0, c0) }}"
    )


TIME = "limit = Identity (time)"
ENDLESS = "limit = Constant <value_int = 9223372036854775807> ()"
COUNTED = "next = Add (count, one) go = Less (next, time)"
LAYERS = {
    "a Scan": (scan(STEP, WEIGHTS), ["LSTM"]),
    "batch first": (
        scan(STEP, WEIGHTS, attributes="scan_input_axes = [1], scan_output_axes = [1],", x="float[N, T, 3] x"), ["LSTM"],
    ),
    "backwards": (
        scan(STEP, WEIGHTS, attributes="scan_input_directions = [1], scan_output_directions = [1],"), ["LSTM"],
    ),
    "backwards in, forwards out": (scan(STEP, WEIGHTS, attributes="scan_input_directions = [1],"), ["LSTM"]),
    "a Loop": (loop(STEP, WEIGHTS, TIME), ["LSTM"]),
    "a Loop as long as its count is less": (loop(STEP, WEIGHTS, ENDLESS, COUNTED, axis=1), ["LSTM"]),
    "an RNN, and a product behind it": (
        "g (float[T, N, 3] x, float[N, 4] h0) => (float[N, 4] k, float[T, N, 2] y) "
        "<float[3, 4] w, float[4, 4] r, float[4] b, float[4, 2] v, float[2] e> { k, y = Scan <num_scan_inputs = 1, "
        f"body = step (float[N, 4] h, float[N, 3] xt) => (float[N, 4] k, float[N, 2] y) {{ {RNN} "
        "p = MatMul (k, v) q = Add (p, e) y = Relu (q) }> (h0, x) }",
        ["SimpleRNN", "Dense", "ReLU"],
    ),
    "two layers": (
        "g (float[T, N, 4] x, float[N, 4] h0, float[N, 4] g0) => (float[N, 4] k, float[N, 4] m, float[T, N, 4] y) "
        "<float[4, 4] w, float[4, 4] r, float[4] b> { k, m, y = Scan <num_scan_inputs = 1, "
        "body = step (float[N, 4] h, float[N, 4] g, float[N, 4] xt) => (float[N, 4] k, float[N, 4] m, float[N, 4] y) "
        f"{{ {RNN} kw = MatMul (k, w) gr = MatMul (g, r) ks = Add (kw, gr) m = Tanh (ks) y = Identity (m) }}> "
        "(h0, g0, x) }",
        ["SimpleRNN", "SimpleRNN"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", LAYERS.values(), ids=LAYERS)
def test_a_loop_over_cells_is_a_layer(row):
    source, layers = row
    check(source, layers=layers, transposes=None)


MORE = {
    "what is carried is another value": scan(STEP, WEIGHTS, y="d").replace("=> (float[N, 4] k, float[N, 4] d,", "=> (float[N, 4] d, float[N, 4] k,", 1),
    "a sum over the steps": scan(STEP + "u = Add (c, c) ", WEIGHTS, y="u"),
    "fewer runs than steps": loop(STEP, WEIGHTS, "two = Constant <value_int = 2> () limit = Sub (time, one)"),
    "until the data say": loop(STEP, WEIGHTS, TIME, "sum = ReduceSum <keepdims = 0> (k) big = Constant <value_float = 3.0> () go = Less (sum, big)").replace("float[T, N, 4] y)", "float[S, N, 4] y)"),
}  # fmt: skip


@pytest.mark.parametrize("source", MORE.values(), ids=MORE)
def test_a_loop_that_does_more_is_none(source):
    built = check(source, custom=True, transposes=None)
    assert {row.layer for row in built.made} & {"Scan", "Loop"}


def test_loops_inside_loops_are_written_out_as_far_as_there_is_room():
    """Sixteen times sixteen times sixteen bodies are not."""
    inner = "a = Neg (x)"
    for depth in range(5):
        inner = (
            f"a = Loop <body = b (int64 i{depth}, bool c{depth}, float[N] x{depth}) => (bool d{depth}, float[N] r{depth}) "
            f"{{ {inner} d{depth} = Identity (c{depth}) r{depth} = Identity (a) }}> (m, c, x)"
        )
    simple = simplify(load(parse(
        "g (float[N] x) => (float[N] a) { m = Constant <value_int = 16> () c = Constant <value = bool {1}> () "
        f"{inner} }}", {},
    )))  # fmt: skip
    assert len(all_nodes(simple)) <= MOST_NODES + 5
