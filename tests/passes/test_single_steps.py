"""Activations and normalisations that older exporters write in single steps, and formulas that only look like them."""

from __future__ import annotations

import math

import pytest
from checking import check

TYPES = {"x": "float[N, T, 6]", "y": "float[N, T, 6]"}
NUMBERS = {
    "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "root": math.sqrt(2), "inverse": 0.5**0.5, "cubic": 0.044715,
    "pi": math.sqrt(2 / math.pi), "quick": 1.702, "epsilon": 1e-5, "minus": -0.5,
}  # fmt: skip


def text(body: str, weights: str = "", x: str = "float[N, T, 6]", y: str = "float[n, t, f] y") -> str:
    """The graph x -> y of `body`, with the constants of `NUMBERS` that it names and the mean over the last axis."""
    words = set(body.replace(",", " ").replace("(", " ").replace(")", " ").split())
    numbers = "".join(f"{n} = Constant <value_float = {v!r}> () " for n, v in NUMBERS.items() if n in words)
    last = "last = Constant <value_ints = [-1]> () " if "last" in words else ""
    return f"g ({x} x) => ({y}) <{weights}> {{ {numbers}{last}{body} }}".replace("<>", "")


ACTIVATIONS = {
    "silu": ("s = Sigmoid (x) y = Mul (x, s)", "silu"),
    "silu, turned": ("s = Sigmoid (x) y = Mul (s, x)", "silu"),
    "silu of a product": ("h = Mul (half, x) s = Sigmoid (h) y = Mul (h, s)", "silu"),
    "hard swish": ("s = HardSigmoid <alpha = 0.16666667> (x) y = Mul (x, s)", "hard_silu"),
    "mish": ("p = Softplus (x) t = Tanh (p) y = Mul (t, x)", "mish"),
    "gelu": ("d = Div (x, root) e = Erf (d) p = Add (e, one) m = Mul (x, p) y = Mul (m, half)", "gelu"),
    "gelu, half first": ("d = Mul (x, inverse) e = Erf (d) p = Add (one, e) h = Mul (half, x) y = Mul (h, p)", "gelu"),
    "gelu, half inside": ("d = Div (x, root) e = Erf (d) p = Add (one, e) h = Mul (p, half) y = Mul (h, x)", "gelu"),
    "gelu, divided": ("d = Div (x, root) e = Erf (d) p = Add (one, e) h = Mul (p, x) y = Div (h, two)", "gelu"),
}  # fmt: skip


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations(row):
    body, name = row
    built = check(text(body), layers=["Activation"])
    assert built.model.layers[-1].activation.__name__ == name


GELU_TANH = {
    "powers": "c = Pow (x, three) k = Mul (c, cubic) a = Add (x, k) m = Mul (a, pi)",
    "products": "s = Mul (x, x) c = Mul (x, s) k = Mul (cubic, c) a = Add (k, x) m = Mul (pi, a)",
    "x in front": "s = Mul (x, x) k = Mul (s, cubic) a = Add (one, k) r = Mul (x, pi) m = Mul (r, a)",
}


@pytest.mark.parametrize("cube", GELU_TANH.values(), ids=GELU_TANH)
def test_gelu_by_tanh(cube):
    built = check(text(cube + " t = Tanh (m) p = Add (t, one) h = Mul (half, x) y = Mul (h, p)"), layers=[])
    assert [row.op for row in built.made] == ["Gelu"]


NO_ACTIVATION = {
    "another gate": "z = Neg (x) s = Sigmoid (z) y = Mul (x, s)",
    "a gate of more": "z = Mul (x, quick) s = Sigmoid (z) y = Mul (x, s)",
    "not a sixth": "s = HardSigmoid (x) y = Mul (x, s)",
    "gelu of another width": "d = Mul (x, half) e = Erf (d) p = Add (e, one) m = Mul (x, p) y = Mul (m, half)",
    "gelu without its half": "d = Div (x, root) e = Erf (d) p = Add (e, one) y = Mul (x, p)",
    "gelu plus two": "d = Div (x, root) e = Erf (d) p = Add (e, two) m = Mul (x, p) y = Mul (m, half)",
    "another cube": (
        "c = Pow (x, two) k = Mul (c, cubic) a = Add (x, k) m = Mul (a, pi) t = Tanh (m) p = Add (t, one) "
        "h = Mul (half, x) y = Mul (h, p)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("body", NO_ACTIVATION.values(), ids=NO_ACTIVATION)
def test_what_looks_like_an_activation(body):
    built = check(text(body))
    assert not {"Gelu", "Silu", "HardSwish", "Mish"} & {row.op for row in built.made}


def test_a_parameter_is_no_number():
    body = "d = Div (x, root) e = Erf (d) p = Add (e, one) m = Mul (x, p) y = Mul (m, w)"
    built = check(text(body, "float[1] w"), ranges={"w": (0.5, 0.5)})
    assert "Gelu" not in [row.op for row in built.made]


# --- normalisations ----------------------------------------------------------------------------------------------

CENTRED = (
    "m = ReduceMean (x, last) d = Sub (x, m) q = Pow (d, two) v = ReduceMean (q, last) e = Add (v, epsilon) "
)
WEIGHTS = "float[6] w, float[6] b"
NORMS = {
    "layer": (CENTRED + "s = Sqrt (e) n = Div (d, s) k = Mul (n, w) y = Add (k, b)", "LayerNormalization", WEIGHTS),
    "layer, turned": (
        CENTRED.replace("Pow (d, two)", "Mul (d, d)")
        + "s = Sqrt (e) r = Reciprocal (s) n = Mul (r, d) k = Mul (w, n) y = Add (b, k)",
        "LayerNormalization", WEIGHTS,
    ),
    "layer, by a power": (CENTRED + "s = Pow (e, minus) n = Mul (s, d) y = Mul (n, w)", "LayerNormalization", "float[6] w"),
    "layer, plain": (CENTRED + "s = Sqrt (e) y = Div (d, s)", "LayerNormalization", ""),
    "layer, no scale": (CENTRED + "s = Sqrt (e) n = Div (d, s) y = Add (n, b)", "LayerNormalization", "float[6] b"),
    "layer, each step twice": (
        "z = ReduceMean (x, last) c = Sub (x, z) " + CENTRED + "s = Sqrt (e) n = Div (c, s) y = Mul (n, w)",
        "LayerNormalization", "float[6] w",
    ),
    "mean square": (
        "q = Pow (x, two) v = ReduceMean (q, last) e = Add (v, epsilon) s = Sqrt (e) r = Div (one, s) n = Mul (x, r) "
        "y = Mul (w, n)", "RMSNormalization", "float[6] w",
    ),
    "mean square, divided": (
        "q = Mul (x, x) v = ReduceMean (q, last) e = Add (v, epsilon) s = Sqrt (e) n = Div (x, s) y = Mul (n, w)",
        "RMSNormalization", "float[6] w",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", NORMS.values(), ids=NORMS)
def test_norms(row):
    body, layer, weights = row
    check(text(body, weights), layers=[layer])


def test_a_norm_of_the_channels():
    body = (
        CENTRED.replace("last", "one_")
        + "s = Sqrt (e) n = Div (d, s) k = Mul (n, w) a = Add (k, b) y = Conv (a, c)"
    )
    body = "one_ = Constant <value_ints = [1]> () " + body
    weights = "float[6, 1, 1] w, float[1, 6, 1, 1] b, float[2, 6, 1, 1] c"
    source = text(body, weights, "float[N, 6, H, W]", "float[n, c, h, w] y")
    check(source, layers=["LayerNormalization", "Conv2D"], transposes=2)


GROUPS = (
    "a = Constant <value_ints = [0, 3, -1]> () r = Reshape (x, a) f = Constant <value_floats = [1.0, 1.0, {last}]> () "
    "z = Constant <value_floats = [0.0, 0.0, 0.0]> () i = InstanceNormalization (r, f, z) t = Shape (x) "
    "u = Reshape (i, t) k = Mul (u, w) y = Add (k, b)"
)
IMAGE = {
    "x": "float[N, 6, H, W]",
    "y": "float[n, c, h, w] y",
    "weights": "float[6, 1, 1] w, float[6, 1, 1] b",
}


def test_groups():
    check(text(GROUPS.format(last="1.0"), **IMAGE), layers=["GroupNormalization"])


def test_groups_that_are_scaled():
    built = check(text(GROUPS.format(last="2.0"), **IMAGE))
    assert "GroupNormalization" not in [row.op for row in built.made]


NO_NORM = {
    "a variance over other axes": CENTRED.replace("ReduceMean (q, last)", "ReduceMean (q, first)") + "s = Sqrt (e) y = Div (d, s)",
    "a mean over other axes": CENTRED.replace("ReduceMean (x, last)", "ReduceMean (x, first)") + "s = Sqrt (e) y = Div (x, s)",
    "no root": CENTRED + "y = Div (d, e)",
    "twice": CENTRED + "s = Sqrt (e) n = Div (d, s) y = Mul (n, two)",
}  # fmt: skip


@pytest.mark.parametrize("body", NO_NORM.values(), ids=NO_NORM)
def test_what_looks_like_a_norm(body):
    built = check(text("first = Constant <value_ints = [1]> () " + body), transposes=0)
    kinds = [row.op for row in built.made]
    assert "RMSNormalization" not in kinds
    assert ("LayerNormalization" in kinds) == ("Mul (n, two)" in body)


def test_a_scale_of_other_axes_stays_behind_the_norm():
    body = CENTRED + "s = Sqrt (e) n = Div (d, s) y = Mul (n, w)"
    built = check(text(body, "float[4, 1] w", "float[N, 4, 6]"))
    assert [row.op for row in built.made][-2:] == ["LayerNormalization", "Mul"]
