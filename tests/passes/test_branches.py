"""An If that is decided while converting, and weights that a file keeps in Constant nodes."""

import pytest
from checking import check

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
