"""Sequences in pieces: each row gives for pieces what onnxruntime gives for the whole, or is refused with its reason."""

import numpy as np
import onnx
import pytest
from checking import _random, parse

from bridge.build.builder import build
from bridge.errors import SourceError, UnsupportedError
from bridge.frontend.source import load_source
from bridge.graph.frames import STATEFUL
from bridge.passes import simplify
from bridge.plan.planner import plan
from bridge.saving import load_keras
from bridge.verification.checks import Check
from bridge.verification.pieces import checks_in_pieces
from bridge.verification.runners import OnnxRuntime, keras_call, keras_going_on
from bridge.verification.trials import Trial

IMAGE, SERIES = "float[N, 3, T] x", "float[N, T, 3] x"
GRU = "z = Transpose <perm = [1, 0, 2]> ({}) a, h = GRU <hidden_size = 4> (z, w, r) "
GRU_WEIGHTS = "float[1, 12, {}] w, float[1, 12, 4] r"
STREAMED = {
    "dilated": (
        IMAGE,
        "float[N, 4, T] y",
        "float[4, 3, 3] w",
        "y = Conv <pads = [4, 0], dilations = [2]> (x, w)",
    ),
    "depthwise": (
        IMAGE,
        "float[N, 3, T] y",
        "float[3, 1, 3] w",
        "y = Conv <pads = [2, 0], group = 3> (x, w)",
    ),
    "cut off": (
        IMAGE,
        "float[N, 4, T] y",
        "float[4, 3, 3] w, int64[1] s = {0}, int64[1] e = {-2}, int64[1] a = {2}",
        "c = Conv <pads = [2, 2]> (x, w) d = Relu (c) y = Slice (d, s, e, a)",
    ),
    "padded in front of two": (
        IMAGE,
        "float[N, 5, T] y",
        "float[4, 3, 3] w, float[5, 4, 2] v, int64[6] p = {0, 0, 3, 0, 0, 0}",
        "z = Pad (x, p) c = Conv (z, w) t = Tanh (c) y = Conv (t, v)",
    ),
    "residual of padded ones": (
        IMAGE,
        "float[N, 3, T] y",
        "float[3, 3, 2] w, float[3, 3, 2] v, int64[6] p = {0, 0, 1, 0, 0, 0}",
        "z = Pad (x, p) c = Conv (z, w) d = Conv (z, v) y = Add (c, d)",
    ),
    "strided": (
        IMAGE,
        "float[N, 4, U] y",
        "float[4, 3, 4] w",
        "c = Conv <pads = [2, 0], strides = [2]> (x, w) y = MaxPool <kernel_shape = [3], pads = [1, 1], strides = [2]> (c)",
    ),
    "pools": (
        IMAGE,
        "float[N, 3, T] y",
        "int64[6] p = {0, 0, 2, 0, 0, 0}",
        "m = MaxPool <kernel_shape = [3], pads = [2, 0]> (x) z = Pad (x, p) a = AveragePool <kernel_shape = [3]> (z) y = Add (m, a)",
    ),
    "shifted": (
        SERIES,
        "float[N, T, 3] y",
        "int64[6] p = {0, 1, 0, 0, 0, 0}, int64[1] s = {0}, int64[1] e = {-1}, int64[1] a = {1}",
        "z = Pad (x, p) c = Slice (z, s, e, a) y = Sub (x, c)",
    ),
    "recurrent, and its last frame": (
        SERIES,
        "float[T, N, 4] y, float[N, 4] l",
        GRU_WEIGHTS.format(3) + ", int64 last = {-1}, int64[1] d = {1}",
        GRU.format("x") + "y = Squeeze (a, d) l = Gather <axis = 0> (y, last)",
    ),
    "frames beside sequences": (
        "float[2, T, 3] x",
        "float[T, N, 4] y",
        GRU_WEIGHTS.format(5)
        + ", float[3, 5] m, int64[2] flat = {-1, 3}, int64[3] deep = {2, -1, 5}, int64[1] d = {1}",
        "f = Reshape (x, flat) g = MatMul (f, m) b = Reshape (g, deep) "
        + GRU.format("b")
        + "y = Squeeze (a, d)",
    ),
    "spectrogram": (
        "float[N, 1, T, 6] x",
        "float[N, 4, T, 3] y",
        "float[4, 1, 3, 3] w",
        "y = Conv <pads = [2, 1, 0, 1], strides = [1, 2]> (x, w)",
    ),
}
REFUSED = {
    "looks 1 frame ahead": (IMAGE, "float[N, 4, T] y", "float[4, 3, 3] w", "y = Conv <pads = [1, 1]> (x, w)"),
    "gives 2 fewer frames": (IMAGE, "float[N, 4, U] y", "float[4, 3, 3] w", "y = Conv (x, w)"),
    "2 frames more than the sequence": (
        IMAGE,
        "float[N, 4, U] y",
        "float[4, 3, 3] w",
        "y = Conv <pads = [2, 2]> (x, w)",
    ),
    "takes all frames together": (SERIES, "float[N, 1, 3] y", "int64[1] a = {1}", "y = ReduceMean (x, a)"),
    "single frames of the sequence": (
        SERIES,
        "float[N, 3] y",
        "int64 i = {0}",
        "y = Gather <axis = 1> (x, i)",
    ),
    "every frame against every other": (
        SERIES,
        "float[N, T, T] y",
        "",
        "z = Transpose <perm = [0, 2, 1]> (x) y = MatMul (x, z)",
    ),
    "takes means of fewer frames": (
        IMAGE,
        "float[N, 3, T] y",
        "",
        "y = AveragePool <kernel_shape = [3], pads = [2, 0]> (x)",
    ),
    "goes into its numbers": (
        SERIES,
        "float[N, T, 3] y",
        "",
        "s = Shape <start = 1, end = 2> (x) f = Cast <to = 1> (s) y = Div (x, f)",
    ),
    "count from zero": (
        SERIES,
        "float[N, T, 3] y",
        "int64 z = {0}, int64 o = {1}, int64 i = {1}, int64[1] a = {1}",
        "s = Shape (x) n = Gather (s, i) r = Range (z, n, o) f = Cast <to = 1> (r) u = Unsqueeze (f, a) y = Add (x, u)",
    ),
    "frames meet what the whole sequence came to": (
        SERIES,
        "float[N, T, 3] y",
        "int64[1] s = {-1}, int64[1] e = {100000000000}, int64[1] a = {1}",
        "l = Slice (x, s, e, a) y = Add (x, l)",
    ),
    "from its end too": (
        "float[T, N, 3] x",
        "float[T, 1, N, 4] y",
        "float[1, 12, 3] w, float[1, 12, 4] r",
        'y, h = GRU <hidden_size = 4, direction = "reverse"> (x, w, r)',
    ),
    "state that it is given": (
        "float[T, N, 3] x, float[1, N, 4] i",
        "float[T, 1, N, 4] y",
        "float[1, 12, 3] w, float[1, 12, 4] r",
        "y, h = GRU <hidden_size = 4> (x, w, r, , , i)",
    ),
    "positions along time count": (
        SERIES,
        "float[N, T, 3] y",
        "float[1, 9, 3] p, int64[1] z = {0}, int64[1] a = {1}",
        "n = Shape <start = 1, end = 2> (x) c = Slice (p, z, n, a) y = Add (x, c)",
    ),
    "it is called on two": (
        "float[T, N, 3] x",
        "float[T, 1, N, 4] y, float[T, 1, N, 4] z",
        "float[1, 12, 3] w, float[1, 12, 4] r",
        "y, h = GRU <hidden_size = 4> (x, w, r) m = Neg (x) z, i = GRU <hidden_size = 4> (m, w, r)",
    ),
    "how this operator treats the frames is not known": (
        SERIES,
        "float[N, T, 3] y",
        "",
        'y = Einsum <equation = "abc->abc"> (x)',
    ),
}


def opened(row):
    inputs, outputs, weights, body = row
    proto = parse(f"g ({inputs}) => ({outputs}) <{weights}> {{ {body} }}", {})
    return proto, load_source(proto).keeping_state(2 if "N" in inputs else None)


def errors(proto, model, simple, count):
    """The largest error for each way to cut `count` frames."""
    random, sizes = np.random.default_rng(3), {"N": 2, "T": count}
    inputs = [
        _random(random, v, [sizes.get(d.dim_param, d.dim_value) for d in v.type.tensor_type.shape.dim], {})
        for v in proto.graph.input
    ]
    run = OnnxRuntime(proto.SerializeToString())
    trial = Trial({"T": count}, inputs, None, run(inputs))
    limits = [Check("", f"T={count}", 0.0, 1e-5)]
    checks = list(checks_in_pieces(model, keras_going_on(model), simple, run, [trial], limits))
    assert not any(check.failure for check in checks), checks
    return {check.values: check.error for check in checks}


@pytest.mark.parametrize("row", STREAMED)
def test_pieces_give_what_the_whole_gives(row):
    proto, source = opened(STREAMED[row])
    simple = simplify(source.model)
    built = build(plan(simple).require())
    step = simple.meta[STATEFUL].step
    assert step == (4 if row == "strided" else 1)
    found = errors(proto, built.model, simple, 12)
    assert len(found) == 2
    assert max(found.values()) < 1e-5
    assert {len(value.split(", ")) for value in found} & {9, 3}  # single ones, and the rest


def test_the_past_of_maxima_is_saved(tmp_path):
    """It is minus infinity, which JSON has no number for."""
    proto, source = opened(STREAMED["pools"])
    simple = simplify(source.model)
    build(plan(simple)).model.save(tmp_path / "model.keras")
    loaded = load_keras(tmp_path / "model.keras")
    assert max(errors(proto, loaded, simple, 12).values()) < 1e-5


@pytest.mark.parametrize("reason", REFUSED)
def test_what_sees_other_times_is_refused(reason):
    _, source = opened(REFUSED[reason])
    with pytest.raises(UnsupportedError, match=reason):
        plan(simplify(source.model)).require()


def test_one_past_stands_before_all_that_read_it():
    _, source = opened(STREAMED["residual of padded ones"])
    assert [node.op_type for node in simplify(source.model).graph] == ["Past", "Conv", "Conv", "Add"]


def test_pieces_of_other_lengths_than_the_steps_are_an_error():
    from bridge.verification.ranges import find_ranges

    _, source = opened(STREAMED["strided"])
    made = plan(simplify(source.model))
    find_ranges(source, made.model)
    with pytest.raises(Exception, match="steps of 4|multiple|4"):
        keras_call(build(made).model)([np.zeros((2, 3, 6), "float32")])


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        ("float[N, 6, 3] x", "no axis of time is free"),
        ("float[N, T, U, 3] x", "T and U are free"),
        ("float[3, T, 3] x", "no batch is free to be one of 2"),
        ("float[N, T, 3] x, float[M, T, 3] z", "N are free, and Keras keeps states"),
    ],
)
def test_time_and_the_batch_have_to_be_told(inputs, match):
    text = f"g ({inputs}) => (float[A, B, C] y) {{ y = Relu (x) }}"
    with pytest.raises(SourceError, match=match):
        simplify(
            load_source(onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 23]>' + text))
            .keeping_state(2)
            .model
        )
