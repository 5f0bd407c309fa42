"""Other shapes for the same elements, repetition, joins: rows of ONNX text, each proved against onnxruntime."""

import pytest
from checking import check, refuses

SIZES = """zero = Constant <value_ints = [0]> ()  one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()  minus = Constant <value_ints = [-1]> ()  three = Constant <value_ints = [3]> ()
    four = Constant <value_ints = [4]> ()  s = Shape (x)  n = Gather (s, zero)  t = Gather (s, one)"""

# --- Reshape --------------------------------------------------------------------------------------------------

RESHAPES = {
    # input, shape, result, the layers
    "split": ("float[N, 12]", "{0, 3, 4}", "float[N, 3, 4]", ["Reshape"]),
    "flatten": ("float[N, 3, 4]", "{0, 12}", "float[N, 12]", ["Flatten"]),
    "flatten-minus": ("float[N, 3, 4]", "{0, -1}", "float[N, 12]", ["Flatten"]),
    "fold": ("float[N, T, 4]", "{-1, 4}", "float[M, 4]", []),
    "fold-all": ("float[N, T, 4]", "{-1}", "float[M]", []),
    "heads": ("float[N, T, 12]", "{0, 0, 3, 4}", "float[N, T, 3, 4]", ["Reshape"]),
    "heads-joined": ("float[N, T, 3, 4]", "{0, 0, -1}", "float[N, T, 12]", ["Reshape"]),
    "lead": ("float[N, 3]", "{1, -1, 3}", "float[1, N, 3]", []),
    "known": ("float[2, 6]", "{3, -1}", "float[3, 4]", []),
    "int64": ("int64[N, 6]", "{-1, 3}", "int64[M, 3]", []),
    "three-unknown": ("float[N, T, U, 12]", "{0, 0, 0, 3, 4}", "float[N, T, U, 3, 4]", []),
}


@pytest.mark.parametrize("row", RESHAPES.values(), ids=RESHAPES)
def test_reshape(row):
    x, shape, result, layers = row
    size = shape.count(",") + 1
    check(f"g ({x} x) => ({result} y) <int64[{size}] s = {shape}> {{ y = Reshape (x, s) }}", layers=layers)


COMPUTED = {
    # x, how its target shape is computed, result
    "unfold": ("float[N, T, 4] x", "f = Constant <value_ints = [-1, 2]> ()  r = Reshape (x, f)  "
               "to = Concat <axis = 0> (n, t, two, two)  y = Reshape (r, to)", "float[N, T, 2, 2]"),
    "unfold-features": ("float[N, T, 4] x", "f = Constant <value_ints = [-1, 4]> ()  r = Reshape (x, f)  "
                        "to = Concat <axis = 0> (n, t, four)  y = Reshape (r, to)", "float[N, T, 4]"),
    "unfold-with-minus": ("float[N, T, 4] x", "f = Constant <value_ints = [-1, 4]> ()  r = Reshape (x, f)  "
                          "to = Concat <axis = 0> (n, minus, four)  y = Reshape (r, to)", "float[N, T, 4]"),
    "heads-in-the-batch": ("float[N, T, 3, 4] x", "p = Transpose <perm = [0, 2, 1, 3]> (x)  m = Mul (n, three)  "
                           "to = Concat <axis = 0> (m, t, four)  y = Reshape (p, to)", "float[M, T, 4]"),
    "heads-out-of-the-batch": ("float[N, T, 4] x, float[M, T, 2] z", "to = Concat <axis = 0> (n, three, t, two)  "
                               "y = Reshape (z, to)", "float[N, 3, T, 2]"),
    "time-major-heads": ("float[T, N, 12] x", "m = Mul (t, three)  to = Concat <axis = 0> (n, m, four)  "
                         "y = Reshape (x, to)", "float[T, M, 4]"),
    "chunks": ("float[N, T, 4] x", "h = Div (t, two)  to = Concat <axis = 0> (n, h, two, four)  "
               "y = Reshape (x, to)", "float[N, H, 2, 4]"),
    "swapped": ("float[N, T, 4] x", "to = Concat <axis = 0> (t, n, four)  y = Reshape (x, to)", "float[T, N, 4]"),
}  # fmt: skip
COMPUTED_SIZES = {
    "heads-out-of-the-batch": [{"N": 2, "T": 5, "M": 6}, {"N": 4, "T": 3, "M": 12}],
    "chunks": [{"N": 2, "T": 6}, {"N": 3, "T": 4}],
}


@pytest.mark.parametrize("name", COMPUTED)
def test_reshape_to_computed_sizes(name):
    """Nothing is frozen at an example size, and every file loads with Keras alone."""
    inputs, nodes, result = COMPUTED[name]
    check(
        f"g ({inputs}) => ({result} y) {{ {SIZES} {nodes} }}",
        transposes=nodes.count("Transpose"),
        sizes=COMPUTED_SIZES.get(name),
    )


FLATTENS = {
    "default": ("float[N, 3, 4]", "Flatten (x)", "float[N, 12]", ["Flatten"]),
    "two": ("float[N, T, 4]", "Flatten <axis = 2> (x)", "float[M, 4]", []),
    "zero": ("float[N, 3, 4]", "Flatten <axis = 0> (x)", "float[1, M]", []),
    "negative": ("float[N, 3, 4]", "Flatten <axis = -1> (x)", "float[M, 4]", []),
    "unknown": ("float[N, T, 4]", "Flatten (x)", "float[N, M]", ["Reshape"]),
}


@pytest.mark.parametrize("row", FLATTENS.values(), ids=FLATTENS)
def test_flatten(row):
    x, call, result, layers = row
    check(f"g ({x} x) => ({result} y) {{ y = {call} }}", layers=layers)


# --- axes of size one -----------------------------------------------------------------------------------------

AXES = {
    "squeeze": ("float[N, 1, 4]", "Squeeze (x, one)", "float[N, 4]"),
    "squeeze-negative": ("float[N, T, 1, 1]", "Squeeze (x, ends)", "float[N, T]"),
    "squeeze-all": ("float[3, 1, 4, 1]", "Squeeze (x)", "float[3, 4]"),
    "unsqueeze": ("float[N, T]", "Unsqueeze (x, one)", "float[N, 1, T]"),
    "unsqueeze-negative": ("float[N, T]", "Unsqueeze (x, ends)", "float[N, T, 1, 1]"),
    "unsqueeze-scalar": ("float", "Unsqueeze (x, zero)", "float[1]"),
}


@pytest.mark.parametrize("row", AXES.values(), ids=AXES)
def test_axes_of_size_one(row):
    x, call, result = row
    constants = "int64[1] zero = {0}, int64[1] one = {1}, int64[2] ends = {-1, -2}"
    check(f"g ({x} x) => ({result} y) <{constants}> {{ y = {call} }}", layers=[])


@pytest.mark.parametrize(
    ("nodes", "transposes"),
    [("s = Squeeze (c, two)  u = Unsqueeze (s, two)  y = Conv (u, v)", 2),
     ("s = Squeeze (c)  u = Unsqueeze (s, two)  y = Conv (u, v)", 2),
     ("u = Unsqueeze (c, four)  d = Relu (u)  s = Squeeze (d, four)  y = Conv (s, v)", 2),
     ("u = Unsqueeze (c, zero)  d = Relu (u)  s = Squeeze (d, zero)  y = Conv (s, v)", 2),
     ("a = Concat <axis = 1> (c, c)  h, k = Split <axis = 1, num_outputs = 2> (a)  y = Conv (k, v)", 2)],
)  # fmt: skip
def test_after_a_convolution(nodes, transposes):
    constants = "int64[1] zero = {0}, int64[1] two = {2}, int64[1] four = {4}"
    check(
        f"""g (float[3, 3, 1, 7] x) => (float[3, 2, 1, 7] y)
        <float[5, 3, 1, 1] w, float[2, 5, 1, 1] v, {constants}> {{ c = Conv (x, w)  {nodes} }}""",
        transposes=transposes,
    )


@pytest.mark.parametrize("gate", ["a, b", "b, a"])
def test_gates_follow_the_maps_that_they_weigh(gate):
    """Axes of size one lie anywhere, so that only the maps have an order that costs a transpose to leave."""
    check(
        f"""g (float[N, 3, H, W] x, float[N, 2, 2, 1, 1] b) => (float[N, 3, H, W] y)
        <float[4, 3, 1, 1] w, float[3, 2, 1, 1] v>
        {{ c = Conv (x, w)  n = Shape <end = 1> (x)  hw = Shape <start = 2> (x)
          two = Constant <value_ints = [2, 2]> ()  one = Constant <value_ints = [1]> ()
          paths = Concat <axis = 0> (n, two, hw)  a = Reshape (c, paths)
          m = Mul ({gate})  s = ReduceSum <keepdims = 0> (m, one)  y = Conv (s, v) }}""",
        transposes=2,
    )


# --- repetition -----------------------------------------------------------------------------------------------

REPEATS = {
    "expand": ("float[1, 4] x", "to = Constant <value_ints = [3, 4]> ()  y = Expand (x, to)", "float[3, 4]"),
    "expand-ones": ("float[N, T, 1] x", "to = Constant <value_ints = [1, 1, 4]> ()  y = Expand (x, to)", "float[N, T, 4]"),
    "expand-rank": ("float[N, 4] x", "to = Constant <value_ints = [2, 1, 1]> ()  y = Expand (x, to)", "float[2, N, 4]"),
    "expand-time": ("float[N, 1, 4] x, float[N, T] z",
                    "u = Shape <start = 1, end = 2> (z)  to = Concat <axis = 0> (n, u, four)  y = Expand (x, to)",
                    "float[N, T, 4]"),
    "expand-int64": ("int64[N, 1] x, float[N, T] z", "to = Shape (z)  y = Expand (x, to)", "int64[N, T]"),
    "expand-bool": ("bool[1, 1] x, float[N, T] z", "to = Shape (z)  y = Expand (x, to)", "bool[N, T]"),
    "expand-scalar": ("float x, float[N, T] z", "to = Shape (z)  y = Expand (x, to)", "float[N, T]"),
    "expand-longer": ("float[N, 1] x, float[N, T] z", "one_ = Constant <value_ints = [1]> ()  "
                      "u = Shape <start = 1, end = 2> (z)  w = Add (u, one_)  m = Shape <end = 1> (x)  "
                      "to = Concat <axis = 0> (m, w)  y = Expand (x, to)", "float[N, S]"),
    "expand-one-of": ("float[N, T] x", "two_ = Constant <value_ints = [2]> ()  end = Constant <value_ints = [99]> ()  "
                      "a = Constant <value_ints = [1]> ()  none = Constant <value_ints = [0]> ()  "
                      "w = Concat <axis = 1> (x, x, x)  p = Slice (w, two_, end, a)  f = Slice (p, none, a, a)  "
                      "to = Shape (p)  y = Expand (f, to)", "float[N, S]"),
    "tile": ("float[N, 3] x", "to = Constant <value_ints = [2, 3]> ()  y = Tile (x, to)", "float[M, 9]"),
    "tile-time": ("float[N, 3] x, float[N, T] z", "one_ = Constant <value_ints = [1]> ()  "
                  "u = Shape <start = 1, end = 2> (z)  to = Concat <axis = 0> (one_, u)  y = Tile (x, to)",
                  "float[N, S]"),
    "constant": ("float[N, T] x", "to = Shape (x)  z = ConstantOfShape (to)  y = Add (x, z)", "float[N, T]"),
    "constant-int64": ("int64[N, T] x", "to = Shape (x)  z = ConstantOfShape <value = int64[1] {5}> (to)  "
                       "y = Add (x, z)", "int64[N, T]"),
    "constant-rank": ("float[N, 3] x", "m = Shape <end = 1> (x)  to = Concat <axis = 0> (two, m, three)  "
                      "z = ConstantOfShape <value = float[1] {2.5}> (to)  y = Mul (z, z)", "float[2, N, 3]"),
}  # fmt: skip


@pytest.mark.parametrize("row", REPEATS.values(), ids=REPEATS)
def test_repeat(row):
    inputs, nodes, result = row
    sizes = SIZES if "n, " in nodes else SIZES.split("s = Shape")[0]
    check(f"g ({inputs}) => ({result} y) {{ {sizes} {nodes} }}")


# --- joins ----------------------------------------------------------------------------------------------------

JOINS = {
    "two": (
        "float[N, T, 4] a, float[N, T, 3] b",
        "Concat <axis = -1> (a, b)",
        "float[N, T, 7]",
        ["Concatenate"],
    ),
    "time": (
        "float[N, T, 4] a, float[N, U, 4] b",
        "Concat <axis = 1> (a, b)",
        "float[N, S, 4]",
        ["Concatenate"],
    ),
    "batch": ("float[N, 4] a, float[M, 4] b", "Concat <axis = 0> (a, b)", "float[S, 4]", ["Concatenate"]),
    "one": ("float[N, 4] a", "Concat <axis = 1> (a)", "float[N, 4]", []),
    "constant": ("float[3, T] a", "Concat <axis = 1> (c, a)", "float[3, S]", []),
    "vectors": ("float[N] a, float[M] b", "Concat <axis = 0> (a, b)", "float[S]", []),
    "int64": ("int64[N, 4] a, int64[N, 4] b", "Concat <axis = 1> (a, b)", "int64[N, 8]", []),
    "bool": ("bool[N, 4] a, bool[N, 4] b", "Concat <axis = 1> (a, b)", "bool[N, 8]", []),
    "double": ("double[N, 4] a, double[N, 4] b", "Concat <axis = 1> (a, b)", "double[N, 8]", ["Concatenate"]),
}


@pytest.mark.parametrize("row", JOINS.values(), ids=JOINS)
def test_join(row):
    inputs, call, result, layers = row
    check(f"g ({inputs}) => ({result} y) <float[3, 1] c = {{1, 2, 3}}> {{ y = {call} }}", layers=layers)


EINSUMS = {
    "matrix": ("float[N, 3] a, float[3, 5] b", "ij,jk->ik", "float[N, 5]"),
    "batch": ("float[N, T, 3] a, float[N, U, 3] b", "bqd, bkd -> bqk", "float[N, T, U]"),
    "heads": ("float[N, T, 2, 3] a, float[N, U, 2, 3] b", "bqhd,bkhd->bhqk", "float[N, 2, T, U]"),
    "implicit": ("float[N, 3] a, float[3, 5] b", "ij,jk", "float[N, 5]"),
    "capitals": ("float[N, T, 3] a, float[N, U, 3] b", "B Q d, B K d -> B Q K", "float[N, T, U]"),
    "ellipsis": ("float[N, T, 3] a, float[5, 3] b", "...i,oi->...o", "float[N, T, 5]"),
    "implicit, ellipsis": ("float[N, 2, 3] a, float[N, 3, 4] b", "...ij, ...jk", "float[N, 2, 4]"),
    "implicit, sorted": ("float[3] a, float[N, 3] b", "b, zb", "float[N]"),
    "one for many": ("float[9, 1] a, float[9, 9] b", "ij,jk", "float[9, 9]"),
    "one for many, ellipsis": (
        "float[1, N, 1, 3] a, float[4, 1, 5, 3] b",
        "...i,...i->...",
        "float[4, N, 5]",
    ),
    "repeated": ("float[3, 3] a, float[3, N] b", "ii,ij->ij", "float[3, N]"),
}


@pytest.mark.parametrize("row", EINSUMS.values(), ids=EINSUMS)
def test_einsum(row):
    inputs, equation, result = row
    check(f'g ({inputs}) => ({result} y) {{ y = Einsum <equation = "{equation}"> (a, b) }}', layers=[])


def test_einsum_keeps_the_digits_of_a_number():
    row = "g (double[N] x) => (double[N] y) <double k = {1.624801301320466}> {"
    check(row + ' y = Einsum <equation = "i,->i"> (x, k) }')


@pytest.mark.parametrize("equation", ["ba", " b a -> a b", "a...->...a"])
def test_einsum_of_one(equation):
    check(f'g (float[N, 3] x) => (float[A, B] y) {{ y = Einsum <equation = "{equation}"> (x) }}', layers=[])


# --- sizes as tensors -----------------------------------------------------------------------------------------

NUMBERS = {
    "shape": ("float[N, T, 4] x", "y = Shape (x)", "int64[3]"),
    "shape-part": ("float[N, T, 4] x", "y = Shape <start = 1, end = -1> (x)", "int64[1]"),
    "size": ("float[N, T, 4] x", "y = Size (x)", "int64"),
    "mean": ("float[N, T] x", "z = ReduceSum <keepdims = 0> (x, one)  t_f = Cast <to = 1> (t)  y = Div (z, t_f)", "float[N]"),
    "range": ("float[N, T] x", "y = Range (i0, t0, i1)", "int64[T]"),
    "range-step": ("float[N, T] x", "y = Range (i1, t0, i2)", "int64[S]"),
    "range-down": ("float[N, T] x", "y = Range (t0, i0, down)", "int64[T]"),
    "range-from": ("float[N, T] x", "u = Add (t0, i2)  y = Range (t0, u, i1)", "int64[2]"),
    "range-float": ("float[N, T] x", "a = Cast <to = 1> (i0)  b = Cast <to = 1> (t0)  c = Cast <to = 1> (i1)  "
                    "r = Range (a, b, c)  y = Add (x, r)", "float[N, T]"),
}  # fmt: skip


@pytest.mark.parametrize("row", NUMBERS.values(), ids=NUMBERS)
def test_sizes(row):
    inputs, nodes, result = row
    scalars = """i0 = Constant <value_int = 0> ()  i1 = Constant <value_int = 1> ()  i2 = Constant <value_int = 2> ()
        down = Constant <value_int = -1> ()  t0 = Gather (s, i1)"""
    check(f"g ({inputs}) => ({result} y) {{ {SIZES} {scalars} {nodes} }}")


def test_causal_mask_of_a_symbolic_length():
    check(
        f"""g (float[N, T, T] x) => (float[N, T, T] y)
        {{ {SIZES} i0 = Constant <value_int = 0> ()  i1 = Constant <value_int = 1> ()  t0 = Gather (s, i1)
           r = Range (i0, t0, i1)  q = Unsqueeze (r, one)  m = LessOrEqual (r, q)
           low = Constant <value_float = -9.0> ()  y = Where (m, x, low) }}"""
    )


# --- blocks of pixels -----------------------------------------------------------------------------------------

BLOCKS = {
    "shuffle": ('DepthToSpace <blocksize = 2, mode = "CRD"> (x)', "float[N, 12, 3, 4]", "float[N, 3, 6, 8]"),
    "depth": ("DepthToSpace <blocksize = 2> (x)", "float[N, 12, 3, 4]", "float[N, 3, 6, 8]"),
    "depth-unknown": ("DepthToSpace <blocksize = 2> (x)", "float[N, 12, H, W]", "float[N, 3, A, B]"),
    "space": ("SpaceToDepth <blocksize = 2> (x)", "float[N, 3, 4, 6]", "float[N, 12, 2, 3]"),
}


@pytest.mark.parametrize("row", BLOCKS.values(), ids=BLOCKS)
def test_blocks(row):
    call, x, y = row
    check(f"g ({x} x) => ({y} y) {{ y = {call} }}", layers=[], transposes=2)


LEADING = {
    "expand": "g (float[A, B] x) => (float[1, A, B] y) <int64[3] s = {1, 1, 1}> { y = Expand (x, s) }",
    "expand, as another": "g (float[B] x, bool[1, A, B] z) => (float[1, A, B] y) { s = Shape (z) y = Expand (x, s) }",
    "expand, of booleans": "g (bool[A] x) => (bool[1, 1, A] y) <int64[3] s = {1, 1, 1}> { y = Expand (x, s) }",
    "filled": (
        "g (float[1, 6, A] x) => (int64[1, 6, A] y) { s = Shape (x) y = ConstantOfShape <value = int64[1] {1}> (s) }"
    ),
    "filled, one axis": "g (float[1, A] x) => (float[1, A] y) { s = Shape (x) y = ConstantOfShape (s) }",
    "squeezed, one axis free": "g (float[A, 1, 3] x) => (float[A, B] y) { y = Squeeze (x) }",
    "squeezed, no axis known as one": "g (float[A, 3] x) => (float[A, 3] y) { y = Squeeze (x) }",
    "squeezed, and its axes read": (
        "g (float[A, 1, 3] x) => (float y) { s = Squeeze (x) t = Softmax <axis = 0> (s) y = ReduceSum <keepdims = 0> (t) }"
    ),
}


@pytest.mark.parametrize("source", LEADING.values(), ids=LEADING)
def test_leading_axes_of_size_one(source):
    check(source)


OUTPUTS = {
    "a constant": "g (float[N, 4] x) => (float[2] y, float[N, 4] z) { y = Constant <value_floats = [1.5, 2.5]> () z = Relu (x) }",
    "a constant of integers": "g (bool[N] x) => (int64[N] y, int64 z) { y = Cast <to = 7> (x) z = Constant <value_int = 7> () }",
    "a constant of booleans": "g (float[N] x) => (bool[2] y, float[N] z) <bool[2] c = {0, 1}> { y = Identity (c) z = Relu (x) }",
    "a size that is known": "g (float[N, 4] x) => (int64[1] y, float[N, 4] z) { y = Shape <start = 1> (x) z = Relu (x) }",
    "an input": "g (float[N, 4] x) => (float[N, 4] y, float[N, 4] z) { y = Identity (x) z = Relu (x) }",
    "the same twice": "g (float[N, 4] x) => (float[N, 4] y, float[N, 4] z) { y = Relu (x) z = Identity (y) }",
}


@pytest.mark.parametrize("source", OUTPUTS.values(), ids=OUTPUTS)
def test_outputs_that_are(source):
    check(source)


REFUSED = {
    "reshape": (
        "g (float[N, 4] x, int64[2] s) => (float[A, B] y) { y = Reshape (x, s) }",
        "shape .s. has to be known or symbolic",
    ),
    "features": (
        "g (float[N, K, 2] x) => (float[N, 3] y) <float[4, 3] w> { f = Flatten (x)  y = MatMul (f, w) }",
        r"MatMul.*its weights are for 4 numbers, and how many it is given is free: 2\*K; fix the axes",
    ),
    "features-of-integers": (
        "g (int64[N, K, 2] x) => (int64[N, 3] y) <int64[4, 3] w> { f = Flatten (x)  y = MatMul (f, w) }",
        r"MatMul.*its weights are for 4 numbers, and how many it is given is free: 2\*K; fix the axes",
    ),
    "input-of-strings": (
        "g (string[N] x) => (string[N] y) { y = Identity (x) }",
        "input at x: Keras has no type STRING",
    ),
    "range": (
        "g (float[N] x, int64 b) => (int64[A] y) { a = Constant <value_int = 0> () "
        "c = Constant <value_int = 1> () y = Range (a, b, c) }",
        "limit .b. has to be known or symbolic",
    ),
    "range-of-fractions": (
        "g (float[N] x) => (float[A] y) { s = Size (x) b = Cast <to = 1> (s) a = Constant <value_float = 0.5> () "
        "c = Constant <value_float = 1.0> () y = Range (a, b, c) }",
        "start .* has to be known or symbolic",
    ),
}


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_refusals(row):
    refuses(*row)


EQUATIONS = {  # onnxruntime lets an axis of one stand beside any other of its letter
    "summed": ("float[9, 1] a, float[9, 9] b", "ij,jk"),
    "kept": ("float[9, 1] a, float[9, 4] b", "ij,ij->ij"),
    "implicit": ("float[2, 3, 1, 4] a, float b", "cdbe,"),
    "spaces": ("float[2, 1, 1] a, float[2, 1, 2] b", "edf , cfb"),
}


@pytest.mark.parametrize("row", EQUATIONS.values(), ids=EQUATIONS)
def test_einsum_broadcasts(row):
    inputs, equation = row
    rank = {"ij,jk": 2, "ij,ij->ij": 2}.get(equation, 4)
    dims = ", ".join("ABCD"[:rank])
    check(f'g ({inputs}) => (float[{dims}] y) {{ y = Einsum <equation = "{equation}"> (a, b) }}')


@pytest.mark.parametrize("op", ["DepthToSpace", "SpaceToDepth"])
def test_blocks_of_one(op):
    check(
        f"g (float[N, 4, 3, 5] x) => (float[N, 4, 3, 5] y) {{ y = {op} <blocksize = 1> (x) }}", transposes=2
    )


PRODUCTS = {
    "MatMul": ("[N, 2, 3] a, {0}[N, 3, 4] b", "[N, 2, 4]", "MatMul (a, b)"),
    "MatMul of fewer axes": ("[3] a, {0}[N, 3, 4] b", "[N, 4]", "MatMul (a, b)"),
    "MatMul of a row": ("[N, 2, 3] a, {0}[3] b", "[N, 2]", "MatMul (a, b)"),
    "MatMul of one batch": ("[1, 2, 3] a, {0}[N, 3, 4] b", "[N, 2, 4]", "MatMul (a, b)"),
    "Einsum": ("[N, 2, 3] a, {0}[4, 3] b", "[4, N]", 'Einsum <equation = "nij,kj->kn"> (a, b)'),
}


def test_sizes_of_what_is_empty():
    """A file keeps them."""
    check(
        "g (float[2, N] x) => (float[A, N] y, float[B, A, N] z) <int64[1] s = {0}, int64[1] m = {3}> "
        "{ p = Slice (x, s, s, s)  n = Shape (p)  y = ConstantOfShape (n)  l = Concat <axis = 0> (m, n)  z = Expand (y, l) }"
    )


def test_a_product_of_no_numbers():
    check("g (int64[1] x) => (int64[A] y) <int64[1, 0] w = {}> { y = MatMul (x, w) }")


UNSIGNED = {"uint32", "uint64"}  # of which onnxruntime has no Einsum


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in PRODUCTS
        for kind in ("int32", "int64", "uint32", "uint64")
        if name != "Einsum" or kind not in UNSIGNED
    ],
)
def test_products_of_integers(name, kind):
    given, made, call = PRODUCTS[name]
    ranges = {"a": (1 << 25, 1 << 26), "b": (1, 5)}
    check(f"g ({kind}{given.format(kind)}) => ({kind}{made} y) {{ y = {call} }}", ranges=ranges)
