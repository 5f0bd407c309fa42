"""Convolutions as rows of ONNX: each becomes the layers named beside it."""

import os
import subprocess
import sys

import pytest
from checking import check, refuses

SIZES = [{"N": 2, "D": 5, "H": 7, "W": 9}, {"N": 3, "D": 6, "H": 10, "W": 8}]
X = {1: "float[N, {}, W] x", 2: "float[N, {}, H, W] x", 3: "float[N, {}, D, H, W] x"}
Y = {1: "float[n, c, w] y", 2: "float[n, c, h, w] y", 3: "float[n, c, d, h, w] y"}


def text(op: str, rank: int, channels: int, w: str, attributes: str, b: str = "") -> str:
    attributes = f"<{attributes}>" if attributes else ""
    weights = f"float[{w}] w" + (f", float[{b}] b" if b else "")
    inputs = "x, w, b" if b else "x, w"
    return f"g ({X[rank].format(channels)}) => ({Y[rank]}) <{weights}> {{ y = {op} {attributes} ({inputs}) }}"


CONVOLUTIONS = {
    # rank, channels, w, attributes, b, layers
    "1d": (1, 3, "4, 3, 3", "", "4", "Conv1D"),
    "1d same": (1, 3, "4, 3, 3", "pads = [1, 1]", "4", "Conv1D"),
    "1d causal": (1, 3, "4, 3, 2", "pads = [4, 0], dilations = [4]", "", "Conv1D"),
    "1d strided, uneven pads": (1, 3, "4, 3, 4", "pads = [1, 2], strides = [3]", "", "ZeroPadding1D Conv1D"),
    "1d depthwise": (1, 4, "4, 1, 3", "pads = [1, 1], group = 4", "4", "DepthwiseConv1D"),
    "1d depthwise causal": (1, 4, "4, 1, 3", "pads = [2, 0], group = 4", "", "ZeroPadding1D DepthwiseConv1D"),
    "2d": (2, 3, "4, 3, 3, 2", "", "4", "Conv2D"),
    "2d same": (2, 3, "4, 3, 3, 5", "pads = [1, 2, 1, 2]", "4", "Conv2D"),
    "2d same of an even kernel": (2, 3, "4, 3, 2, 3", "pads = [0, 1, 1, 1]", "4", "Conv2D"),
    "2d the other uneven pads": (2, 3, "4, 3, 2, 3", "pads = [1, 1, 0, 1]", "4", "ZeroPadding2D Conv2D"),
    "2d strided": (2, 3, "4, 3, 3, 3", "pads = [1, 1, 1, 1], strides = [2, 2]", "4", "ZeroPadding2D Conv2D"),
    "2d SAME_UPPER": (2, 3, "4, 3, 3, 2", 'auto_pad = "SAME_UPPER", strides = [2, 3]', "4", "Conv2D"),
    "2d SAME_LOWER": (2, 3, "4, 3, 4, 2", 'auto_pad = "SAME_LOWER"', "4", "ZeroPadding2D Conv2D"),
    "2d VALID": (2, 3, "4, 3, 4, 2", 'auto_pad = "VALID", strides = [2, 3]', "4", "Conv2D"),
    "2d dilated": (2, 3, "4, 3, 3, 3", "pads = [2, 3, 2, 3], dilations = [2, 3]", "4", "Conv2D"),
    "2d dilated and strided": (
        2, 3, "4, 3, 3, 3", "pads = [2, 3, 1, 3], dilations = [2, 3], strides = [2, 3]", "4", "ZeroPadding2D Conv2D",
    ),
    "2d 1x1 strided": (2, 3, "4, 3, 1, 1", "strides = [2, 2]", "", "Conv2D"),
    "2d grouped": (2, 4, "6, 2, 3, 3", "pads = [1, 1, 1, 1], group = 2", "6", "Conv2D"),
    "2d depthwise": (2, 4, "4, 1, 3, 3", "pads = [1, 1, 1, 1], group = 4", "4", "DepthwiseConv2D"),
    "2d depthwise, two for each": (
        2, 4, "8, 1, 3, 3", "pads = [1, 1, 1, 1], group = 4, strides = [2, 2]", "8", "ZeroPadding2D DepthwiseConv2D",
    ),
    "2d depthwise, unlike strides": (2, 4, "8, 1, 3, 3", "group = 4, strides = [2, 1]", "8", "Conv2D"),
    "2d depthwise dilated": (
        2, 4, "4, 1, 3, 3", "pads = [2, 1, 2, 1], group = 4, dilations = [2, 1]", "4", "DepthwiseConv2D",
    ),
    "3d": (3, 3, "4, 3, 3, 2, 3", "pads = [1, 0, 1, 1, 1, 1], strides = [1, 2, 2]", "4", "ZeroPadding3D Conv3D"),
    "3d dilated": (3, 3, "4, 3, 2, 2, 3", "dilations = [2, 1, 2]", "4", "Conv3D"),
    "3d depthwise": (3, 3, "6, 1, 3, 2, 3", "group = 3", "6", "Conv3D"),
}  # fmt: skip


@pytest.mark.parametrize("row", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_conv(row):
    rank, channels, w, attributes, b, layers = row
    check(text("Conv", rank, channels, w, attributes, b), layers=layers.split(), transposes=2, sizes=SIZES)


TRANSPOSED = {
    "1d": (1, "3, 4, 3", "", "4", "Conv1DTranspose"),
    "1d stride over the kernel": (1, "3, 4, 2", "strides = [3]", "4", "Conv1DTranspose"),
    "1d that and more": (1, "3, 4, 2", "strides = [3], output_padding = [2]", "4", "Conv1DTranspose"),
    "2d even": (2, "3, 4, 2, 3", "strides = [2, 3]", "4", "Conv2DTranspose"),
    "2d same": (2, "3, 4, 4, 4", "strides = [2, 2], pads = [1, 1, 1, 1]", "4", "Conv2DTranspose"),
    "2d output_padding": (
        2, "3, 4, 3, 3", "strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]", "4",
        "Conv2DTranspose Cropping2D",
    ),
    "2d uneven pads": (2, "3, 4, 3, 3", "strides = [2, 2], pads = [1, 0, 2, 1]", "", "Conv2DTranspose Cropping2D"),
    "2d dilated": (2, "3, 4, 3, 3", "dilations = [2, 3], strides = [2, 1], pads = [1, 1, 1, 1]", "4", "Cropping2D"),
    "2d dilated in groups": (2, "3, 2, 3, 3", "group = 3, dilations = [2, 1], strides = [2, 3]", "6", ""),
    "2d grouped": (
        2, "3, 2, 3, 3", "group = 3, strides = [2, 2]", "6", "Conv2DTranspose Conv2DTranspose Conv2DTranspose",
    ),
    "2d SAME_UPPER": (2, "3, 4, 3, 3", 'strides = [2, 2], auto_pad = "SAME_UPPER"', "", "Conv2DTranspose"),
    "2d SAME_LOWER": (2, "3, 4, 3, 3", 'strides = [2, 2], auto_pad = "SAME_LOWER"', "", "Conv2DTranspose Cropping2D"),
    "2d SAME_UPPER, strides over the kernel": (
        2, "3, 4, 1, 2", 'strides = [3, 3], auto_pad = "SAME_UPPER"', "4", "Conv2DTranspose",
    ),
    "1d SAME_LOWER, strides over the kernel and its padding": (
        1, "3, 4, 1", 'strides = [3], auto_pad = "SAME_LOWER", output_padding = [1]', "4", "Conv1DTranspose",
    ),
    "3d": (
        3, "3, 4, 3, 2, 4", "strides = [1, 2, 2], pads = [1, 0, 1, 1, 0, 1], output_padding = [0, 1, 0]", "4",
        "Conv3DTranspose Cropping3D",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", TRANSPOSED.values(), ids=TRANSPOSED)
def test_conv_transpose(row):
    rank, w, attributes, b, layers = row
    proved = text("ConvTranspose", rank, 3, w, attributes, b)
    check(proved, layers=layers.split(), transposes=2, sizes=SIZES, one_way="dilations" in attributes)


def test_output_shape():
    check(
        "g (float[N, 3, 5, 7] x) => (float[n, c, h, w] y) <float[3, 4, 3, 3] w> "
        "{ y = ConvTranspose <strides = [2, 2], output_shape = [10, 14]> (x, w) }",
        layers=["Conv2DTranspose", "Cropping2D"],
        transposes=2,
    )


def test_strides_where_one_place_is_left():
    check(
        "g (float[N, 1, 4, 4] x) => (float[N, 2, 3, 1] y) <float[2, 1, 2, 3] w> { y = Conv <strides = [1, 3]> (x, w) }",
        layers=["Conv2D"],
        transposes=1,
        sizes=[{"N": 2}, {"N": 3}],
    )


def test_a_stride_along_the_last_axis_whose_size_is_free():
    """TensorFlow is wrong there as it is installed, with oneDNN, which the other tests are without."""
    code = """import bridge, onnx.parser
text = '<ir_version: 8, opset_import: ["": 17]> g (float[2, 1, H, W] x) => (float[2, 2, A, B] y) <float[2, 1, 2, 3] w = ' \\
    '{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> { y = Conv <strides = [1, 3]> (x, w) }'
bridge.convert(onnx.parser.parse_model(text), verify=bridge.Verify(sizes={'H': (3, 6), 'W': (4, 5)}))
"""
    subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"}, check=True, timeout=120
    )


def test_kernel_that_the_graph_computes():
    check(
        "g (float[N, 3, H, W] x, float[4, 3, 3, 3] k) => (float[n, c, h, w] y) "
        "{ w = Tanh (k) y = Conv <pads = [1, 0, 1, 2]> (x, w) }",
        transposes=2,
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    ("group", "kernel"), [(2, "4, 3, 3, 3"), (6, "12, 1, 3, 3")], ids=["groups", "channels"]
)
def test_grouped_kernel_that_the_graph_computes(group, kernel):
    check(
        f"g (float[N, 6, H, W] x, float[{kernel}] k) => (float[n, c, h, w] y) "
        f"{{ w = Tanh (k) y = Conv <group = {group}, pads = [1, 1, 1, 1]> (x, w) }}",
        transposes=2,
        sizes=SIZES,
    )


def test_kernel_of_one_axis_for_each_channel_that_the_graph_computes():
    check(
        "g (float[N, 6, W] x, float[12, 1, 3] k) => (float[n, c, w] y) "
        "{ w = Tanh (k) y = Conv <group = 6, pads = [2, 1]> (x, w) }",
        transposes=2,
        sizes=SIZES,
    )


def test_a_size_behind_a_transposed_convolution():
    check(
        "g (float[N, 3, W] x) => (float[n, m] y) <float[3, 4, 2] w> { "
        'c = ConvTranspose <strides = [3], auto_pad = "SAME_UPPER"> (x, w) s = Shape (c) '
        "i = Constant <value_ints = [0]> () n = Gather (s, i) one = Constant <value_ints = [-1]> () "
        "t = Concat <axis = 0> (n, one) y = Reshape (c, t) }",
        transposes=2,
        sizes=SIZES,
    )


def test_transposed_kernel_in_groups_that_the_graph_computes():
    check(
        "g (float[N, 6, H, W] x, float[6, 4, 3, 2] k) => (float[n, c, h, w] y) { w = Tanh (k) "
        "y = ConvTranspose <group = 3, strides = [2, 3], dilations = [2, 1], pads = [1, 0, 1, 1]> (x, w) }",
        transposes=2,
        sizes=SIZES,
    )


def test_blocks_put_together():
    check(
        "g (float[N, 12, 16] x) => (float[N, 2, 8, 9] y) { image = Constant <value_ints = [8, 9]> () "
        "block = Constant <value_ints = [2, 3]> () "
        "y = Col2Im <pads = [0, 1, 1, 0], strides = [2, 2]> (x, image, block) }",
    )


def test_blocks_of_any_number_of_channels_put_together():
    check(
        "g (float[N, C, 10] x) => (float[N, D, 5, 5] y) <int64[2] image = {5, 5}, int64[2] block = {1, 2}> "
        "{ y = Col2Im <pads = [0, 0, 0, 0], strides = [1, 2], dilations = [1, 1]> (x, image, block) }",
        sizes=[{"N": 2, "C": 4}, {"N": 3, "C": 2}],
    )


def test_a_constant_under_a_kernel_that_the_graph_computes():
    check(
        "g (float[2, 2, 2] k) => (float[n, c, w] y) <float[1, 2, 6] x> { y = Conv <pads = [0, 1]> (x, k) }",
        transposes=1,
    )


def test_zeros_for_a_bias_are_none():
    built = check(
        "g (float[N, 3, H, W] x) => (float[n, c, h, w] y) <float[4, 3, 3, 3] w> { "
        "four = Constant <value_ints = [4]> () b = ConstantOfShape (four) y = Conv (x, w, b) }",
        layers=["Conv2D"],
        transposes=2,
        sizes=SIZES,
    )
    assert built.model.count_params() == 108


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            text("Conv", 2, 3, "4, 3, 4, 2", 'auto_pad = "SAME_LOWER", strides = [2, 3]'),
            "SAME_LOWER.*unknown size",
        ),
        (text("Conv", 2, "C", "4, 3, 4, 2", ""), "number of channels, 'C', is not known"),
        (text("ConvTranspose", 1, "C", "3, 4, 2", ""), "number of channels, 'C', is not known"),
        (text("ConvTranspose", 2, 3, "3, 4, 3, 3", "output_shape = [10, 14]"), "output_shape.*unknown size"),
    ],
)
def test_refusals(source, reason):
    refuses(source, reason)


# --- padding apart from its window --------------------------------------------------------------------------------


def apart(pad: str, window: str, weights: str = "float[4, 3, 3, 3] w", outputs: str = "") -> str:
    """A Pad with the constants of `pad`, then the window that reads it."""
    return (
        f"g (float[N, 3, 8, 9] x) => (float[n, c, h, w] y{outputs}) <{weights}> {{ "
        f"p = Constant <value_ints = {pad} () {window} }}"
    )


ALL = "[0, 0, 1, 1, 0, 0, 1, 1]>"
LOWEST = " () v = Constant <value_float = -inf>"
PADDED = {
    "same": (apart(ALL, "a = Pad (x, p) y = Conv (a, w)"), "Conv2D"),
    "added to its own": (
        apart("[0, 0, 1, 0, 0, 0, 0, 0]>", "a = Pad (x, p) y = Conv <pads = [0, 1, 1, 1]> (a, w)"), "Conv2D",
    ),
    "same of a stride": (
        apart("[0, 0, 0, 1, 0, 0, 1, 1]>", "a = Pad (x, p) y = Conv <strides = [2, 2]> (a, w)"), "Conv2D",
    ),
    "of some axes": (
        apart("[1, 1]> () i = Constant <value_ints = [-1]>", "a = Pad (x, p, , i) y = Conv <pads = [1, 0, 1, 0]> (a, w)"),
        "Conv2D",
    ),
    "of maxima": (
        apart(ALL + LOWEST, "a = Pad (x, p, v) y = MaxPool <kernel_shape = [3, 3]> (a)", "float[1] w"), "MaxPooling2D",
    ),
}  # fmt: skip
STAY_APART = {
    "two readers": (apart(ALL, "a = Pad (x, p) y = Conv (a, w) z = Relu (a)", outputs=", float[n, c, h, w] z"), "Conv2D ReLU"),
    "another number": (
        apart(ALL + " () v = Constant <value_float = 1.0>", "a = Pad (x, p, v) y = Conv (a, w)"), "Conv2D",
    ),
    "reflected": (apart(ALL, 'a = Pad <mode = "reflect"> (x, p) y = Conv (a, w)'), "Conv2D"),
    "channels too": (
        apart("[0, 1, 1, 1, 0, 0, 1, 1]>", "a = Pad (x, p) y = Conv (a, w)", "float[4, 4, 3, 3] w"), "Conv2D",
    ),
    "cut off": (apart("[0, 0, 1, -1, 0, 0, 1, 1]>", "a = Pad (x, p) y = Conv (a, w)"), "Conv2D"),
    "zeros below maxima": (
        apart(ALL, "a = Pad (x, p) y = MaxPool <kernel_shape = [3, 3]> (a)", "float[1] w"), "MaxPooling2D",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", PADDED.values(), ids=PADDED)
def test_a_window_takes_the_padding_before_it(row):
    source, layer = row
    check(source, layers=[layer], transposes=2)


@pytest.mark.parametrize("row", STAY_APART.values(), ids=STAY_APART)
def test_padding_that_is_not_the_windows_own(row):
    source, layers = row
    built = check(source, transposes=2)
    kinds = [row.layer for row in built.made if row.layer not in ("keras.ops", "ZeroPadding2D", "Cropping2D")]
    assert kinds == layers.split()
    assert "Pad" in [row.op for row in built.made]


# --- axes that a Reshape merges before a Dense --------------------------------------------------------------------

CONV = "a = Conv (x, k) "
BEFORE_DENSE = {
    "Flatten, MatMul": "float[4, 3, 3, 3] k, float[140, 6] w> { " + CONV + "f = Flatten (a) y = MatMul (f, w) }",
    "Reshape, Relu, Gemm": (
        "float[4, 3, 3, 3] k, float[6, 140] w, float[6] b> { " + CONV + "s = Constant <value_ints = [0, -1]> () "
        "f = Reshape (a, s) r = Relu (f) y = Gemm <transB = 1> (r, w, b) }"
    ),
    "Flatten, BatchNormalization, MatMul": (
        "float[4, 3, 3, 3] k, float[140] s, float[140] b, float[140] m, float[140] v, float[140, 6] w> { "
        + CONV + "f = Flatten (a) n = BatchNormalization (f, s, b, m, v) y = MatMul (n, w) }"
    ),
    "Flatten, LayerNormalization, Add, MatMul": (
        "float[4, 3, 3, 3] k, float[140] s, float[140] b, float[140] c, float[140, 6] w> { "
        + CONV + "f = Flatten (a) n = LayerNormalization (f, s, b) p = Add (n, c) y = MatMul (p, w) }"
    ),
}  # fmt: skip


@pytest.mark.parametrize("body", BEFORE_DENSE.values(), ids=BEFORE_DENSE)
def test_the_dense_takes_the_order(body):
    check(f"g (float[N, 3, 7, 9] x) => (float[N, 6] y) <{body}", transposes=1, ranges={"v": (0.5, 2)})


@pytest.mark.parametrize("more", ["float[2, 1, 4, 1, 1] c", "float[1, 1, 1, 1, 1] c"])
@pytest.mark.parametrize("op", ["Add", "Mul", "Max", "Less"])
def test_a_constant_of_more_axes_beside_channels_last(more, op):
    kind = "bool" if op == "Less" else "float"
    check(
        f"g (float[N, 3, 7, 9] x) => ({kind}[a, b, c, d, e] y) <float[4, 3, 3, 3] k, {more}> "
        f"{{ {CONV} r = Sigmoid (a) y = {op} (r, c) }}",
        transposes=2,
    )


def test_a_pool_beside_more_axes_that_a_reshape_regroups():
    check(
        "g (float[N, 8, 5, 12] x) => (float[a, b, c, d, e] y) <float[1, 1, 1, 1, 1] c> { "
        "s = Constant <value_ints = [0, 0, 0, -1, 9]> () p = LpPool <kernel_shape = [4, 4]> (x) q = Add (p, c) "
        "y = Reshape (q, s) }",
        transposes=2,
    )


def test_a_transpose_without_perm_behind_merged_axes():
    check(
        "g (float[2, 10, 7, 6] x, float[30, 1, 3, 3] w) => (float[a, b] y) "
        "{ p = Conv <group = 10> (x, w) q = Flatten (p) y = Transpose (q) }",
        transposes=3,
    )


def test_the_dense_before_a_convolution_gives_the_order():
    check(
        "g (float[N, 5] x) => (float[n, c, h, w] y) <float[5, 60] w, float[60] b, float[2, 3, 3, 3] k> { "
        "m = MatMul (x, w) a = Add (m, b) r = Relu (a) s = Constant <value_ints = [-1, 3, 4, 5]> () "
        "v = Reshape (r, s) y = Conv (v, k) }",
        transposes=1,
    )


def test_a_second_reader_keeps_the_order():
    check(
        "g (float[N, 3, 7, 9] x) => (float[N, 6] y, float[N, 140] f) <float[4, 3, 3, 3] k, float[140, 6] w> { "
        + CONV + "f = Flatten (a) y = MatMul (f, w) }",
        transposes=2,
    )  # fmt: skip
