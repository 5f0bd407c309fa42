"""Reading and writing by index: rows of ONNX text, each proved against onnxruntime."""

import pytest
from checking import check, refuses

# --- reading by index -----------------------------------------------------------------------------------------

LOOKUPS = {
    "tokens": ("int64[N, T] i", "float[7, 5] w", "Gather (w, i)", "float[N, T, 5]"),
    "tokens-int32": ("int32[N, T] i", "float[7, 5] w", "Gather (w, i)", "float[N, T, 5]"),
    "vector": ("int64[T] i", "float[7, 5] w", "Gather (w, i)", "float[T, 5]"),
    "scalar": ("int64 i", "float[7, 5] w", "Gather (w, i)", "float[5]"),
    "biases": ("int64[N, T] i", "float[7] w", "Gather (w, i)", "float[N, T]"),
    "matrices": ("int64[N, T] i", "float[7, 2, 3] w", "Gather (w, i)", "float[N, T, 2, 3]"),
    "matrices-of-scalar": ("int64 i", "float[7, 2, 3] w", "Gather (w, i)", "float[2, 3]"),
    "columns": ("int64[T] i", "float[2, 7, 3] w", "Gather <axis = 1> (w, i)", "float[2, T, 3]"),
    "columns-of-tokens": ("int64[N, T] i", "float[2, 7] w", "Gather <axis = -1> (w, i)", "float[2, N, T]"),
}


@pytest.mark.parametrize("row", LOOKUPS.values(), ids=LOOKUPS)
def test_lookup(row):
    """A parameter that is read by index is an Embedding; negative indices count from the end."""
    indices, weight, call, result = row
    built = check(f"g ({indices}) => ({result} y) <{weight}> {{ y = {call} }}", ranges={"i": (-7, 7)})
    assert built.made[0].layer == "Embedding"
    assert len(built.weights) == 1


GATHERS = {
    "step": ("float[N, T, 4] x", "Gather <axis = 1> (x, first)", "float[N, 4]"),
    "last-step": ("float[N, T, 4] x", "Gather <axis = 1> (x, last)", "float[N, 4]"),
    "some": ("float[N, T, 4] x", "Gather <axis = -1> (x, some)", "float[N, T, 3]"),
    "matrix": ("float[N, 4] x", "Gather <axis = 1> (x, square)", "float[N, 2, 3]"),
    "batch": ("float[N, 4] x", "Gather (x, last)", "float[4]"),
    "runtime": ("float[N, T, 4] x, int64[K] i", "Gather <axis = 2> (x, i)", "float[N, T, K]"),
    "runtime-scalar": ("float[N, T, 4] x, int64 i", "Gather <axis = 2> (x, i)", "float[N, T]"),
    "int64": ("int64[N, 4] x", "Gather <axis = 1> (x, some)", "int64[N, 3]"),
    "bool": ("bool[N, 4] x", "Gather <axis = 1> (x, some)", "bool[N, 3]"),
}
INDICES = "<int64 first = {0}, int64 last = {-1}, int64[3] some = {3, 0, -2}, int64[2, 3] square = {0, 1, 2, 3, 0, -1}>"


@pytest.mark.parametrize("row", GATHERS.values(), ids=GATHERS)
def test_gather(row):
    inputs, call, result = row
    text = f"g ({inputs}) => ({result} y) {INDICES} {{ y = {call} }}"
    check(text, layers=[], ranges={"i": (-4, 4)})


@pytest.mark.parametrize(
    ("call", "result", "transposes"),
    [("Gather <axis = 1> (c, first)", "float[N, 6, 7]", 1),
     ("Gather <axis = 1> (c, some)", "float[N, 3, 6, 7]", 2),
     ("Gather <axis = 2> (c, last)", "float[N, 5, 7]", 2),
     ("Slice (c, one, four, one)", "float[N, 3, 6, 7]", 2),
     ("GatherElements <axis = 1> (c, i)", "float[N, 2, 6, 7]", 2)],
)  # fmt: skip
def test_after_a_convolution(call, result, transposes):
    constants = INDICES[:-1] + ", float[5, 3, 1, 1] w, int64[1] one = {1}, int64[1] four = {4}>"
    check(
        f"g (float[N, 3, 6, 7] x, int64[N, 2, 6, 7] i) => ({result} y) {constants} {{ c = Conv (x, w)  y = {call} }}",
        transposes=transposes,
        ranges={"i": (0, 5)},
    )


ELEMENTS = {
    "last": ("float[N, T, 6] x, int64[N, T, 2] i", "GatherElements <axis = -1> (x, i)", "float[N, T, 2]"),
    "first": ("float[6, T] x, int64[4, T] i", "GatherElements (x, i)", "float[4, T]"),
    "smaller": ("float[5, 6] x, int64[N, 4] i", "GatherElements <axis = 0> (x, i)", "float[N, 4]"),
    "unknown-smaller": ("float[N, 6] x, int64[M, 4] i", "GatherElements <axis = 1> (x, i)", "float[M, 4]"),
    "int32-index": ("int64[N, 6] x, int32[N, 6] i", "GatherElements <axis = 1> (x, i)", "int64[N, 6]"),
}


@pytest.mark.parametrize("row", ELEMENTS.values(), ids=ELEMENTS)
def test_gather_elements(row):
    inputs, call, result = row
    sizes = [{"N": 4, "T": 3, "M": 2}, {"N": 2, "T": 5, "M": 2}]
    check(f"g ({inputs}) => ({result} y) {{ y = {call} }}", layers=[], ranges={"i": (-5, 5)}, sizes=sizes)


TUPLES = {
    "element": ("float[4, 3] x, int64[K, 2] i", "GatherND (x, i)", "float[K]"),
    "rows": ("float[4, 3, 2] x, int64[K, M, 1] i", "GatherND (x, i)", "float[K, M, 3, 2]"),
    "rows-of-the-batch": ("float[N, 3] x, int64[2, 1] i", "GatherND (x, i)", "float[2, 3]"),
    "batched": ("float[N, 5, 4] x, int64[N, K, 1] i", "GatherND <batch_dims = 1> (x, i)", "float[N, K, 4]"),
    "batched-element": ("float[N, T, 4] x, int64[N, 2] i", "GatherND <batch_dims = 1> (x, i)", "float[N]"),
    "twice-batched": (
        "float[N, T, 4] x, int64[N, T, 1] i",
        "GatherND <batch_dims = 2> (x, i)",
        "float[N, T]",
    ),
}


@pytest.mark.parametrize("row", TUPLES.values(), ids=TUPLES)
def test_gather_by_tuples(row):
    inputs, call, result = row
    check(f"g ({inputs}) => ({result} y) {{ y = {call} }}", ranges={"i": (-2, 2)})


def test_reverse_sequence():
    text = "g (float[T, N, 2] x, int64[N] n) => (float[T, N, 2] y) { y = ReverseSequence (x, n) }"
    check(text, layers=[], ranges={"n": (1, 4)}, sizes=[{"T": 4, "N": 3}, {"T": 6, "N": 2}])


# --- slices ---------------------------------------------------------------------------------------------------

FAR = 2**63 - 1
SLICES = {
    # starts, ends, axes, steps: the shape of the result
    "front": ("{0}", "{2}", "{1}", "{1}", "float[N, 2, 7]"),
    "back": ("{1}", f"{{{FAR}}}", "{1}", "{1}", "float[N, S, 7]"),
    "negative": ("{-2}", f"{{{FAR}}}", "{2}", "{1}", "float[N, T, 2]"),
    "but-last": ("{0}", "{-1}", "{1}", "{1}", "float[N, S, 7]"),
    "two-axes": ("{1, 0}", "{6, -1}", "{-1, 1}", "{2, 1}", "float[N, S, 3]"),
    "strided": ("{0}", f"{{{FAR}}}", "{1}", "{2}", "float[N, S, 7]"),
    "reversed": ("{-1}", f"{{{-FAR}}}", "{1}", "{-1}", "float[N, T, 7]"),
    "reversed-strided": ("{5}", "{0}", "{2}", "{-2}", "float[N, T, 3]"),
    "reversed-far": (f"{{{FAR}}}", f"{{{-FAR}}}", "{2}", "{-3}", "float[N, T, 3]"),
    "all": ("{0}", f"{{{FAR}}}", "{1}", "{1}", "float[N, T, 7]"),
    "empty": ("{3}", "{3}", "{2}", "{1}", "float[N, T, 0]"),
    "beyond": ("{2}", "{99}", "{2}", "{1}", "float[N, T, 5]"),
}


@pytest.mark.parametrize("row", SLICES.values(), ids=SLICES)
def test_slice(row):
    numbers = dict(zip(("s", "e", "a", "p"), row, strict=False))
    size = row[0].count(",") + 1
    constants = ", ".join(f"int64[{size}] {name} = {value}" for name, value in numbers.items())
    check(f"g (float[N, T, 7] x) => ({row[4]} y) <{constants}> {{ y = Slice (x, s, e, a, p) }}", layers=[])


def test_slice_of_the_leading_axes():
    text = "g (float[N, 5] x) => (float[M, 3] y) <int64[2] s = {1, 1}, int64[2] e = {99, 4}> { y = Slice (x, s, e) }"
    check(text, layers=[])


LENGTHS = """zero = Constant <value_ints = [0]> ()  one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()  shape = Shape (x)  t = Gather (shape, one)"""
SYMBOLIC = {
    "but-last": ("float[N, T, 3] x", "t1 = Sub (t, one)  y = Slice (x, zero, t1, one)", "float[N, S, 3]"),
    "but-two": ("float[N, T, 3] x", "t1 = Sub (t, two)  y = Slice (x, zero, t1, one)", "float[N, S, 3]"),
    "last": ("float[N, T, 3] x", "t1 = Sub (t, one)  y = Slice (x, t1, t, one)", "float[N, 1, 3]"),
    "whole": ("float[N, T, 3] x", "y = Slice (x, zero, t, one)", "float[N, T, 3]"),
    "other": ("float[N, T, 3] x, float[N, 9] z", "y = Slice (z, zero, t, one)", "float[N, T]"),
    "other-from-one": ("float[N, T, 3] x, float[N, 9] z", "y = Slice (z, one, t, one)", "float[N, S]"),
    "joined": (
        "float[N, T, 3] x, float[N, U, 3] z",
        f"c = Concat <axis = 1> (x, z)  far = Constant <value_ints = [{FAR}]> ()  y = Slice (c, t, far, one)",
        "float[N, U, 3]",
    ),
}


@pytest.mark.parametrize("row", SYMBOLIC.values(), ids=SYMBOLIC)
def test_slice_by_a_symbolic_size(row):
    inputs, nodes, result = row
    check(f"g ({inputs}) => ({result} y) {{ {LENGTHS} {nodes} }}")


def test_positions_of_a_table():
    """The first T rows of a learned table are an Embedding of the positions."""
    built = check(
        f"""g (float[N, T, 3] x) => (float[N, T, 3] y) <float[1, 9, 3] p>
        {{ {LENGTHS} rows = Slice (p, zero, t, one)  y = Add (x, rows) }}"""
    )
    assert [row.layer for row in built.made] == ["Embedding", "keras.ops"]


SPLITS = {
    "sizes": ("Split <axis = -1> (x, sizes)", "float[N, T, 2] a, float[N, T, 5] b"),
    "count": ("Split <axis = 2, num_outputs = 2> (x)", "float[N, T, 4] a, float[N, T, 3] b"),
}


@pytest.mark.parametrize("row", SPLITS.values(), ids=SPLITS)
def test_split(row):
    call, results = row
    check(f"g (float[N, T, 7] x) => ({results}) <int64[2] sizes = {{2, 5}}> {{ a, b = {call} }}", layers=[])


def test_split_in_one():
    check("g (float[N, 4] x) => (float[N, 4] y) { z = Split <axis = 1, num_outputs = 1> (x)  y = Neg (z) }")


# --- padding --------------------------------------------------------------------------------------------------

PADS = {
    "zero": ("float[N, 4] x", "{0, 1, 0, 2}", "Pad (x, p)", "float[N, 7]", []),
    "value": ("float[N, 4] x", "{0, 1, 0, 2}", "Pad (x, p, v)", "float[N, 7]", []),
    "value-runtime": ("float[N, 4] x, float r", "{0, 1, 0, 2}", "Pad (x, p, r)", "float[N, 7]", []),
    "value-int64": ("int64[N, 4] x", "{0, 1, 0, 2}", "Pad (x, p, n)", "int64[N, 7]", []),
    "time": ("float[N, T, 4] x", "{0, 2, 0, 0, 1, 0}", "Pad (x, p)", "float[N, S, 4]", ["ZeroPadding1D"]),
    "time-axes": ("float[N, T, 4] x", "{2, 1}", "Pad (x, p, , a)", "float[N, S, 4]", ["ZeroPadding1D"]),
    "last-axis": ("float[N, T, 4] x", "{2, 1}", "Pad (x, p, v, l)", "float[N, T, 7]", []),
    "crop": ("float[N, T, 4] x", "{0, -1, 0, 0, -1, -2}", "Pad (x, p)", "float[N, S, 2]", []),
    "crop-and-pad": ("float[N, T, 4] x", "{0, -1, 1, 0, 1, 0}", "Pad (x, p, v)", "float[N, T, 5]", []),
    "reflect": ("float[N, 6] x", "{0, 2, 0, 1}", 'Pad <mode = "reflect"> (x, p)', "float[N, 9]", []),
    "reflect, first axis": (
        "float[3, T, 4] x",
        "{2, 0, 1, 1, 0, 3}",
        'Pad <mode = "reflect"> (x, p)',
        "float[6, T, 8]",
        [],
    ),
    "edge": ("float[N, T, 4] x", "{0, 2, 1, 0, 1, 0}", 'Pad <mode = "edge"> (x, p)', "float[N, S, 5]", []),
    "wrap": ("float[N, T, 4] x", "{0, 2, 3, 0, 1, 0}", 'Pad <mode = "wrap"> (x, p)', "float[N, S, 7]", []),
    "nothing": ("float[N, 4] x", "{0, 0, 0, 0}", "Pad (x, p)", "float[N, 4]", []),
    "bool": ("bool[N, 4] x", "{0, 1, 0, 2}", "Pad (x, p)", "bool[N, 7]", []),
}


@pytest.mark.parametrize("row", PADS.values(), ids=PADS)
def test_pad(row):
    inputs, pads, call, result, layers = row
    size = pads.count(",") + 1
    constants = f"int64[{size}] p = {pads}, float v = {{1.5}}, int64 n = {{7}}, int64[1] a = {{1}}, int64[1] l = {{-1}}"
    check(f"g ({inputs}) => ({result} y) <{constants}> {{ y = {call} }}", layers=layers)


def test_pad_after_a_convolution():
    check(
        """g (float[N, 3, 6, 7] x) => (float[N, 2, 8, 10] y)
        <float[5, 3, 1, 1] w, float[2, 5, 1, 1] v, int64[8] p = {0, 0, 1, 0, 0, 0, 1, 3}>
        { c = Conv (x, w)  d = Pad (c, p)  y = Conv (d, v) }""",
        layers=["Conv2D", "ZeroPadding2D", "Conv2D"],
        transposes=2,
    )


# --- writing by index -----------------------------------------------------------------------------------------

SCATTERS = {
    "nd-rows": ("float[5, 3] x, int64[2, 1] i, float[2, 3] u", "ScatterND (x, i, u)", "float[5, 3]"),
    "nd-elements": (
        "float[5, 3] x, int64[K, 2] i, float[K] u",
        'ScatterND <reduction = "add"> (x, i, u)',
        "float[5, 3]",
    ),
    "nd-batch": ("float[N, 3] x, int64[1, 1] i, float[1, 3] u", "ScatterND (x, i, u)", "float[N, 3]"),
    "elements": (
        "float[N, 5] x, int64[N, 1] i, float[N, 1] u",
        "ScatterElements <axis = 1> (x, i, u)",
        "float[N, 5]",
    ),
    "elements-add": (
        "float[N, T, 5] x, int64[N, T, 2] i, float[N, T, 2] u",
        'ScatterElements <axis = -1, reduction = "add"> (x, i, u)',
        "float[N, T, 5]",
    ),
    "elements-max": (
        "float[4, T] x, int64[2, T] i, float[2, T] u",
        'ScatterElements <reduction = "max"> (x, i, u)',
        "float[4, T]",
    ),
}


@pytest.mark.parametrize("row", SCATTERS.values(), ids=SCATTERS)
def test_scatter(row):
    inputs, call, result = row
    low = 0 if "[2, 1]" not in inputs else -1
    check(f"g ({inputs}) => ({result} y) {{ y = {call} }}", layers=[], ranges={"i": (low, low + 2)})


ROWS = {
    "all": ("{0, 1, 2, 3, 4}", []),
    "first": ("{0, 1, 2}", ["Concatenate"]),
    "inner": ("{1, 2}", ["Concatenate"]),
    "last": ("{-2, -1}", ["Concatenate"]),
    "apart": ("{0, 2}", []),  # as they are
    "backwards": ("{2, 1, 0}", []),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_writing_channels(row):
    """Channels that stand side by side are written by joining; torch's exporter writes along the first axis only."""
    rows, layers = row
    count = rows.count(",") + 1
    check(
        f"""g (float[N, 5, 4] x, float[N, {count}, 4] u) => (float[N, 5, 4] y)
        {{ i = Constant <value = int64[{count}, 1] {rows}> ()
          d = Transpose <perm = [1, 0, 2]> (x)  v = Transpose <perm = [1, 0, 2]> (u)
          s = ScatterND (d, i, v)  y = Transpose <perm = [1, 0, 2]> (s) }}""",
        layers=layers,
        transposes=0 if layers or count == 5 else 3,
    )


def test_scatter_elements_to_constant_places():
    check(
        """g (float[N, 5] x, float[2, 3] u) => (float[N, 5] y) <int64[2, 3] i = {1, 0, 2, 1, 1, 0}>
        { y = ScatterElements <axis = 0> (x, i, u) }""",
        sizes=[{"N": 3}, {"N": 4}],
    )


# --- masks by index -------------------------------------------------------------------------------------------

MASKS = {
    "one-hot": ("int64[N, T] i", "OneHot (i, depth, values)", "float[N, T, 5]"),
    "one-hot-axis": ("int64[N, T] i", "OneHot <axis = 1> (i, depth, values)", "float[N, 5, T]"),
    "one-hot-first": ("int64[N] i", "OneHot <axis = 0> (i, depth, values)", "float[5, N]"),
    "one-hot-of-nothing": ("int64[N] i, float[2] v", "OneHot (nothing, depth, v)", "float[0, 5]"),
    "one-hot-int64": ("int64[N] i", "OneHot (i, depth, numbers)", "int64[N, 5]"),
    "upper": ("float[N, 4, 5] x", "Trilu (x)", "float[N, 4, 5]"),
    "lower": ("float[N, 4, 5] x", "Trilu <upper = 0> (x, one)", "float[N, 4, 5]"),
    "upper-symbolic": ("float[T, T] x", "Trilu (x, minus)", "float[T, T]"),
    "upper-beyond": ("float[N, T, 4] x", "Trilu (x, depth)", "float[N, T, 4]"),
    "lower-beyond": ("float[T, T] x", "Trilu <upper = 0> (x, depth)", "float[T, T]"),
    "upper-bool": ("bool[N, 4, 4] x", "Trilu (x, one)", "bool[N, 4, 4]"),
    "upper-int64": ("int64[4, 5] x", "Trilu (x, one)", "int64[4, 5]"),
    "eye": ("float[N, T] x", "EyeLike <k = 1> (x)", "float[N, T]"),
    "eye-of-nothing": ("float[0, T] x", "EyeLike <k = 1> (x)", "float[0, T]"),
    "eye-int64": ("float[N, 3] x", "EyeLike <dtype = 7> (x)", "int64[N, 3]"),
}


@pytest.mark.parametrize("row", MASKS.values(), ids=MASKS)
def test_mask(row):
    inputs, call, result = row
    constants = """int64 depth = {5}, float[2] values = {-1, 2.5}, int64[2] numbers = {0, 3}, int64 one = {1},
        int64 minus = {-1}, int64[0] nothing = {}"""
    check(f"g ({inputs}) => ({result} y) <{constants}> {{ y = {call} }}", layers=[], ranges={"i": (-7, 7)})


REFUSED = {
    "unequal-split": (
        "g (float[N, T] x) => (float[N, A] a, float[N, B] b) { a, b = Split <axis = 1, num_outputs = 2> (x) }",
        "unknown size, T, is split",
    ),
    "pads-of-an-input": (
        "g (float[N, 4] x, int64[4] p) => (float[A, B] y) { y = Pad (x, p) }",
        "pads .p. has to be known or symbolic integers",
    ),
    "lengths-of-other-rows": (
        "g (float[T, 3] x) => (float[T, 3] y) <int64[4] n = {1, 1, 1, 1}> { y = ReverseSequence (x, n) }",
        "4 lengths for 3 rows",
    ),
    "rows-along-the-time": (
        "g (float[4, 3] x) => (float[4, 3] y) <int64[4] n = {1, 1, 1, 1}> { y = ReverseSequence <batch_axis = 0> (x, n) }",
        "time_axis=0 and batch_axis=0",
    ),
    "slice-of-a-slice": (
        f"g (float[N, T, 3] x, float[N, 9] z) => (float[N, A] y) {{ {LENGTHS} y = Slice (z, zero, t, one, two) }}",
        "Keras cannot say the slice 0:T:2",
    ),
}


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_refusals(row):
    refuses(*row)


ENDS = [
    (0, 10**9, 1), (1, 2**63 - 1, 1), (0, 100, 1), (2, 4, 1), (-100, 3, 1), (-2, 2**31 - 1, 1), (0, -1, 2),
    (-1, -(2**63), -1), (100, -100, -3), (2**63 - 1, -(2**63), -2),
]  # fmt: skip


@pytest.mark.parametrize("ends", ENDS, ids=str)
def test_ends_beyond_the_end_of_a_symbolic_axis(ends):
    """The size of the slice is that of the axis where it is shorter, also behind it."""
    start, end, step = ends
    check(
        "g (float[N, T, 8] x) => (float[A, B] y) "
        f"<int64[1] s = {{{start}}}, int64[1] e = {{{end}}}, int64[1] a = {{1}}, int64[1] p = {{{step}}}> {{ "
        "c = Slice (x, s, e, a, p) d = Shape (c) i = Constant <value_ints = [1]> () n = Gather (d, i) "
        "l = Constant <value_ints = [-1]> () r = Concat <axis = 0> (n, l) y = Reshape (c, r) }",
        sizes=[{"N": 3, "T": 5}, {"N": 2, "T": 7}, {"N": 2, "T": 3}],
    )


@pytest.mark.parametrize("start", [0, 1])
def test_an_end_that_is_the_size_of_something_else(start):
    """It may lie beyond the end of the axis."""
    text = f"""g (float[T, 3] x, float[N, 2] z) => (float[A, 3] y) <int64[1] s = {{{start}}}, int64[1] a = {{0}}> {{
        n = Shape <start = 0, end = 1> (z)  y = Slice (x, s, n, a) }}"""
    check(text, sizes=[{"T": t, "N": n} for t, n in ((5, 2), (2, 5), (3, 3), (1, 4))])


def test_such_an_end_where_the_backend_has_to_know_it(monkeypatch):
    monkeypatch.setattr("bridge.ops.indexing.counts_while_running", lambda: False)
    text = """g (float[T, 3] x, float[N, 2] z) => (float[A, 3] y) <int64[1] s = {0}, int64[1] a = {0}> {
        n = Shape <start = 0, end = 1> (z)  y = Slice (x, s, n, a) }"""
    refuses(text, "a slice to N of an axis of size T, which may be shorter")


KNOWN = {
    "rows": ("float[2, T] y", "Compress <axis = 0> (x, c)"),
    "columns": ("float[4, 2] y", "Compress <axis = -1> (x, c)"),
    "elements": ("float[2] y", "Compress (x, c)"),
}


@pytest.mark.parametrize("row", KNOWN.values(), ids=KNOWN)
def test_compress_by_a_known_condition(row):
    """It may be shorter than the axis: what is behind it is left out."""
    result, call = row
    size = "T" if "T" in result else "5"
    check(f"g (float[4, {size}] x) => ({result}) <bool[3] c = {{1, 0, 1}}> {{ y = {call} }}")
