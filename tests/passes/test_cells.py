"""Recurrent steps written out in products, activations and sums become cells; near misses do not, and are equal too."""

import pytest
from checking import check, parse

import bridge

CELLS = ("LSTMCell", "GRUCell", "SimpleRNNCell", "Cell")


def graph(body: str, weights: str, states: str = "h", gives: str = "k") -> str:
    given = ", ".join(f"float[N, 4] {name}" for name in states.split())
    made = ", ".join(f"float[N, 4] {name}" for name in gives.split())
    return f"g (float[N, 3] x, {given}) => ({made}) <{weights}> {{ {body} }}"


def lstm(
    sums: str,
    split: str = "i, f, g, o",
    weights: str = "float[3, 16] w, float[4, 16] r, float[16] b",
    **other: str,
) -> str:
    """One step, its gates the parts of a sum z."""
    parts = {
        "i": "Sigmoid (i)", "f": "Sigmoid (f)", "g": "Tanh (g)", "o": "Sigmoid (o)", "new": "Mul (si, sg)",
        "kept": "Mul (sf, c)", "d": "Add (kept, new)", "t": "Tanh (d)", "k": "Mul (so, t)",
    } | other  # fmt: skip
    named = "".join(
        f"{name if len(name) > 1 or name in 'dtk' else 's' + name} = {op} " for name, op in parts.items()
    )
    return graph(f"{sums} {split} = Split <axis = 1, num_outputs = 4> (z) {named}", weights, "h c", "k d")


PLAIN = "xw = MatMul (x, w) hr = MatMul (h, r) s = Add (xw, hr) z = Add (s, b)"
JOINED = "xh = Concat <axis = 1> (x, h) xw = MatMul (xh, w) z = Add (xw, b)"
TWO = "float[3, 16] w, float[4, 16] r, float[16] b, float[16] e"
GEMMS = "p = Gemm (x, w, b) q = Gemm (h, r, e) z = Add (q, p)"
LSTMS = {
    "as torch writes it": lstm(PLAIN),
    "in TensorFlow's order, of one matrix": lstm(JOINED, "i, g, f, o", "float[7, 16] w, float[16] b"),
    "without a bias": lstm("xw = MatMul (x, w) hr = MatMul (h, r) z = Add (hr, xw)"),
    "two biases, the other way round": lstm(GEMMS, weights=TWO, k="Mul (t, so)", d="Add (new, kept)", kept="Mul (c, sf)"),
    "with TensorFlow's bias of the forget gate": lstm(JOINED, "i, g, f, o", "float[7, 16] w, float[16] b").replace(
        "sf = Sigmoid (f)", "one = Constant <value_float = 1.0> () ff = Add (f, one) sf = Sigmoid (ff)"
    ),
    "a matrix for each gate": graph(
        "".join(
            f"{g}x = MatMul (x, w{g}) {g}h = MatMul (h, r{g}) {g}s = Add ({g}x, b{g}) {g}z = Add ({g}s, {g}h) "
            f"{g} = {'Tanh' if g == 'g' else 'Sigmoid'} ({g}z) " for g in "ofig"
        ) + "new = Mul (g, i) kept = Mul (f, c) d = Add (kept, new) t = Tanh (d) k = Mul (o, t)",
        ", ".join(f"float[3, 4] w{g}, float[4, 4] r{g}, float[4] b{g}" for g in "ifgo"), "h c", "k d",
    ),
    "in slices": graph(
        PLAIN + "".join(
            f" s{k} = Constant <value_ints = [{4 * k}]> () e{k} = Constant <value_ints = [{4 * k + 4}]> () "
            f"z{k} = Slice (z, s{k}, e{k}, one)" for k in range(4)
        ).replace("s0 =", "one = Constant <value_ints = [1]> () s0 =", 1)
        + " i = Sigmoid (z0) f = Sigmoid (z1) g = Tanh (z2) o = Sigmoid (z3) "
        "new = Mul (i, g) kept = Mul (f, c) d = Add (kept, new) t = Tanh (d) k = Mul (o, t)",
        "float[3, 16] w, float[4, 16] r, float[16] b", "h c", "k d",
    ),
    "hard sigmoids of torch": lstm(
        PLAIN, **{g: f"HardSigmoid <alpha = 0.16666667, beta = 0.5> ({g})" for g in "ifo"}
    ),
}  # fmt: skip


def test_a_step_is_proved_at_numbers_without_end_too():
    """In its own LSTM onnxruntime has other answers to them."""
    report = bridge.convert(parse(LSTMS["as torch writes it"], {})).report
    assert report.verified


@pytest.mark.parametrize("source", LSTMS.values(), ids=LSTMS)
def test_an_lstm_step(source):
    check(source, layers=["LSTMCell"])


def gru(sums: str, weights: str = "float[3, 12] w, float[4, 12] r, float[12] b", **other: str) -> str:
    """One step, of the parts of two sums p and q."""
    parts = {
        "n": "Tanh (ns)", "rest": "Sub (one, z)", "fresh": "Mul (rest, n)", "kept": "Mul (z, h)",
        "k": "Add (fresh, kept)",
    } | other  # fmt: skip
    named = "".join(f"{name} = {op} " for name, op in parts.items())
    return graph(f"one = Constant <value_float = 1.0> () {sums} {named}", weights)


GATES = "zs = Add (pz, qz) z = Sigmoid (zs) rs = Add (pr, qr) m = Sigmoid (rs) "
SPLIT = (
    "pz, pr, pn = Split <axis = 1, num_outputs = 3> (p) qz, qr, qn = Split <axis = 1, num_outputs = 3> (q) "
    + GATES
)
BOTH = "p = Gemm (x, w, b) q = Gemm (h, r, e) " + SPLIT + "mq = Mul (m, qn) ns = Add (pn, mq)"
BIASES = "float[3, 12] w, float[4, 12] r, float[12] b, float[12] e"
ONE = "p = Gemm (x, w, b) q = MatMul (h, r) " + SPLIT + "mq = Mul (qn, m) ns = Add (mq, pn)"
BEFORE = (
    "p = Gemm (x, w, b) pz, pr, pn = Split <axis = 1, num_outputs = 3> (p) q = MatMul (h, r) "
    "qz, qr = Split <axis = 1, num_outputs = 2> (q) "
    + GATES
    + "mh = Mul (m, h) qn = MatMul (mh, v) ns = Add (pn, qn)"
)
NARROW = "float[3, 12] w, float[4, 8] r, float[4, 4] v, float[12] b"
GRUS = {
    "reset behind the product": gru(BOTH, BIASES),
    "reset behind the product, one bias": gru(ONE),
    "reset before the product": gru(BEFORE, NARROW),
    "as torch mixes": gru(BOTH, BIASES, rest="Sub (h, n)", fresh="Mul (z, rest)", kept="Identity (n)"),
    "the other way round": gru(BOTH, BIASES, rest="Sub (n, h)", fresh="Mul (z, rest)", kept="Identity (h)"),
    "the update of what is new": gru(BEFORE, NARROW, fresh="Mul (h, rest)", kept="Mul (n, z)"),
    "a difference": gru(BOTH, BIASES, rest="Sub (n, h)", fresh="Mul (z, rest)", kept="Identity (n)", k="Sub (kept, fresh)"),
}  # fmt: skip


@pytest.mark.parametrize("source", GRUS.values(), ids=GRUS)
def test_a_gru_step(source):
    check(source, layers=["GRUCell"])


REPEATED = graph(
    "xw = MatMul (x, w) hr = MatMul (h, r) s = Add (xw, hr) z = Add (s, b) a = Relu (z) "
    "ar = MatMul (a, r) t = Add (xw, ar) u = Add (t, b) k = Relu (u)",
    "float[3, 4] w, float[4, 4] r, float[4] b",
)


def test_an_rnn_step_is_one_that_is_repeated():
    check(REPEATED, layers=["SimpleRNNCell", "SimpleRNNCell"])


MISSES = {
    "a sign": lstm(PLAIN, d="Sub (kept, new)"),
    "another activation of one gate": lstm(PLAIN, f="HardSigmoid (f)"),
    "an activation that no cell has": lstm(PLAIN, g="Erf (g)"),
    "a gate that is not of the state": lstm(PLAIN + " u = MatMul (x, v)", "i, f, g, oo", o="Sigmoid (u)",
                                            weights="float[3, 16] w, float[4, 16] r, float[16] b, float[3, 4] v"),
    "a state for a gate": lstm(PLAIN, kept="Mul (c, c)"),
    "the cell state as it was": lstm(PLAIN, t="Tanh (c)"),
    "a peephole": lstm(PLAIN, o="Sigmoid (op)", new="Mul (si, sg)").replace("so =", "cp = Mul (c, v) op = Add (o, cp) so =").replace(
        "float[16] b>", "float[16] b, float[4] v>"),
    "a cell state of one number": lstm(PLAIN).replace("float[N, 4] c)", "float[N, 1] c)"),
    "an update that is added": gru(BOTH, BIASES, rest="Add (one, z)"),
    "another update": gru(BOTH, BIASES, kept="Mul (m, h)"),
    "a number that is not one": gru(BOTH, BIASES).replace("value_float = 1.0", "value_float = 0.9"),
    "a reset of the input": gru(BOTH.replace("mq = Mul (m, qn) ns = Add (pn, mq)", "mq = Mul (m, pn) ns = Add (qn, mq)"), BIASES),
    "a reset by another activation": gru(BOTH.replace("m = Sigmoid", "m = HardSigmoid"), BIASES),
    "the hard update of what is new": gru(
        BEFORE.replace("Sigmoid", "HardSigmoid"), NARROW, fresh="Mul (h, rest)", kept="Mul (n, z)"
    ),
    "a dense layer of two inputs": REPEATED.replace("k = Relu (u)", "k = Tanh (u)"),
    "other weights the second time": REPEATED.replace("MatMul (a, r)", "MatMul (a, v)").replace("float[4] b>", "float[4] b, float[4, 4] v>"),
}  # fmt: skip


@pytest.mark.parametrize("source", MISSES.values(), ids=MISSES)
def test_what_is_no_step(source):
    built = check(source)
    assert not [row.layer for row in built.made if row.layer in CELLS]
