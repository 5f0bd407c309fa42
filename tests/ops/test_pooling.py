"""Pools as rows of ONNX: each becomes the layers named beside it."""

import numpy as np
import pytest
from checking import check, refuses

SIZES = [{"N": 2, "D": 5, "H": 7, "W": 9}, {"N": 3, "D": 6, "H": 10, "W": 8}]
X = {
    1: "float[N, 3, W] x",
    2: "float[N, 3, H, W] x",
    3: "float[N, 3, D, H, W] x",
    "fixed": "float[N, 3, 8, 9] x",
}
Y = {
    1: "float[n, c, w] y",
    2: "float[n, c, h, w] y",
    3: "float[n, c, d, h, w] y",
    "fixed": "float[n, c, h, w] y",
}


def text(op: str, rank: int | str, attributes: str) -> str:
    attributes = f"<{attributes}>" if attributes else ""
    return f"g ({X[rank]}) => ({Y[rank]}) {{ y = {op} {attributes} (x) }}"


WINDOWS = {
    # rank, attributes
    "1d": (1, "kernel_shape = [3], strides = [2]"),
    "2d": (2, "kernel_shape = [2, 3], strides = [2, 2]"),
    "2d stride one": (2, "kernel_shape = [2, 3]"),
    "2d padded": (2, "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]"),
    "2d same": (2, "kernel_shape = [3, 3], pads = [1, 1, 1, 1]"),
    "2d uneven pads": (2, "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 0, 2, 1]"),
    "2d ceil": (2, "kernel_shape = [3, 2], strides = [2, 3], ceil_mode = 1"),
    "2d ceil, padded": (2, "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1"),
    "2d ceil, no window in the padding": (
        2, "kernel_shape = [2, 2], strides = [3, 2], pads = [1, 1, 1, 1], ceil_mode = 1",
    ),
    "2d ceil, known size": ("fixed", "kernel_shape = [3, 2], strides = [3, 2], pads = [0, 1, 1, 1], ceil_mode = 1"),
    "2d dilated": (2, "kernel_shape = [3, 2], strides = [2, 1], dilations = [2, 3], pads = [1, 1, 1, 1]"),
    "2d SAME_UPPER": (2, 'kernel_shape = [4, 3], auto_pad = "SAME_UPPER"'),
    "2d SAME_UPPER, dilated": (2, 'kernel_shape = [4, 2], dilations = [1, 2], auto_pad = "SAME_UPPER"'),
    "2d SAME_LOWER, dilated, known size": (
        "fixed", 'kernel_shape = [2, 3], strides = [2, 1], dilations = [3, 2], auto_pad = "SAME_LOWER"',
    ),
    "3d": (3, "kernel_shape = [1, 3, 3], strides = [1, 2, 2], pads = [0, 1, 1, 0, 1, 1]"),
}  # fmt: skip


@pytest.mark.parametrize("row", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize(
    "more", ["MaxPool", "AveragePool", "AveragePool, count_include_pad = 1", "LpPool, p = 3"]
)
def test_windows(more, row):
    op, _, attribute = more.partition(", ")
    rank, attributes = row
    check(
        text(op, rank, ", ".join(filter(None, [attributes, attribute]))),
        transposes=2,
        sizes=SIZES,
        tolerance=2e-5,
    )


LAYERS = {
    "maximum": (text("MaxPool", 2, "kernel_shape = [2, 2], strides = [2, 2]"), "MaxPooling2D"),
    "same maximum": (text("MaxPool", 2, "kernel_shape = [3, 3], pads = [1, 1, 1, 1]"), "MaxPooling2D"),
    "SAME_UPPER": (
        text("MaxPool", 2, 'kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER"'), "MaxPooling2D",
    ),
    "padding left out": (text("AveragePool", 2, "kernel_shape = [3, 3], pads = [1, 1, 1, 1]"), "AveragePooling2D"),
    "padding counted": (
        text("AveragePool", 2, "kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1"),
        "ZeroPadding2D AveragePooling2D",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", LAYERS.values(), ids=LAYERS)
def test_layers(row):
    source, layers = row
    check(source, layers=layers.split(), transposes=2, sizes=SIZES)


@pytest.mark.parametrize(
    ("op", "layer"), [("GlobalAveragePool", "AveragePooling"), ("GlobalMaxPool", "MaxPooling")]
)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global(op, layer, rank):
    check(text(op, rank, ""), layers=[f"Global{layer}{rank}D"], transposes=1, sizes=SIZES)


def test_of_nothing():
    check("g (float[0, 3, 4] x) => (float[0, 3, 1] y) { y = GlobalMaxPool (x) }", transposes=1)


@pytest.mark.parametrize(
    "attributes",
    [
        "kernel_shape = [2]",
        "kernel_shape = [3], strides = [2]",
        "kernel_shape = [4], pads = [1, 0]",
        "kernel_shape = [2], strides = [3]",
    ],
)
def test_no_window(attributes):
    """Where TensorFlow's own kernel ends the process."""
    sizes = [{"N": 2, "W": size} for size in (3, 5, 4)]
    model = check(text("MaxPool", 1, attributes), transposes=2, sizes=sizes).model
    assert model(np.ones((2, 3, 2), "float32")).shape[-1] <= 1
    if attributes == "kernel_shape = [2]":
        assert model(np.ones((2, 3, 1), "float32")).shape == (2, 3, 0)


def test_halves_in_three_dimensions():
    check(
        "g (float16[N, 3, H, W, D] x) => (float16[n, c, h, w, d] y) { y = MaxPool <kernel_shape = [2, 2, 2]> (x) }",
        transposes=2,
        sizes=SIZES,
    )


@pytest.mark.parametrize("more", ["", ", dilations = [2, 1], pads = [1, 0, 1, 1]"])
def test_bytes(more):
    check(
        f"g (uint8[N, 3, H, W] x) => (uint8[n, c, h, w] y) {{ y = MaxPool <kernel_shape = [2, 2]{more}> (x) }}",
        ranges={"x": (0, 256)},
        transposes=2,
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    "attributes",
    [
        "kernel_shape = [2, 3], strides = [2, 2]",
        "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1",
        "kernel_shape = [2, 2], storage_order = 1",
        "kernel_shape = [1, 2], pads = [0, 1, 0, 1]",  # where nothing but padding stands before NaN and -inf
    ],
)
def test_places_of_the_maxima(attributes):
    check(
        "g (float[N, 3, H, W] x) => (float[n, c, h, w] y, int64[n, c, h, w] i) "
        f"{{ y, i = MaxPool <{attributes}> (x) }}",
        transposes=3,
        sizes=SIZES,
        among={"x": (-np.inf, np.nan, 1, 2)} if attributes.endswith("1, 0, 1]") else None,
    )


@pytest.mark.parametrize(
    "attributes", ["kernel_shape = [2]", "kernel_shape = [3], pads = [1, 2], strides = [2]"]
)
def test_powers_of_halves(attributes):
    check(
        f"g (float16[N, 3, W] x) => (float16[n, c, w] y) {{ y = LpPool <{attributes}> (x) }}",
        ranges={"x": (-1e-3, 1e-3)},
        transposes=2,
    )


def test_unpool():
    check(
        "g (float[N, 3, 6, 8] x) => (float[N, 3, 6, 8] y) "
        "{ m, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) "
        "y = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (m, i) }",
        transposes=3,
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (text("MaxPool", 2, 'kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_LOWER"'), "SAME_LOWER"),
        (
            text(
                "AveragePool", 2,
                'kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER", count_include_pad = 1',
            ),
            "over an axis of unknown size",
        ),
        (text("MaxPool", "fixed", 'kernel_shape = [1, 1], strides = [3, 3], auto_pad = "SAME_UPPER"'), "stride of 3"),
        (
            text("MaxPool", "fixed", 'kernel_shape = [3, 2], strides = [3, 3], dilations = [1, 2], auto_pad = "SAME_UPPER"'),
            "stride of 3",
        ),
        (text("LpPool", "fixed", "kernel_shape = [9, 2], strides = [3, 1]"), "9 cells, and there are 8"),
        (text("LpPool", "fixed", "kernel_shape = [2, 2], p = 0"), "p = 0 is no norm"),
        (text("GlobalLpPool", "fixed", "p = 0"), "p = 0 is no norm"),
        (text("AveragePool", "fixed", "kernel_shape = [2, 2], strides = [2147483648, 1]"), "2147483648 apart"),
    ],
)  # fmt: skip
def test_refusals(source, reason):
    refuses(source, reason)
