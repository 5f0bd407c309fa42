"""An If that is decided while converting, and weights that a file keeps in Constant nodes."""

import itertools
import re

import numpy as np
import pytest
from checking import check, parse, planned, refuses

from bridge.graph.ranges import Range
from bridge.passes.settle_branches import SETTLED
from bridge.verification.inputs.sizes import allowed_sizes, search

TRUE = "c = Constant <value = bool {1}> () "


def choice(condition: str, then: str, otherwise: str, behind: str = "") -> str:
    """An If on x, each branch a graph that gives a."""
    return (
        f"g (float[N, 4] x) => (float[N, 4] y) {{ {condition} y = If (c) <then_branch = t () => (float[N, 4] a) "
        f"{{ {then} }}, else_branch = e () => (float[N, 4] a) {{ {otherwise} }}> {behind} }}"
    )


INNER = choice("", "a = Neg (x)", "b = Exp (x) a = Neg (b)").partition("{ ")[2].rpartition(" }")[0]
DECIDED = {
    "true": choice(TRUE, "b = Relu (x) a = Neg (b)", "a = Neg (x)"),
    "false": choice("c = Constant <value = bool[1] {0}> ()", "a = Relu (x)", "b = Neg (x) a = Exp (b)"),
    "by a size": choice(
        "s = Shape <start = 1> (x) f = Constant <value_ints = [4]> () c = Equal (s, f)", "a = Relu (x)", "a = Neg (x)"
    ),
    "by a rank": choice("s = Shape (x) r = Size (s) f = Constant <value_int = 2> () c = Less (r, f)", "a = Relu (x)", "a = Neg (x)"),
    "nested": choice(TRUE, INNER.replace("y = If", "a = If"), "a = Relu (x)"),
    "names that stand elsewhere too": choice(
        TRUE, "b = Relu (x) a = Neg (b)", "b = Abs (x) a = Neg (b)", "a = Exp (y) b = Abs (a)"
    ),
    "the name of what it gives": choice(TRUE, "y = Relu (x) a = Neg (y)", "y = Abs (x) a = Neg (y)"),
    "nothing but a value around it": "g (float[N, 4] x) => (float[N, 4] y, float[N, 4] z) { z = Relu (x) b = Neg (z) "
    + choice(TRUE, "a = Identity (b)", "a = Identity (z)").partition("{ ")[2],
    "constants of one name": choice(
        TRUE, "k = Constant <value_float = 2.5> () a = Mul (x, k)", "k = Constant <value_float = 3.5> () a = Mul (x, k)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("source", DECIDED.values(), ids=DECIDED)
def test_an_if_whose_condition_is_known(source):
    check(source)


OUTPUTS = {  # names that an Identity gives
    "an output twice": "g (float[N, 4] x) => (float[N, 4] y, float[N, 4] z) { y = Relu (x) z = Identity (y) }",
    "an output of what is read": "g (float[N, 4] x) => (float[N, 4] y, float[N, 4] z) "
    "{ a = Relu (x) y = Identity (a) z = Neg (a) }",
    "an output of an output": "g (float[N, 4] x) => (float[N, 4] a, float[N, 4] y, float[N, 4] z) "
    "{ a = Relu (x) y = Identity (a) z = Identity (y) }",
}


@pytest.mark.parametrize("source", OUTPUTS.values(), ids=OUTPUTS)
def test_an_identity_gives_an_output_its_name(source):
    check(source)


def kept(shape: str, count: int) -> str:
    return f"w = Constant <value = float[{shape}] {{{', '.join(map(str, range(count)))}}}> ()"


WEIGHTS = {
    "a kernel for each channel": (
        f"g (float[N, 2, 8, 8] x) => (float[N, 2, 6, 6] y) {{ {kept('2, 1, 3, 3', 18)} y = Conv <group = 2> (x, w) }}",
        "DepthwiseConv2D", 18, 2,
    ),
    "a matrix and its bias": (
        f"g (float[N, 3] x) => (float[N, 2] y) {{ {kept('3, 2', 6)} b = Constant <value_floats = [1.5, 2.5]> () "
        "m = MatMul (x, w) y = Add (m, b) }",
        "Dense", 8, 0,
    ),
    "in a branch": (
        choice(TRUE, f"{kept('4, 4', 16)} a = MatMul (x, w)", f"{kept('4, 4', 16)} b = Abs (w) a = MatMul (x, b)"),
        "Dense", 16, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", WEIGHTS.values(), ids=WEIGHTS)
def test_a_constant_node_holds_a_weight(row):
    source, layer, parameters, transposes = row
    built = check(source, layers=[layer], transposes=transposes)
    assert built.model.count_params() == parameters


def test_a_constant_of_nan_is_no_weight():
    check(
        "g (float[N, 4] x) => (float[N, 4] y) { n = Constant <value_float = nan> () z = Constant <value_float = 0.5> () "
        "c = Less (x, z) y = Where (c, n, x) }"
    )


def squeezed(reader: str, out: str, weights: str = "") -> str:
    """torch's way to write x.squeeze(1) where the axis is free, and what reads it."""
    return (
        f"g (float[N, T, 4] x) => ({out} y) <int64[1] i = {{1}}{weights}> {{ s = Shape <start = 1, end = 2> (x) "
        "c = Equal (s, i) z = If (c) <then_branch = t () => (float[N, 4] a) { a = Squeeze (x, i) }, "
        f"else_branch = e () => (float[N, T, 4] b) {{ b = Identity (x) }}> {reader} }}"
    )


FITTING = {
    "a matrix": (squeezed("y = Gemm (z, w)", "float[N, 3]", ", float[4, 3] w"), 1, "then_branch, .*: T is 1"),
    "a sequence": (
        squeezed("y, h = RNN <hidden_size = 2> (z, w, r)", "float[N, 1, T, 2]", ", float[1, 2, 4] w, float[1, 2, 2] r"),
        3, "else_branch, .*: T is not 1",
    ),
    "the output that the file states": (squeezed("y = Neg (z)", "float[N, T, 4]"), 3, "else_branch"),
}  # fmt: skip


@pytest.mark.parametrize("row", FITTING.values(), ids=FITTING)
def test_the_branch_that_the_rest_fits(row):
    source, length, told = row
    check(source, sizes=[{"N": 2, "T": length}], transposes=None)
    model = planned(parse(source, {})).model
    assert re.search(told, *model.meta[SETTLED])


def test_both_branches_fit():
    refuses(squeezed("y = ReduceSum <keepdims = 0> (z)", "float"), "how many axes")


def test_a_condition_of_data_is_never_settled():
    source = squeezed("y = Gemm (z, w)", "float[N, 3]", ", float[4, 3] w")
    refuses(
        source.replace("c = Equal (s, i)", "m = ReduceMax <keepdims = 0> (x) c = Greater (m, m)"),
        "how many axes",
    )


def test_sizes_that_a_graph_allows():
    """An axis that a Squeeze names is 1, and another size an error; a cell is given as many states as inputs."""
    source = (
        "g (float[N, 1, H, 8] x, float[M, 2] h) => (float[N, 2] y) <float[1, 1, 3, 8] k, int64[1] l = {2}, "
        "int64[1] z = {0}, float[1, 2, 1] w, float[1, 2, 2] r> { c = Conv <strides = [4, 1]> (x, k) "
        "s = Squeeze (c, l) t = Transpose <perm = [1, 0, 2]> (s) g = Unsqueeze (h, z) "
        "a, b = RNN <hidden_size = 2> (t, w, r, , , g) y = Squeeze (b, z) }"
    )
    built = check(source, sizes=[{"N": 2, "H": 3, "M": 2}, {"N": 3, "H": 6, "M": 3}], transposes=None)
    graph = planned(parse(source, {})).model.graph
    assert allowed_sizes(graph) == {"H": Range(3, 6)}
    assert next(itertools.islice(search(graph.inputs, graph, 0), 1, None)) == {"N": 3, "H": 5, "M": 3}
    with pytest.raises(Exception, match="eshape"):
        built.model([np.zeros((2, 1, 7, 8), "float32"), np.zeros((2, 2), "float32")])
