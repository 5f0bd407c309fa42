"""Axes taken together: rows of ONNX text, each proved against onnxruntime."""

import numpy as np
import pytest
from checking import check

REDUCTIONS = """ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare""".split()
POSITIVE = {"x": (0.1, 3)}


@pytest.mark.parametrize("op", REDUCTIONS)
def test_one_axis(op):
    text = f"g (float[N, T, 4] x) => (float[N, T, 1] y) <int64[1] a = {{-1}}> {{ y = {op} (x, a) }}"
    check(text, layers=[], ranges=POSITIVE)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_dropped_axes(op):
    text = (
        f"g (float[N, T, 4] x) => (float[T] y) <int64[2] a = {{2, 0}}> {{ y = {op} <keepdims = 0> (x, a) }}"
    )
    check(text, layers=[], ranges=POSITIVE)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_all_axes(op):
    check(f"g (float[N, 2] x) => (float y) {{ y = {op} <keepdims = 0> (x) }}", ranges=POSITIVE)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_no_axes_and_no_operation(op):
    check(
        f"g (float[N, T] x) => (float[N, T] y) {{ y = {op} <noop_with_empty_axes = 1> (x) }}", ranges=POSITIVE
    )


def test_no_operation_on_integers():
    check("g (int64[N, T] x) => (int64[N, T] y) { y = ReduceL2 <noop_with_empty_axes = 1> (x) }")


@pytest.mark.parametrize("dtype", ["float", "int64", "int32"])
@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"])
def test_of_nothing(op, dtype):
    """Along an axis of size 0, and along others than it."""
    signature = "g ({0}[2, 0, N] x) => ({0}[N] y, {0}[0, N] z)"
    text = signature + " <int64[2] a = {{0, 1}}, int64[1] b = {{0}}> {{ y = {1} (x, a) z = {1} (x, b) }}"
    check(text.format(dtype, op + " <keepdims = 0>"))


AXES = {
    "empty": ("ReduceSum (x, none)", "float[1, 1, 1, 1]"),
    "empty-noop": ("ReduceSum <noop_with_empty_axes = 1> (x, none)", "float[N, 3, 6, 7]"),
    "all-kept": ("ReduceMax (x)", "float[1, 1, 1, 1]"),
    "batch": ("ReduceMean <keepdims = 0> (x, zero)", "float[3, 6, 7]"),
}


@pytest.mark.parametrize("row", AXES.values(), ids=AXES)
def test_axes(row):
    call, result = row
    text = f"g (float[N, 3, 6, 7] x) => ({result} y) <int64[0] none = {{}}, int64[1] zero = {{0}}> {{ y = {call} }}"
    check(text, layers=[])


CONVOLVED = {
    # what stands after a convolution, its result, the layers, how often axes are moved
    "channels": ("ReduceSum (c, one)", "float[N, 1, 6, 7]", ["Conv2D"], 1),
    "channels-dropped": ("ReduceSum <keepdims = 0> (c, one)", "float[N, 6, 7]", ["Conv2D"], 1),
    "spatial": ("ReduceMean <keepdims = 0> (c, two)", "float[N, 5]", ["Conv2D", "GlobalAveragePooling2D"], 1),
    "spatial-kept": ("ReduceMean (c, two)", "float[N, 5, 1, 1]", ["Conv2D", "GlobalAveragePooling2D"], 1),
    "spatial-max": ("ReduceMax <keepdims = 0> (c, two)", "float[N, 5]", ["Conv2D", "GlobalMaxPooling2D"], 1),
    "width": ("ReduceMax <keepdims = 0> (c, last)", "float[N, 5, 6]", ["Conv2D"], 2),
    "noop": ("ReduceSum <noop_with_empty_axes = 1> (c)", "float[N, 5, 6, 7]", ["Conv2D"], 2),
    "all": ("ReduceSum <keepdims = 0> (c)", "float", ["Conv2D"], 1),
    "arg-max": ("ArgMax <axis = 1, keepdims = 0> (c)", "int64[N, 6, 7]", ["Conv2D"], 1),
    "cumsum": ("CumSum (c, height)", "float[N, 5, 6, 7]", ["Conv2D"], 2),
}


@pytest.mark.parametrize("row", CONVOLVED.values(), ids=CONVOLVED)
def test_after_a_convolution(row):
    call, result, layers, transposes = row
    axes = "int64[1] one = {1}, int64[2] two = {2, 3}, int64[1] last = {-1}, int64 height = {2}"
    check(
        f"""g (float[N, 3, 6, 7] x) => ({result} y) <float[5, 3, 1, 1] w, {axes}>
        {{ c = Conv (x, w)  y = {call} }}""",
        layers=layers,
        transposes=transposes,
    )


def test_mean_over_time_is_a_pooling_layer():
    check(
        "g (float[N, T, 4] x) => (float[N, 4] y) <int64[1] a = {1}> { y = ReduceMean <keepdims = 0> (x, a) }",
        layers=["GlobalAveragePooling1D"],
    )


TYPES = {
    "sum-int32": ("int32", "ReduceSum", {}),
    "sum-int64": ("int64", "ReduceSum", {}),
    "prod-int64": ("int64", "ReduceProd", {}),
    "mean-int32": ("int32", "ReduceMean", {"x": (0, 9)}),
    "max-int64": ("int64", "ReduceMax", {}),
    "max-uint8": ("uint8", "ReduceMax", {}),
    "min-int8": ("int8", "ReduceMin", {}),
    "max-bool": ("bool", "ReduceMax", {}),
    "min-bool": ("bool", "ReduceMin", {}),
    "sum-double": ("double", "ReduceSum", {}),
    "mean-half": ("float16", "ReduceMean", {}),
}


@pytest.mark.parametrize("row", TYPES.values(), ids=TYPES)
def test_types(row):
    dtype, op, ranges = row
    text = f"g ({dtype}[N, T, 3] x) => ({dtype}[N, 1, 3] y) <int64[1] a = {{1}}> {{ y = {op} (x, a) }}"
    check(text, ranges=ranges, tolerance=1e-3 if dtype == "float16" else 1e-5)


INDICES = {
    "arg-max": ("float[N, T, 4]", "ArgMax <axis = 1> (x)", "int64[N, 1, 4]"),
    "arg-max-default": ("float[N, T, 4]", "ArgMax <keepdims = 0> (x)", "int64[T, 4]"),
    "arg-max-ties": ("int32[N, T]", "ArgMax <axis = -1, keepdims = 0> (x)", "int64[N]"),
    "arg-max-last": (
        "int32[N, T]",
        "ArgMax <axis = -1, keepdims = 0, select_last_index = 1> (x)",
        "int64[N]",
    ),
    "arg-max-last-fixed": ("int32[N, 8]", "ArgMax <axis = 1, select_last_index = 1> (x)", "int64[N, 1]"),
    "arg-max-of-nothing": ("float[0, 3]", "ArgMax <axis = 1> (x)", "int64[0, 1]"),
    "arg-min": ("float[N, T, 4]", "ArgMin <axis = 2> (x)", "int64[N, T, 1]"),
    "arg-min-last": ("int32[N, T]", "ArgMin <axis = 1, select_last_index = 1> (x)", "int64[N, 1]"),
}


@pytest.mark.parametrize("row", INDICES.values(), ids=INDICES)
def test_index_of_the_extreme(row):
    x, call, y = row
    check(f"g ({x} x) => ({y} y) {{ y = {call} }}", layers=[], ranges={"x": (0, 3)})


ODD = (-0.0, 0.0, 1.0, -1.0, np.nan, np.inf, -np.inf)
EXTREMES = [
    "ArgMax <axis = -1> (x)", "ArgMin <axis = -1> (x)", "ArgMax <axis = -1, select_last_index = 1> (x)",
    "ArgMin <axis = -1, select_last_index = 1> (x)", "Hardmax (x)",
]  # fmt: skip


@pytest.mark.parametrize("call", EXTREMES)
def test_zeros_of_both_signs_and_nan(call):
    result = "float[N, 3]" if "Hardmax" in call else "int64[N, 1]"
    check(
        f"g (float[N, 3] x) => ({result} y) {{ y = {call} }}", layers=[], sizes=[{"N": 200}], among={"x": ODD}
    )


TOP = {
    "default": ("float[N, 7]", "TopK (x, k)", "float[N, 3]", "int64[N, 3]"),
    "axis": ("float[N, 7, T]", "TopK <axis = 1> (x, k)", "float[N, 3, T]", "int64[N, 3, T]"),
    "smallest": ("float[N, 7]", "TopK <largest = 0> (x, k)", "float[N, 3]", "int64[N, 3]"),
    "int64": ("int64[N, 7]", "TopK (x, k)", "int64[N, 3]", "int64[N, 3]"),
    "smallest-int64": ("int64[N, 7]", "TopK <largest = 0> (x, k)", "int64[N, 3]", "int64[N, 3]"),
}


@pytest.mark.parametrize("row", TOP.values(), ids=TOP)
def test_top(row):
    x, call, values, indices = row
    text = f"g ({x} x) => ({values} v, {indices} i) <int64[1] k = {{3}}> {{ v, i = {call} }}"
    check(text, layers=[], ranges={"x": (-999, 999)})


def test_equal_numbers_where_the_backend_ranks_them_in_any_order(monkeypatch):
    monkeypatch.setattr("bridge.ops.reduction.ranks_by_place", lambda: False)
    text = "g (float[N, 7] x) => (float[N, 3] v, int64[N, 3] i) <int64[1] k = {3}> { v, i = TopK (x, k) }"
    check(text, among={"x": (1.0, 2.0)})


@pytest.mark.parametrize("dtype", ["float", "int64", "int32"])
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("count", ["n = Identity (length)", "n = Div (length, two)"], ids=["all", "half"])
def test_as_many_as_an_axis_is_long(dtype, largest, count):
    """torch's sort and argsort over a free axis; of equal numbers the first comes first."""
    check(
        f"g ({dtype}[N, T, 3] x) => ({dtype}[N, K, 3] v, int64[N, K, 3] i) <int64[1] two = {{2}}> {{"
        f" length = Shape <start = 1, end = 2> (x) {count} v, i = TopK <axis = 1, largest = {largest}> (x, n) }}",
        ranges={"x": (-2, 3)} if "int" in dtype else None,
    )


CUMULATIVE = {
    "sum": ("float[N, T]", "CumSum (x, a)"),
    "sum-int32": ("int32[N, T]", "CumSum (x, a)"),
    "sum-exclusive": ("float[N, T]", "CumSum <exclusive = 1> (x, a)"),
    "sum-reverse": ("int64[N, T]", "CumSum <reverse = 1> (x, a)"),
    "sum-both": ("float[N, T]", "CumSum <exclusive = 1, reverse = 1> (x, a)"),
    "sum-batch": ("float[N, T]", "CumSum <exclusive = 1> (x, b)"),
}


@pytest.mark.parametrize("row", CUMULATIVE.values(), ids=CUMULATIVE)
def test_cumulative(row):
    x, call = row
    check(f"g ({x} x) => ({x} y) <int64 a = {{-1}}, int64[1] b = {{0}}> {{ y = {call} }}", layers=[])


def test_index_of_the_extreme_of_what_is_known():
    check(
        "g (float[3, 4] x) => (float[3, 4] y, int64[3, 1] i) { e = EyeLike (x)  i = ArgMin <axis = 1> (e)  y = Add (e, x) }"
    )


ZEROS, NOT_A_NUMBER = [-1, -0.0, 0.0, 1], [float("nan"), -1, 0.0, 2]


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("numbers", [ZEROS, NOT_A_NUMBER], ids=["zeros of both signs", "NaN"])
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_index_of_ties(op, numbers, keep, last):
    one = "1, " if keep else ""
    text = (
        f"g (float[N, T, 40] x) => (int64[N, {one}40] y) "
        f"{{ y = {op} <axis = 1, keepdims = {keep}, select_last_index = {last}> (x) }}"
    )
    check(text, among={"x": numbers})


@pytest.mark.parametrize("kind", ["int32", "int64"])
def test_logsumexp_of_integers(kind):
    head = '<ir_version: 8, opset_import: ["": 10]>'
    text = f"{head} g ({kind}[N, 30] x) => ({kind}[N, 1] y) {{ y = ReduceLogSumExp <axes = [1]> (x) }}"
    check(text, ranges={"x": (-3, 2)})


def test_hardmax_of_nothing():
    check(
        "g (float[N, 0] x, float[N, 2] z) => (float[N, 0] y, float[N, 2] w) { y = Hardmax (x)  w = Identity (z) }"
    )
