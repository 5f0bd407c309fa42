"""Normalisations as rows of ONNX: each becomes the layers named beside it."""

import pytest
from checking import check

SIZES = [{"N": 2, "D": 5, "H": 7, "W": 9}, {"N": 3, "D": 6, "H": 10, "W": 8}]
X = {2: "float[N, 6]", 3: "float[N, 6, W]", 4: "float[N, 6, H, W]", 5: "float[N, 6, D, H, W]"}
FOUR = "float[6] s, float[6] b, float[6] m, float[6] v"


@pytest.mark.parametrize("rank", X)
def test_batch_normalization(rank):
    check(
        f"g ({X[rank]} x) => ({X[rank]} y) <{FOUR}> "
        "{ y = BatchNormalization <epsilon = 0.001, momentum = 0.8> (x, s, b, m, v) }",
        layers=["BatchNormalization"],
        ranges={"v": (0.5, 2)},
        sizes=SIZES,
    )


def test_batch_normalization_follows_its_convolution():
    built = check(
        f"g (float[N, 3, H, W] x) => (float[n, c, h, w] y) <float[6, 3, 3, 3] k, {FOUR}> "
        "{ a = Conv (x, k) y = BatchNormalization (a, s, b, m, v) }",
        layers=["Conv2D", "BatchNormalization"],
        ranges={"v": (0.5, 2)},
        transposes=2,
        sizes=SIZES,
    )
    norm = next(layer for layer in built.model.layers if type(layer).__name__ == "BatchNormalization")
    assert (norm.axis, norm.epsilon, norm.momentum) == (-1, 1e-05, 0.9)


OTHERS = {
    # text after the input, layers
    "layer": ("<float[9] s, float[9] b> { y = LayerNormalization <epsilon = 0.001> (x, s, b) }", "LayerNormalization"),
    "layer without bias": ("<float[9] s> { y = LayerNormalization (x, s) }", "LayerNormalization"),
    "layer over two axes": (
        "<float[7, 9] s, float[7, 9] b> { y = LayerNormalization <axis = 2> (x, s, b) }", "LayerNormalization",
    ),
    "layer over three axes": ("<float[6, 7, 9] s> { y = LayerNormalization <axis = 1> (x, s) }", "LayerNormalization"),
    "layer with a scale of ones": (
        "{ n = Constant <value_ints = [9]> () s = ConstantOfShape <value = float[1] {1}> (n) "
        "y = LayerNormalization (x, s) }", "LayerNormalization",
    ),
    "rms": ("<float[9] s> { y = RMSNormalization <epsilon = 0.001> (x, s) }", "RMSNormalization"),
    "rms over two axes": ("<float[7, 9] s> { y = RMSNormalization <axis = 2> (x, s) }", "RMSNormalization"),
    "group": (
        "<float[6] s, float[6] b> { y = GroupNormalization <num_groups = 3, epsilon = 0.01> (x, s, b) }",
        "GroupNormalization",
    ),
    "instance": (
        "<float[6] s, float[6] b> { y = InstanceNormalization <epsilon = 0.01> (x, s, b) }", "GroupNormalization",
    ),
    "mean and variance": ("{ y = MeanVarianceNormalization <axes = [0, 2, 3]> (x) }", ""),
    "L1": ("{ y = LpNormalization <axis = 1, p = 1> (x) }", ""),
    "L2": ("{ y = LpNormalization (x) }", ""),
}  # fmt: skip


@pytest.mark.parametrize("row", OTHERS.values(), ids=OTHERS)
def test_others(row):
    body, layers = row
    check(f"g (float[N, 6, 7, 9] x) => (float[N, 6, 7, 9] y) {body}", layers=layers.split())


def test_others_where_channels_are_last():
    check(
        "g (float[N, 3, H, W] x) => (float[n, c, h, w] y) <float[6, 3, 3, 3] k, float[6] s, float[6] b> "
        "{ a = Conv (x, k) c = InstanceNormalization (a, s, b) d = GroupNormalization <num_groups = 2> (c, s, b) "
        "y = LRN <size = 3, alpha = 0.1> (d) }",
        layers=["Conv2D", "GroupNormalization", "GroupNormalization"],
        transposes=2,
        sizes=SIZES,
    )


def test_layer_normalization_of_channels():
    """As ConvNeXt writes it."""
    check(
        "g (float[N, 3, H, W] x) => (float[n, c, h, w] y) <float[6, 3, 3, 3] k, float[6] s, float[6] b> "
        "{ a = Conv (x, k) t = Transpose <perm = [0, 2, 3, 1]> (a) n = LayerNormalization (t, s, b) "
        "y = Transpose <perm = [0, 3, 1, 2]> (n) }",
        layers=["Conv2D", "LayerNormalization"],
        transposes=2,
        sizes=SIZES,
    )


def test_layer_normalization_of_whole_maps():
    """Over (C, H, W) of what a convolution stores channels last: the weights take that order."""
    check(
        "g (float[N, 3, 7, 9] x) => (float[n, c, h, w] y) <float[6, 3, 3, 3] k, float[6, 5, 7] s, float[6, 5, 7] b> "
        "{ a = Conv (x, k) y = LayerNormalization <axis = 1> (a, s, b) }",
        layers=["Conv2D", "LayerNormalization"],
        transposes=2,
    )


def test_statistics_that_the_graph_computes():
    check(
        "g (float[N, 6, H, W] x, float[6] m) => (float[N, 6, H, W] y) <float[6] s, float[6] b> "
        "{ v = Exp (m) y = BatchNormalization (x, s, b, m, v) }",
        sizes=SIZES,
    )


BROADCAST = {
    "one": "float[1] w, float[1] b",
    "one and all": "float[1] w, float[4] b",
    "one of two": "float[3, 1] w, float[4] b",
    "both as one": "float[1, 1] w, float[3, 4] b",
}


@pytest.mark.parametrize("weights", BROADCAST.values(), ids=BROADCAST)
@pytest.mark.parametrize("axis", [1, 2])
def test_a_scale_that_broadcasts(axis, weights):
    check(
        f"g (float[N, 3, 4] x) => (float[N, 3, 4] y) <{weights}> "
        f"{{ a = LayerNormalization <axis = {axis}> (x, w, b) c = RMSNormalization <axis = {axis}> (x, w) y = Add (a, c) }}"
    )


def test_a_scale_that_broadcasts_where_channels_are_last():
    check(
        "g (float[N, 3, 7, 9] x) => (float[n, c, h, w] y) <float[6, 3, 3, 3] k, float[6, 1, 1] s, float[7] b, float[1] t> "
        "{ a = Conv (x, k) c = LayerNormalization <axis = 1> (a, s, b) "
        "y = GroupNormalization <num_groups = 2> (c, t, t) }",
        transposes=2,
    )
