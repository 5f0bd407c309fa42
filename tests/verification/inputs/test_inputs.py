"""The inputs of a proof: what the user gives, what is found where he gives nothing, and that a run repeats."""

from __future__ import annotations

import itertools
import json
import zipfile

import numpy as np
import onnx_ir as ir
import pytest
import torch
from checking import parse
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from torch import nn

import bridge
from bridge.frontend.onnx.load import load
from bridge.graph.ranges import Range
from bridge.passes import simplify
from bridge.verification.inputs.odd import Odd
from bridge.verification.inputs.sampler import Sampler
from bridge.verification.inputs.sizes import other_sizes, search, solve
from bridge.verification.runners import OnnxRuntime

torch.set_num_threads(1)

PYRAMID = """g (float[n,3,h,w] x) => (float[n,16,a,b] y) <float[8,3,3,3] k1, float[8,8,3,3] k2, float[4] s = {1,1,2,2}> {
    a1 = Conv <strides = [2,2], pads = [1,1,1,1]> (x, k1)  a2 = Conv <strides = [2,2], pads = [1,1,1,1]> (a1, k2)
    a3 = Conv <strides = [2,2], pads = [1,1,1,1]> (a2, k2)  a4 = Conv <strides = [2,2], pads = [1,1,1,1]> (a3, k2)
    a5 = Conv <strides = [2,2], pads = [1,1,1,1]> (a4, k2)
    u4 = Resize <mode = "nearest"> (a5, "", s)  s4 = Add (u4, a4)  u3 = Resize <mode = "nearest"> (s4, "", s)
    s3 = Add (u3, a3)  u2 = Resize <mode = "nearest"> (s3, "", s)  s2 = Add (u2, a2)
    u1 = Resize <mode = "nearest"> (s2, "", s)  y = Concat <axis = 1> (u1, a1) }"""
WINDOWS = """g (float[n,h,w,8] x) => (float[a,7,7,8] y) {
    d = Constant <value_ints = [-1,7,7,8]> ()  r = Reshape (x, d)  y = Relu (r) }"""
EQUAL = """g (float[b,s,4] q, float[c,t,4] k) => (float[b,s,4] y) { y = Add (q, k) }"""
STATES = """g (float[t,b,3] x, float[1,c,2] h) => (float[t,1,b,2] y) <float[1,8,3] w, float[1,8,2] r> {
    y, s, e = LSTM <hidden_size = 2> (x, w, r, "", "", h, h) }"""
CACHE = """g (float[b,p,4] past, float[b,s,4] x, float[b,t,1] mask) => (float[b,t,4] y) {
    c = Concat <axis = 1> (past, x)  y = Mul (c, mask) }"""
FIXED = """g (float[n,3,h,h] x) => (float[n,m] y) {
    d = Constant <value_ints = [-1,588]> ()  r = Reshape (x, d)  y = Relu (r) }"""
PLAIN = "g (float[batch,time,4] x, float[batch] s) => (float[batch,4] y) { a = Constant <value_ints = [1]> () m = ReduceSum <keepdims = 0> (x, a) t = Unsqueeze (s, a) y = Mul (m, t) }"


FRAMES = """g (float[n,t] x, int64[n] lengths) => (float[n,f] y) {
    z = Constant <value = int64 {0}> ()  one = Constant <value = int64 {1}> ()  ax = Constant <value_ints = [1]> ()
    hop = Constant <value = int64 {160}> ()
    s = Shape <start = 1, end = 2> (x)  q = Squeeze (s)  r = Range (z, q, one)  l = Unsqueeze (lengths, ax)
    kept = Less (r, l)  m = Cast <to = 1> (kept)  a = Mul (x, m)
    k = Div (q, hop)  d = Range (z, k, one)  c = Div (lengths, hop)  u = Unsqueeze (c, ax)  e = Less (d, u)
    o = Cast <to = 1> (e)  w = ReduceSum <keepdims = 1> (a, ax)  y = Mul (o, w) }"""  # 0 below one frame
ZEROS = "g (float[n,4] x) => (float[n,4] y) { s = Sub (x, x)  y = Abs (s) }"


def converted(text: str, **options) -> bridge.Conversion:
    return bridge.convert(parse(text, {}), verify=bridge.Verify(**options))


def tried(conversion: bridge.Conversion) -> list[str]:
    return list(dict.fromkeys(check.sizes for check in conversion.report.checks))


def sizes_of(text: str) -> dict[str, int]:
    return {name: int(size) for name, _, size in (part.partition("=") for part in text.split(", "))}


# --- the search -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "varied"),
    [
        (PYRAMID, "n h w"),
        (WINDOWS, "n"),
        (EQUAL, "b s c t"),
        (STATES, "t b c"),
        (CACHE, "b t"),
        (FIXED, "n"),
        (PLAIN, "batch time"),
    ],
    ids="pyramid windows equal states cache fixed plain".split(),
)
def test_legal_sizes_are_found(text, varied):
    conversion = converted(text)
    assert conversion.report.verified
    sizes = [sizes_of(text) for text in tried(conversion)]
    assert len(sizes) > 2
    assert all(len({chosen[name] for chosen in sizes}) > 2 for name in varied.split())


def test_sizes_are_looked_for_at_which_outputs_vary():
    conversion = converted(FRAMES)
    assert conversion.report.proved
    assert sizes_of(tried(conversion)[0])["t"] >= 160


def test_what_never_varies_is_not_called_proved(tmp_path):
    conversion = converted(ZEROS)
    path = conversion.save(tmp_path / "m.keras")
    for report in (conversion.report, bridge.verify(path, parse(ZEROS, {}))):
        assert report.verified
        assert not report.proved
        assert report.verdict.startswith("equal, which shows little: y (0.0) never varied")


def test_numbers_that_are_held_against_the_places_of_an_axis_are_lengths():
    sampler = Sampler.of(simplify(load(parse(FRAMES, {}))))
    drawn = [sampler.draw({"n": 5, "t": 4000}, number)[1] for number in range(3)]
    assert all(lengths.max() == 4000 and lengths.min() >= 1 for lengths in drawn)


def test_a_pyramid_is_proved_at_several_multiples():
    sizes = [sizes_of(text) for text in tried(converted(PYRAMID))]
    assert any(chosen["h"] != chosen["w"] for chosen in sizes)
    assert 1 in {chosen["n"] for chosen in sizes}


def test_a_graph_that_never_runs_says_how_many_were_tried():
    text = """g (float[n,4] x) => (float[n,4] y) { s = Shape (x)  z = Constant <value_int = 0> ()  n0 = Gather (s, z)
        big = Constant <value_int = 99999> ()  i = Add (n0, big)  r = Gather (x, i)  y = Add (x, r) }"""
    with pytest.raises(bridge.SourceError, match=r"no inputs found .* of \d+ choices .*--inputs.*--sizes"):
        converted(text)


@settings(max_examples=15, deadline=None)
@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    pad=st.integers(0, 2),
    levels=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_what_the_search_says_first_is_what_the_graph_takes(kernel, stride, pad, levels, seed):
    """The second choice at the latest (the first is always a small one) passes onnxruntime, if any does."""
    pads, strides = [min(pad, kernel // 2)] * 2, [stride]
    body, last = [], "x"
    for level in range(levels):
        body.append(
            f"c{level} = MaxPool <kernel_shape = [{kernel}], strides = {strides}, pads = {pads}> ({last})"
        )
        last = f"c{level}"
    text = (
        f"g (float[n,2,h] x, float[m,2,k] z) => (float[n,2,k] y) {{ {'  '.join(body)}  y = Add ({last}, z) }}"
    )
    simple = simplify(load(parse(text, {})))
    runs = []
    run, sampler = OnnxRuntime(simple), Sampler.of(simple)
    for sizes in itertools.islice(search(simple.graph.inputs, simple.graph, seed), 2):
        try:
            runs.append(run(sampler.draw(sizes)))
        except Exception:
            continue
    assert runs


def test_sizes_on_both_sides_of_the_example_within_its_range():
    values = parse(PLAIN, {})
    inputs = simplify(load(values)).graph.inputs
    base = {"batch": 3, "time": 30}
    chosen = [group[0] for group in other_sizes(inputs, base, {"time": Range(5, 100)})]
    assert {sizes["time"] for sizes in chosen} >= {5, 100}
    assert any(5 < sizes["time"] < 30 for sizes in chosen)
    assert any(30 < sizes["time"] < 100 for sizes in chosen)
    assert all(
        5 <= sizes["time"] <= 100
        for group in other_sizes(inputs, base, {"time": Range(5, 100)})
        for sizes in group
    )
    assert {sizes["batch"] for sizes in chosen} >= {1, 2, 4, 5}


def test_sizes_of_a_multiple_are_solved():
    graph = simplify(load(parse("g (float[n,4] x) => (float[n,4] y) { y = Relu (x) }", {}))).graph
    graph.inputs[0].shape = ir.Shape(["n", ir.SymbolicDim("w") * 4])
    assert solve(graph.inputs, [np.zeros((2, 12))]) == {"n": 2, "w": 3}


# --- what the user gives ----------------------------------------------------------------------------------------

X, S = np.ones((2, 5, 4), np.float32), np.arange(2, dtype=np.float32)


@pytest.mark.parametrize(
    "inputs",
    [
        {"s": S, "x": X},
        [X, S],
        (torch.from_numpy(X), torch.from_numpy(S)),
        lambda: {"x": X, "s": S},
        lambda: [X, S],
    ],
    ids="named listed tensors function function_listed".split(),
)
def test_inputs_that_are_given_come_first(inputs):
    assert tried(converted(PLAIN, inputs=inputs))[0] == "batch=2, time=5"


def test_a_function_of_sizes_makes_all_inputs():
    asked = []

    def make(sizes):
        asked.append(sizes)
        time = sizes["time"] // 3 * 3 + 3
        return [np.ones((sizes["batch"], time, 4), np.float32), np.ones(sizes["batch"], np.float32)]

    conversion = converted(PLAIN, inputs=make)
    assert len(asked) > 2
    assert all(sizes_of(text)["time"] % 3 == 0 for text in tried(conversion))


@pytest.mark.parametrize("name", ["x.npz", "listed.npz", "one.npy"])
def test_inputs_from_files(name, tmp_path):
    path = tmp_path / name
    text = PLAIN
    if name == "x.npz":
        np.savez(path, s=S, x=X)
    elif name == "listed.npz":
        np.savez(path, X, S)
    else:
        np.save(path, X)
        text = "g (float[batch,time,4] x) => (float[batch,time,4] y) { y = Relu (x) }"
    assert tried(converted(text, inputs=path))[0] == "batch=2, time=5"


def test_an_example_of_a_module_gives_way_to_inputs():
    result = bridge.convert(
        nn.Linear(4, 3).eval(),
        torch.randn(3, 4),
        verify=bridge.Verify(inputs=[np.ones((7, 4), np.float32)], float64=True),
    )
    assert tried(result)[0].endswith("=7")


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"x": X}, "inputs: s is missing; given are x"),
        ({"x": X, "s": S, "z": S}, "inputs: the model has no input 'z'; it has x, s"),
        ([X], "inputs: 1 given, the model has 2: x, s"),
        ([X, S[None]], r"inputs: s is \(batch\) in the model and \(1, 2\) as given"),
        ([X[..., :3], S], r"inputs: x is \(batch, time, 4\) in the model and \(2, 5, 3\) as given"),
        (
            [X.astype("float64"), S],
            r"inputs: x is float32 in the model and float64 as given: .astype\('float32'\)",
        ),
        ([X[:1], S], "inputs: batch is 1 in x and 2 in s"),
        (lambda: 1 / 0, "inputs: the function raised ZeroDivisionError"),
    ],
)
def test_inputs_that_do_not_fit(inputs, says):
    with pytest.raises(bridge.SourceError, match=says) as caught:
        converted(PLAIN, inputs=inputs)
    assert "\n" not in str(caught.value)


def _bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        np.lib.format.write_array_header_2_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
        )
        file.write(bytes(1 << 20))


def _pickle(path):
    np.savez(path, x=np.array([{}], dtype=object), s=S)


FILES = {
    "bomb.npz": _bomb,
    "pickle.npz": _pickle,
    "text.npz": lambda path: path.write_text("no archive"),
    "text.npy": lambda path: path.write_text("no array"),
    "empty.npy": lambda path: path.write_bytes(b""),
    "short.npy": lambda path: path.write_bytes(
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9,)}".ljust(128) + b"\n"
    ),
    "inputs.txt": lambda path: path.write_text("1 2 3"),
    "missing.npz": lambda path: None,
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_none_of_arrays(name, tmp_path):
    path = tmp_path / name
    FILES[name](path)
    with pytest.raises(bridge.SourceError, match=name) as caught:
        converted(PLAIN, inputs=path)
    assert "\n" not in str(caught.value)


def test_sizes_that_are_given_are_the_ones_tried():
    conversion = converted(PYRAMID, sizes={"h": (96, 64), "w": 32})
    sizes = [sizes_of(text) for text in tried(conversion)]
    assert {chosen["h"] for chosen in sizes} == {64, 96}
    assert {chosen["w"] for chosen in sizes} == {32}
    assert len({chosen["n"] for chosen in sizes}) > 2


def test_all_sizes_that_are_given_are_tried():
    many = (3, 4, 5, 6, 7, 8, 9, 10, 11)
    sizes = [sizes_of(text) for text in tried(converted(PLAIN, sizes={"time": many}))]
    assert {chosen["time"] for chosen in sizes} == set(many)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"hight": 3}, "sizes: no free axis is called 'hight'; there is batch, time"),
        ({"time": 0}, "sizes: time is 0; give a positive number, or several"),
        ({"time": "ten"}, "sizes: time is 'ten'"),
        ({"time": ()}, r"sizes: time is \(\)"),
    ],
)
def test_sizes_that_are_none(sizes, says):
    with pytest.raises(bridge.SourceError, match=says):
        converted(PLAIN, sizes=sizes)


# --- seeds --------------------------------------------------------------------------------------------------------


def test_a_seed_repeats_a_run_and_is_recorded():
    first, again, other = (converted(PLAIN, seed=seed).report for seed in (5, 5, 6))
    assert first.checks == again.checks
    assert first.checks != other.checks
    assert first.seed == json.loads(first.to_json())["seed"] == 5
    assert "seed 5" in str(first)


# --- values -------------------------------------------------------------------------------------------------------


def drawn(text: str, sizes: dict[str, int], examples=None, number: int = 0) -> list[np.ndarray]:
    return Sampler.of(simplify(load(parse(text, {}))), examples).draw(sizes, number)


def test_indices_reach_both_ends_of_their_table():
    text = "g (int64[n,t] i) => (float[n,t,6] y) <float[11,6] w> { y = Gather (w, i) }"
    (indices,) = drawn(text, {"n": 2, "t": 3}, [np.array([[4, 5, 4]])])
    assert (indices.min(), indices.max()) == (0, 10)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[n,t] x, bool[n,t] m) => (float[n,t] y) { y = Where (m, x, x) }",
        "g (float[n,t] x, int64[n,t] m) => (float[n,t] y) <float c = {1}> { f = Cast <to = 1> (m)  s = Sub (c, f)  y = Mul (s, x) }",
        "g (float[n,t] x, int32[n,t] m) => (float[n,t] y) { b = Cast <to = 9> (m)  y = Where (b, x, x) }",
    ],
    ids="bool taken_from_one made_bool".split(),
)
def test_masks_leave_something_of_every_row(text):
    for number in range(20):
        mask = drawn(text, {"n": 4, "t": 3}, number=number)[1].astype(bool)
        assert mask.any(1).all()
        assert not mask.all(1).any()


TYPES = "float16 float double int8 uint8 int32 int64 bool".split()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", ["", "[1]", "[n]", "[n,t]"])
def test_every_type_and_rank_is_drawn(dtype, shape):
    text = f"g ({dtype}{shape} x, float[k] unused) => ({dtype}{shape} y) {{ y = Identity (x) }}"
    x, unused = drawn(text, {"n": 2, "t": 3, "k": 4})
    wanted = {"float": "float32", "double": "float64"}.get(dtype, dtype)
    assert isinstance(x, np.ndarray)
    assert x.dtype == wanted
    assert x.shape == {"": (), "[1]": (1,), "[n]": (2,), "[n,t]": (2, 3)}[shape]


# --- sizes at which the source is no Keras model ----------------------------------------------------------------

APART = {
    "nothing left": (
        "g (float[2, 1, h] x) => (float[a, b, c] y) { y = MaxPool <kernel_shape = [2]> (x) }",
        {"h": (5, 1, 4)}, "h=1: y would be empty",
    ),
    "fewer axes": (
        "g (float[n, 4, 1] x) => (float[n, m] y) { y = Squeeze (x) }",
        {"n": (3, 1, 2)}, "at n=1 the source drops the axes that are one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", APART.values(), ids=APART)
def test_sizes_that_are_not_compared(row):
    text, sizes, note = row
    report = converted(text, sizes=sizes).report
    assert report.verified
    assert any(note in line for line in report.notes)


@pytest.mark.parametrize("name", ["floor", "numpy", "Max", "lambda"])
def test_an_axis_may_be_called_as_a_function_is(name):
    text = f"g (float[n, 2, {name}] x) => (float[n, 2, m] y) {{ y = AveragePool <kernel_shape = [3], strides = [2]> (x) }}"
    assert converted(text).report.verified


# --- odd values ---------------------------------------------------------------------------------------------------

UNARY = "g (float[n,9] x) => (float[n,9] y) {{ y = {} (x) }}"
WRONG = {
    # operator: a function that is equal at most random numbers, the graph, what shows it
    "Round": (lambda x: ops.sign(x) * ops.floor(ops.abs(x) + 0.5), UNARY.format("Round"), Odd.TIES),
    "Sign": (lambda x: ops.where(x >= 0, 1.0, -1.0), UNARY.format("Sign"), Odd.TIES),
    "Relu": (lambda x: ops.where(x > 0, x, 0.0), UNARY.format("Relu"), Odd.ENDLESS),
    "Tanh": (lambda x: ops.tanh(x + 5e-6 * ops.sign(x)), UNARY.format("Tanh"), Odd.TINY),
    "Softplus": (lambda x: ops.log(1 + ops.exp(x)), UNARY.format("Softplus"), Odd.LARGE),
    "Softmax": (
        lambda x, *, axis=-1: ops.softmax(x) + 0 * ops.sum(x),
        "g (float[n,8,3] x) => (float[n,8,3] y) { y = Softmax (x) }",
        Odd.ENDLESS,
    ),
    "ReduceMax": (
        lambda x, a, *, keepdims=1: ops.max(x, axis=-1, keepdims=True) + 0 * ops.sum(x),
        "g (float[n,8,3] x) => (float[n,8,1] y) <int64[1] a = {-1}> { y = ReduceMax (x, a) }",
        Odd.ENDLESS,
    ),
    "Softsign": (
        lambda x: ops.softsign(x) * ops.where(ops.abs(x) < 0.01, 1.0003, 1.0),
        UNARY.format("Softsign"),
        Odd.TINY,
    ),
    "Sqrt": (
        lambda x: ops.sqrt(x) * ops.where(ops.abs(x) > 99, 1.0005, 1.0),
        "g (float[n,9] x) => (float[n,9] z) { y = Mul (x, x) z = Sqrt (y) }",
        Odd.LARGE,
    ),
    "ArgMax": (
        lambda x, *, axis=0, keepdims=1, select_last_index=0: ops.cast(
            8 - ops.argmax(x[:, ::-1], 1), "int64"
        )[:, None],
        "g (float[n,9] x) => (int64[n,1] y) { y = ArgMax <axis = 1> (x) }",
        Odd.TIES,
    ),
    "ArgMin": (
        lambda x, *, axis: ops.cast(ops.argmin(ops.where(ops.isinf(x), 0.0, x), axis=1), "int64")[:, None],
        "g (float[n,9] x) => (int64[n,1] y) { y = ArgMin <axis = 1> (x) }",
        Odd.ENDLESS,
    ),
    "Not": (
        lambda x: ops.logical_and(ops.logical_not(x), ops.any(x)),
        "g (bool[n,9] x) => (bool[n,9] y) { y = Not (x) }",
        Odd.OFF,
    ),
    "And": (
        lambda a, b: ops.logical_and(ops.logical_and(a, b), ops.logical_not(ops.all(a))),
        "g (bool[n,9] x) => (bool[n,9] y) { y = And (x, x) }",
        Odd.ON,
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_odd_values_show_what_random_ones_do_not(name, build_with):
    function, text, kind = WRONG[name]
    assert converted(text).report.verified
    build_with(name, function)
    with pytest.raises(bridge.MismatchError, match=f"; {kind.value}; first at {name}") as caught:
        converted(text)
    ordinary = [c for c in caught.value.report.checks if not c.values and c.dtype != "float64"]
    assert all(check.passed for check in ordinary)


def test_a_saved_model_is_tried_at_odd_values_too(build_with, tmp_path):
    function, text, kind = WRONG["Round"]
    model = parse(text, {})
    bridge.convert(model).save(tmp_path / "right.keras")
    assert Odd.TIES.value in {check.values for check in bridge.verify(tmp_path / "right.keras", model).checks}
    build_with("Round", function)
    bridge.convert(model, verify=False).save(tmp_path / "wrong.keras")
    with pytest.raises(bridge.MismatchError, match=kind.value):
        bridge.verify(tmp_path / "wrong.keras", model)


def test_short_sequences_are_drawn_where_lengths_are():
    text = """g (float[t,b,3] x, int32[b] n) => (float[t,1,b,2] y) <float[1,8,3] w, float[1,8,2] r> {
        y, s, e = LSTM <hidden_size = 2> (x, w, r, "", n) }"""
    sampler = Sampler.of(simplify(load(parse(text, {}))))
    lengths = next(draw.inputs[1] for draw in sampler.odd({"t": 5, "b": 4}) if draw.odd is Odd.SHORT)
    assert lengths.max() < 5
    assert lengths.min() == 1
    assert sampler.draw({"t": 5, "b": 4})[1].max() == 5


ROUNDED = {
    "sine": "g (float[n,3,9] x) => (float[n,3,9] y) <float[9,9] w> { a = MatMul (x, w)  y = Sin (a) }",
    "softmax": "g (float[n,3,9] x) => (float[n,3,9] y) <float[9,9] w> { a = MatMul (x, w)  y = Softmax (a) }",
    "round": "g (float[n,3,9] x) => (float[n,3,9] y) <float[9,9] w> { a = MatMul (x, w)  y = Round (a) }",
    "compare": "g (float[n,3,9] x) => (bool[n,3,9] y) <float[9,9] w, float[9] c> { a = MatMul (x, w)  y = Less (a, c) }",
    "norm": "g (float[n,3,9] x) => (float[n,3,9] y) <float[9] w> { y = LayerNormalization (x, w) }",
    "instances": "g (float[n,3,9] x) => (float[n,3,9] y) <float[3] w, float[3] b> { y = InstanceNormalization (x, w, b) }",
    "pool": "g (float[n,3,9] x) => (float[n,3,4] y) { y = MaxPool <kernel_shape = [3], strides = [2]> (x) }",
}


@pytest.mark.parametrize("name", ROUNDED)
def test_rounding_at_odd_values_is_no_mismatch(name):
    report = converted(ROUNDED[name]).report
    assert report.verified
    assert not report.amplifies
    assert {check.values for check in report.checks} >= {"", Odd.TIES.value, Odd.TINY.value, Odd.LARGE.value}


def test_the_verdict_counts_odd_values():
    assert "at 5 choices of sizes and 4 kinds of odd values" in converted(UNARY.format("Abs")).report.verdict
