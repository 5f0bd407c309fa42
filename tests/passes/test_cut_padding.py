"""The end of a padded convolution, cut off, is less padding; where it is more than that, it stays."""

import pytest
from checking import check

ROWS = {  # pads and strides of the convolution, the end of the slice -> the layers
    "all of it": ("pads = [2, 2]", -2, ["Conv1D"]),
    "a part of it": ("pads = [2, 2]", -1, ["ZeroPadding1D", "Conv1D"]),
    "more than it": ("pads = [2, 2]", -3, ["ZeroPadding1D", "Conv1D"]),
    "in steps": ("pads = [2, 2], strides = [2]", -1, ["ZeroPadding1D", "Conv1D"]),
}


@pytest.mark.parametrize("row", ROWS)
def test_padding_that_is_cut_off(row):
    settings, end, layers = ROWS[row]
    built = check(
        "g (float[N, 3, T] x) => (float[N, 4, U] y) "
        f"<float[4, 3, 3] w, int64[1] s = {{0}}, int64[1] e = {{{end}}}, int64[1] a = {{2}}> "
        f"{{ c = Conv <{settings}> (x, w) y = Slice (c, s, e, a) }}",
        layers=layers,
        transposes=None,
    )
    assert ("causal" in {layer.padding for layer in built.model.layers if hasattr(layer, "filters")}) == (
        row == "all of it"
    )
    kept = [row.op for row in built.made]
    assert ("Slice" in kept) == (row in ("more than it", "in steps"))


def test_padding_that_something_else_reads_stays():
    check(
        "g (float[N, 3, T] x) => (float[N, 4, U] y, float[N, 4, V] z) "
        "<float[4, 3, 3] w, int64[1] s = {0}, int64[1] e = {-2}, int64[1] a = {2}> "
        "{ c = Conv <pads = [2, 2]> (x, w) y = Slice (c, s, e, a) z = Relu (c) }",
        transposes=None,
    )
