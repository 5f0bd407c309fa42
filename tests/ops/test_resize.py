"""Resize and GridSample: every way that torch writes them, at sizes known and free, and ONNX's own words for more."""

from __future__ import annotations

import itertools

import pytest
import torch
from checking import check, refuses
from sampling import every, slow
from torch import Tensor, nn
from torch.nn import functional as F

import bridge

torch.set_num_threads(1)

SHAPES = {3: (2, 3, 7), 4: (2, 3, 6, 9), 5: (2, 3, 4, 5, 6)}
FREE = {rank: ({0: "batch"} | {axis: f"size{axis}" for axis in range(2, rank)},) for rank in SHAPES}


class Calls(nn.Module):
    """A function as a network, with a convolution before it and behind it, so that channels are last inside."""

    def __init__(self, function, rank):
        super().__init__()
        kind = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[rank]
        self.function, self.first, self.last = function, kind(3, 4, 1), kind(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


def proved(function, rank: int, free: bool = True) -> bridge.Conversion:
    torch.manual_seed(0)
    shapes = FREE[rank] if free else None
    result = bridge.convert(
        Calls(function, rank).eval(),
        torch.randn(SHAPES[rank]),
        dynamic_shapes=shapes,
        verify=bridge.Verify(float64=True),
    )
    assert result.report.transposes <= 2  # at the doors
    assert not result.report.custom_layers
    return result


# --- torch ---------------------------------------------------------------------------------------------------

LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
INTERPOLATED = {
    # by a factor (each axis may have its own), or to a size; the rest is torch's
    f"{mode}, {', '.join(f'{k}={v}' for k, v in how.items())}, {rank - 2}d": (rank, {"mode": mode} | how)
    for rank in SHAPES
    for mode in ("nearest", "nearest-exact", LINEAR[rank])
    for how in (
        {"scale_factor": 2},
        {"scale_factor": 0.37},
        {"scale_factor": 1 / 3},
        {"scale_factor": 0.6, "recompute_scale_factor": True},
        {"size": (5, 8, 3)[: rank - 2]},
        *([{"size": (5, 8, 3)[: rank - 2], "align_corners": True}] if mode == LINEAR[rank] else []),
    )
} | {
    f"bicubic, {', '.join(f'{k}={v}' for k, v in how.items())}": (4, {"mode": "bicubic"} | how)
    for how in (
        {"scale_factor": 2.0},
        {"scale_factor": (1.5, 0.5)},
        {"size": (11, 4)},
        {"size": (11, 4), "align_corners": True},
    )
}


@pytest.mark.parametrize("row", every(3, INTERPOLATED.values()), ids=INTERPOLATED)
def test_interpolate(row):
    rank, options = row
    proved(lambda x: F.interpolate(x, **options), rank)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize(
    "how", [{"scale_factor": 0.6}, {"scale_factor": 41.0}, {"size": 55}, {"size": 1}], ids=str
)
@pytest.mark.parametrize("free", [True, slow(False)], ids=["free", "fixed"])
def test_the_nearest_cell_is_torchs_where_rounding_decides(mode, how, free):
    """torch's single precision has 3 / 0.6 at 5 and 41 cells of a 41st at less than one."""
    proved(lambda x: F.interpolate(x, mode=mode, **how), 3, free)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(3, 4), (3, 20), (12, 18)], ids=str)
def test_antialiased(mode, size):
    proved(lambda x: F.interpolate(x, size=size, mode=mode, antialias=True), 4, free=False)


def test_to_the_size_of_another_tensor():
    """As decoders do: no size is known."""
    proved(lambda x: F.interpolate(F.max_pool2d(x, 2), x.shape[2:], mode="bilinear") + x, 4)


LAYERS = {
    "nn.Upsample": (4, nn.Upsample(scale_factor=2), "UpSampling2D"),
    "nn.UpsamplingNearest2d": (4, nn.UpsamplingNearest2d(scale_factor=3), "UpSampling2D"),
    "1d": (3, nn.Upsample(scale_factor=2), "UpSampling1D"),
    "3d": (5, nn.Upsample(scale_factor=(1, 2, 2)), "UpSampling3D"),
    "bilinear": (4, nn.Upsample(scale_factor=2, mode="bilinear"), "UpSampling2D"),
}


@pytest.mark.parametrize("row", LAYERS.values(), ids=LAYERS)
def test_upsampling_is_a_layer(row):
    rank, module, layer = row
    made = [row.layer for row in proved(module, rank, free=False).report.rows]
    assert layer in made


@pytest.mark.parametrize("align", [False, slow(True)])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", slow("bicubic")])
def test_grid_sample(mode, padding, align):
    def function(x):
        grid = 1.3 * torch.tanh(x[:, :2].permute(0, 2, 3, 1))  # in the picture and beside it
        return F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=align)

    proved(function, 4)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sample_by_cubics(padding):
    check(
        f"""g (float[2, C, 3, 4] x, float[2, 2, 3, 2] grid) => (float[2, C, 2, 3] y)
        {{ y = GridSample <mode = "cubic", padding_mode = "{padding}"> (x, grid) }}""",
        transposes=2,
    )


def test_grid_sample_at_known_places():
    check(
        "g (float[1, 2, N, 4] x) => (float[1, 2, 1, 2] y) <float[1, 1, 2, 2] grid = {-0.5, 0.25, 0.75, -1.2}> "
        "{ y = GridSample (x, grid) }",
        transposes=2,
    )


def test_grid_sample_of_any_number_of_channels():
    check(
        "g (float[2, C, 3, 4] x, float[2, 2, 3, 2] grid) => (float[2, C, 2, 3] y) { y = GridSample (x, grid) }",
        transposes=2,
    )


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sample_of_volumes(padding):
    def function(x):
        grid = 1.3 * torch.tanh(x[:, :3].permute(0, 2, 3, 4, 1))
        return F.grid_sample(x, grid, padding_mode=padding, align_corners=False)

    proved(function, 5)


@pytest.mark.parametrize("align", [False, True])
def test_affine_grid(align):
    """A spatial transformer: the picture is turned by numbers that come from itself."""

    def function(x):
        theta = x.mean((2, 3))[:, :3, None] * torch.ones(2).view(1, 1, 2)
        theta = theta.transpose(1, 2) + torch.eye(2, 3)
        grid = F.affine_grid(theta, [x.shape[0], 4, 5, 7], align_corners=align)
        return F.grid_sample(x, grid, align_corners=align)

    proved(function, 4)


# --- ONNX ----------------------------------------------------------------------------------------------------

SIZES = [{"N": 2, "H": 5, "W": 7}, {"N": 3, "H": 6, "W": 4}, {"N": 1, "H": 1, "W": 2}]
WHERE = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
ROUNDED = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
NUMBERS = {
    "scales": '<float[4] s = {1.0, 1.0, 2.0, 1.5}> { y = Resize <%s> (x, , s) }',
    "sizes": '<int64[4] s = {2, 3, 9, 4}> { y = Resize <%s> (x, , , s) }',
}  # fmt: skip


def resized(attributes: str, how: str = "scales", x: str = "float[N, 3, H, W]") -> str:
    x = "float[2, 3, 5, 7]" if how == "sizes" else x
    return f"g ({x} x) => (float[n, 3, h, w] y) {NUMBERS[how] % attributes}"


@pytest.mark.parametrize("how", NUMBERS)
@pytest.mark.parametrize(("where", "rounded"), [*itertools.product(WHERE, ROUNDED)])
def test_nearest(where, rounded, how):
    text = f'mode = "nearest", coordinate_transformation_mode = "{where}", nearest_mode = "{rounded}"'
    check(resized(text, how), transposes=2, sizes=SIZES)


@pytest.mark.parametrize("how", NUMBERS)
@pytest.mark.parametrize(
    "mode", ["linear", "cubic", "cubic, cubic_coeff_a = -0.5", "cubic, exclude_outside = 1"]
)
@pytest.mark.parametrize("where", WHERE)
def test_between_cells(where, mode, how):
    mode, _, more = mode.partition(", ")
    text = ", ".join(filter(None, [f'mode = "{mode}"', f'coordinate_transformation_mode = "{where}"', more]))
    check(resized(text, how), transposes=2, sizes=SIZES)


@pytest.mark.parametrize("how", ["{2, 3, 3, 9}", "{1.0, 1.0, 0.6, 1.5}"], ids=["sizes", "scales"])
@pytest.mark.parametrize("mode", ["linear", "cubic, exclude_outside = 1"])
@pytest.mark.parametrize("where", WHERE)
def test_antialiased_where_cells_lie(where, mode, how):
    mode, _, more = mode.partition(", ")
    text = ", ".join(filter(None, [f'mode = "{mode}"', f'coordinate_transformation_mode = "{where}"', more]))
    kind, x, call = ("float", "2, 3, H, W", "x, , s") if "." in how else ("int64", "2, 3, 5, 7", "x, , , s")
    check(
        f"g (float[{x}] x) => (float[n, 3, h, w] y) <{kind}[4] s = {how}> {{ y = Resize <antialias = 1, {text}> ({call}) }}",
        transposes=2,
        sizes=SIZES[:2],
    )


def test_nearest_of_one_cell():
    """Where the size of the output is one, which only the run shows."""
    check(
        "g (float[2, 4, H, H] x) => (float[2, 4, h, w] y) <float[4] s = {1.0, 1.0, 0.6, 1.5}> "
        '{ y = Resize <coordinate_transformation_mode = "pytorch_half_pixel", nearest_mode = "ceil"> (x, , s) }',
        transposes=2,
        sizes=[{"H": 3}, {"H": 2}, {"H": 6}],
    )


def test_only_the_axes_that_are_named():
    source = """g (float[N, 3, H, W] x) => (float[N, 3, H, w] y) <float[1] s = {2.0}>
        { y = Resize <mode = "linear", axes = [3]> (x, , s) }"""
    check(source, transposes=2, sizes=SIZES)


REFUSED = {
    'coordinate_transformation_mode = "tf_crop_and_resize"': "crop with Slice",
    'mode = "linear", keep_aspect_ratio_policy = "not_larger"': "keep_aspect_ratio_policy",
}


@pytest.mark.parametrize("attributes", REFUSED)
def test_refused(attributes):
    refuses(resized(attributes), REFUSED[attributes])


def test_refused_antialias():
    refuses(
        "g (float[N, 3, H, W] x) => (float[N, 3, 4, 4] y) <int64[4] s = {2, 3, 4, 4}> "
        '{ y = Resize <mode = "linear", antialias = 1> (x, , , s) }',
        "give the scales",
    )


CROP = 'coordinate_transformation_mode = "tf_crop_and_resize", extrapolation_value = 2.5'
REGIONS = {
    "beyond": (f'{CROP}, mode = "linear"', "r", "3, 7"),
    "cells": (f'{CROP}, mode = "nearest"', "r", "3, 7"),
    "one row": (f'{CROP}, mode = "linear"', "r", "1, 7"),
    "the ratio of the sides, not larger": (
        'axes = [2, 3], keep_aspect_ratio_policy = "not_larger", mode = "linear"', "", "6, 9",
    ),
    "the ratio of the sides, not smaller": (
        'axes = [2, 3], keep_aspect_ratio_policy = "not_smaller", mode = "nearest"', "", "6, 9",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", REGIONS.values(), ids=REGIONS)
def test_a_region_and_sizes_that_follow(row):
    """Between channels that are last inside, which ONNX numbers otherwise."""
    how, region, sizes = row
    whole = sizes if "axes" in how else f"2, 2, {sizes}"
    check(
        "g (float[2, 3, 4, 5] x) => (float[A, B, C, D] y) <float[2, 3, 1, 1] w, "
        f"int64[{whole.count(',') + 1}] s = {{{whole}}}, float[8] r = {{0, 0, 0.4, 0.6, 1, 1, 1.2, 0.9}}> "
        f'{{ c = Conv (x, w) y = Resize <{how}> (c, {region or chr(34) * 2}, "", s) }}',
        sizes=[{}],
        transposes=None,
    )


# --- boxes, and kernels whose places move ---------------------------------------------------------------------

BOXES = '<ir_version: 10, opset_import: ["": 16]>'  # the newest in which onnxruntime reads them


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_boxes(mode):
    check(
        f"""{BOXES} g (float[1, C, H, W] x, float[R, 4] r, int64[R] i) => (float[R, C, 3, 2] y)
        {{ y = RoiAlign <mode = "{mode}", output_height = 3, output_width = 2, sampling_ratio = 2,
          spatial_scale = 0.5> (x, r, i) }}""",
        ranges={"r": (-3, 20), "i": (0, 1)},
        transposes=2,
    )


def test_known_boxes():
    check(
        BOXES
        + """g (float[1, C, H, W] x) => (float[3, C, 2, 1] y)
        <float[3, 4] r = {-1, 0.5, 2, 3, 1, 2, 6, 4, 3, 3, 9, 9}, int64[3] i = {0, 0, 0}>
        { y = RoiAlign <output_height = 2, sampling_ratio = 1> (x, r, i) }""",
        transposes=2,
    )


def test_boxes_in_a_known_picture():
    check(
        BOXES
        + """g (float[R, 4] r) => (float[R, 1, 1, 2] y)
        <float[1, 1, 2, 3] x = {1, 2, 3, 4, 5, 6}, int64[1] zero = {0}>
        { s = Shape <start = 0, end = 1> (r)  i = Expand (zero, s)
          y = RoiAlign <output_width = 2, sampling_ratio = 2> (x, r, i) }""",
        ranges={"r": (-2, 5)},
        transposes=None,
        one_way=True,
    )


def test_boxes_that_say_how_much_of_them_is_read_are_refused():
    refuses(
        "g (float[1, 3, 5, 5] x, float[2, 4] r, int64[2] i) => (float[2, 3, 2, 1] y) { y = RoiAlign <output_height = 2> (x, r, i) }",
        "sampling_ratio=0: how many points it reads hangs on the sizes",
    )


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3)])
def test_a_kernel_whose_places_move(height, width):
    places = height * width
    check(
        f"""g (float[N, 4, 4, 5] x, float[N, {4 * places}, A, B] o, float[N, {2 * places}, A, B] m) => (float[N, 6, A, B] y)
        <float[6, 2, {height}, {width}] w, float[6] b>
        {{ y = DeformConv <group = 2, offset_group = 2> (x, w, o, b, m) }}""",
        layers=["Conv2D"],
        transposes=2,
        sizes=[{"N": 2, "A": 5 - height, "B": 6 - width}],
    )


def test_windows_as_long_as_an_axis():
    check(
        """g (float[N, T] x) => (float[N, T] a, float[N, T] b, float[N, T] c) <int64 one = {1}>
        { s = Shape (x)  t = Gather (s, one)  h = HannWindow (t)  m = HammingWindow (t)  k = BlackmanWindow <periodic = 0> (t)
          a = Mul (x, h)  b = Mul (x, m)  c = Mul (x, k) }""",
        sizes=[{"N": 2, "T": 5}, {"N": 1, "T": 8}],
    )
