"""Control flow that the data decide, against onnxruntime."""

import keras
import numpy as np
import pytest
from checking import check, outputs, parse, refuses

import bridge


def branches(
    then: str, otherwise: str, gives: str = "float[N, 4]", inputs: str = ", bool c", before: str = ""
) -> str:
    """An If on x, each branch a graph that gives a."""
    return (
        f"g (float[N, 4] x{inputs}) => ({gives} y) <float[4, 4] w, float[4, 4] v, float[4] o> {{ {before} y = If (c) "
        f"<then_branch = t () => ({gives} a) {{ {then} }}, else_branch = e () => ({gives} a) {{ {otherwise} }}> }}"
    )


TWO = "two = Constant <value_float = 2.5> ()"
ROWS = {
    "weights in both": (branches("a = MatMul (x, w)", "b = MatMul (x, v) a = Relu (b)"), ["Dense", "Dense", "ReLU", "If"]),
    "a weight that both share with what stands outside": (
        branches("a = MatMul (h, w)", "a = Neg (h)", before="h = MatMul (x, w)"), ["Dense", "Dense", "If"],
    ),
    "a condition of one element": (branches("a = Relu (x)", "a = Neg (x)", inputs=", bool[1] c"), ["ReLU", "If"]),
    "what passes make of the nodes of a branch": (
        branches("b = Gemm <transB = 1> (x, w, o) s = Sigmoid (b) a = Mul (b, s)",
                 "u = Unsqueeze (x, zero) t = Transpose <perm = [1, 0, 2]> (u) p = Transpose <perm = [1, 0, 2]> (t) "
                 "a = Squeeze (p, zero)", before="zero = Constant <value_ints = [0]> ()"),
        ["Dense", "Activation", "If"],
    ),
    "branches that compute nothing": (branches("a = Identity (h)", "a = Identity (x)", before="h = Neg (x)"), ["If"]),
    "constants themselves": (
        branches("a = Constant <value = float {2.5}> ()", "a = Constant <value = float {-1.5}> ()", "float"), ["If"],
    ),
    "one of constants": (branches(f"{TWO} a = Identity (two)", "a = Cast <to = 1> (n)", "float", ", bool c, int64 n"), ["If"]),
    "one inside another": (
        branches(
            "a = If (d) <then_branch = t () => (float[N, 4] b) { b = MatMul (h, w) }, "
            "else_branch = e () => (float[N, 4] b) { b = Abs (x) }>",
            "a = Neg (x)", inputs=", bool c, bool d", before="h = Neg (x)",
        ),
        ["Dense", "If", "If"],
    ),
    "several values": (
        "g (float[N, 4] x, bool c) => (float[N, 4] y, int64[N] z) { y, z = If (c) "
        "<then_branch = t () => (float[N, 4] a, int64[N] i) { a = Relu (x) i = ArgMax <axis = 1, keepdims = 0> (x) }, "
        "else_branch = e () => (float[N, 4] a, int64[N] i) { a = Neg (x) i = ArgMin <axis = 1, keepdims = 0> (x) }> }",
        ["ReLU", "If"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_an_if_that_the_data_decide(row, holds):
    source, layers = row
    check(source, layers=layers, custom=True, among={"c": (holds,)})


def test_what_a_branch_reads_outside_has_the_order_of_axes_that_it_has_there():
    check(
        "g (bool[1] c, float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) <float[4, 3, 1, 1] w, float[4, 4, 1, 1] v> "
        "{ h = Conv (x, w) y = If (c) <then_branch = t () => (float[N, 4, 8, 8] a) { a = Conv (h, v) }, "
        "else_branch = e () => (float[N, 4, 8, 8] b) { b = Neg (h) }> }",
        layers=["Conv2D", "Conv2D", "If"],
        transposes=3,
        custom=True,
    )


def test_branches_of_two_ranks():
    source = branches("a = ReduceSum <keepdims = 0> (x)", "a = Neg (x)", "float[A, B]")
    refuses(source.replace("(float[A, B] a) { a = R", "(float a) { a = R"), "differ in how many axes")


SIGN = "zero = Constant <value_float = 0.0> () s = ReduceSum <keepdims = 0> (x) c = Greater (s, zero)"
RATE = "rate = Constant <value_int = 16000> () c = Equal (r, rate)"
NEVER = SIGN.replace("float = 0.0", "float = 1e30")


def test_both_branches_are_proved_saved_and_trained(tmp_path):
    """A step trains the weights of the branch that it takes, and no others."""
    source = branches("a = MatMul (x, w)", "b = MatMul (x, v) a = Relu (b)", inputs="", before=SIGN)
    result = bridge.convert(parse(source, {}))
    assert result.report.verified
    assert not result.report.notes
    result.save(tmp_path / "m.keras")
    loaded = bridge.load(tmp_path / "m.keras")
    x, before = np.ones((3, 4), "float32"), loaded.weights.pull()
    for sign in (x, -x):
        np.testing.assert_array_equal(*(outputs(model, [sign]) for model in (loaded.model, result.model)))
    loaded.model.compile(keras.optimizers.SGD(0.1), "mse")
    loaded.model.train_on_batch(x, x)
    after = loaded.weights.pull()
    assert [bool((before[name] != after[name]).any()) for name in ("w", "v")] == [True, False]


def test_a_number_that_a_branch_is_for_is_drawn():
    source = branches("a = MatMul (x, w)", "a = Neg (x)", inputs=", int64 r", before=RATE)
    assert not bridge.convert(parse(source, {})).report.notes


@pytest.mark.parametrize("inputs", [None, -np.ones((3, 4), "float32")], ids=["random", "of one sign"])
def test_inputs_are_found_that_take_a_branch(inputs):
    """Of which every number is large."""
    before = SIGN.replace("float = 0.0", "float = 3.0").replace("ReduceSum", "ReduceMin")
    source = branches("a = MatMul (x, w)", "a = Neg (x)", inputs="", before=before)
    options = bridge.Verify(inputs=None if inputs is None else {"x": inputs})
    assert not bridge.convert(parse(source, {}), verify=options).report.notes


def test_a_branch_that_no_input_takes_is_said_to_be():
    result = bridge.convert(parse(branches("a = MatMul (x, w)", "a = Neg (x)", inputs="", before=NEVER), {}))
    assert any("its then_branch is not compared" in note for note in result.report.notes)


def scan(step: str, gives: str = "float[N, 4] d", attributes: str = "", before: str = "") -> str:
    """A Scan over x and u from s; each run has a and the parts p and q, and gives c and d."""
    return (
        "g (float[T, N, 4] x, float[N, T] u, float[N, 4] s, float[N, 4] o) => (float[N, 4] k, float[A, B, D] y) "
        f"<float[4, 4] w, float[4] b> {{ {before} k, y = Scan <num_scan_inputs = 2, scan_input_axes = [0, 1], "
        f"{attributes} body = run (float[N, 4] a, float[N, 4] p, float[N] q) => (float[N, 4] c, {gives}) "
        f"{{ {step} }}> (s, x, u) }}"
    )


def loop(
    step: str, limit: str = "m", on: str = "on", gives: str = ", float[N, 4] d", before: str = ""
) -> str:
    """A Loop from s; each run has i and a, and gives go, c and perhaps d."""
    made, whole = ("k, y", ", float[S, N, 4] y") if gives else ("k", "")
    return (
        f"g (int64 m, bool on, float[T, N, 4] x, float[N, 4] s) => (float[N, 4] k{whole}) <float[4, 4] w> "
        f"{{ one = Constant <value_int = 1> () half = Constant <value_float = 0.5> () {before} {made} = Loop <body = run "
        f"(int64 i, bool up, float[N, 4] a) => (bool go, float[N, 4] c{gives}) {{ {step} }}> ({limit}, {on}, s) }}"
    )


TIME = "shape = Shape (x) zero = Constant <value_int = 0> () time = Gather (shape, zero)"
TRUE = "yes = Constant <value = bool {1}> ()"
KEEPS = "go = Identity (up) "
STEP = "b = MatMul (a, w) e = Mul (b, half) c = Tanh (e) "
UNTIL = STEP + "n = ReduceSum <keepdims = 0> (c) go = Less (n, half) "
REPEATED = {
    "a Scan": (scan("c = Add (a, p) d = Mul (c, p)"), ["Scan"]),
    "of weights and what stands outside": (
        scan("m = MatMul (p, w) n = Add (m, z) c = Mul (a, n) d = Add (c, b)", before="z = Relu (o)"),
        ["Scan"],
    ),
    "of two sequences, back and along another axis": (
        scan(
            "v = Unsqueeze (q, one) m = Mul (p, v) c = Add (a, m) d = Neg (q)", "float[N] d",
            "scan_input_directions = [1, 1], scan_output_directions = [1], scan_output_axes = [1],",
            "one = Constant <value_ints = [1]> ()",
        ).replace("float[A, B, D] y", "float[A, B] y"),
        ["Scan"],
    ),
    "as often as something is long": (
        loop(KEEPS + "p = Gather (x, i) r = Mul (p, a) c = Tanh (r) d = Add (p, c)", "time", "yes", before=TIME + TRUE), ["Loop"],
    ),
    "as often as a number says": (loop(STEP + KEEPS, gives=""), ["Loop"]),
    "with no condition to start": (loop(STEP + KEEPS, on="", gives=""), ["Loop"]),
    "with none but the body's": (loop(UNTIL, on="", gives=""), ["Loop"]),
    "and what each run gives": (loop(STEP + KEEPS + "d = Neg (c)"), ["Loop"]),
    "until the data say": (loop(UNTIL, gives=""), ["Loop"]),
    "until the data say, and what each run gives": (loop(UNTIL + "d = Neg (a)", "time", before=TIME), ["Loop"]),
    "a few times": (
        loop(STEP + KEEPS + "f = Cast <to = 1> (i) d = Mul (c, f)", "two", "yes",
             before=TRUE + "two = Constant <value_int = 2> ()"),
        [],
    ),
    "inside a branch": (
        "g (bool h, int64 m, float[N, 4] s) => (float[N, 4] k) { k = If (h) <then_branch = t () => (float[N, 4] l) { "
        f"{TRUE} l = Loop <body = run (int64 i, bool up, float[N, 4] a) => (bool go, float[N, 4] c) "
        "{ go = Identity (up) f = Cast <to = 1> (i) b = Add (a, f) c = Add (b, s) }> (m, yes, s) }, "
        "else_branch = e () => (float[N, 4] l) { l = Neg (s) }> }",
        ["Loop", "If"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", REPEATED.values(), ids=REPEATED)
def test_a_body_that_runs_again_and_again(row):
    source, layers = row
    built = check(source, custom=True, transposes=None, ranges={"m": (1, 5)})
    assert [row.layer for row in built.made if row.layer in ("If", "Loop", "Scan")] == layers


ENDLESS = "most = Constant <value_int = 9223372036854775807> ()"
REFUSED = {
    "a loop without an end": (loop(UNTIL, "", gives=""), "nothing bounds how often it runs"),
    "a loop to no end": (loop(UNTIL, "most", gives="", before=ENDLESS), "nothing bounds how often it runs"),
    "a state that grows": (
        loop(KEEPS + "c = Concat <axis = 0> (a, a) d = Neg (a)").replace("float[N, 4] c", "float[R, 4] c").replace(
            "float[N, 4] k", "float[Q, 4] k"), "changes its size",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_a_body_that_no_layer_repeats(row):
    refuses(*row)
