"""How a node of each operator with weights or windows is drawn: convolutions, pools, Resize, normalisations, recurrent
layers, attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.fuzz.draft import Draft, Illegal
from benchmarks.fuzz.operators import draws

WEIGHT = "wwwwwci"  # a weight is an initializer for the most part


def _image(d: Draft, least: int = 1, channels: int | None = None, dims: tuple[int, int] = (1, 3)) -> str:
    """Batch, channels and one to three axes of space."""
    return d.tensor(
        [t for t in ("float32", "float32", "float64", "float16") if t in d.types()],
        rank=(dims[0] + 2, dims[1] + 2),
        least=least,
        fits=lambda array: channels is None or array.shape[1] == channels,
    )


def window(d: Draft, sizes: tuple[int, ...], most: int = 4) -> dict[str, Any]:
    """Kernel, strides, dilations and padding that leave something."""
    kernel = [d.random.randint(1, min(n, most)) for n in sizes]
    dilations = [d.pick([1, 1, 2, 3]) if (k - 1) * 3 < n else 1 for k, n in zip(kernel, sizes, strict=True)]
    given: dict[str, Any] = {"kernel_shape": kernel}
    if d.chance(0.5):
        given["strides"] = [d.random.randint(1, 3) for _ in sizes]
    if d.has("dilations") and d.chance(0.3):
        given["dilations"] = dilations
    automatic = d.pick(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"]) if d.chance(0.3) else None
    if automatic in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        return given | {"auto_pad": automatic}
    if d.chance(0.5):
        extent = [k * (given.get("dilations") or [1] * 9)[i] for i, k in enumerate(kernel)]
        given["pads"] = [d.random.randint(0, min(3, n - 1)) for n in kernel * 2] if max(extent) > 1 else None
    return given | {"auto_pad": automatic}


@draws("Conv")
def conv(d: Draft) -> None:
    x = _image(d)
    dtype, (_, channels, *sizes) = d.values[x].dtype.name, d.values[x].shape
    given = window(d, tuple(sizes))
    group = d.pick([1, 1, channels, d.pick([g for g in range(1, channels + 1) if channels % g == 0])])
    filters = group * d.random.randint(1, 3)
    w = d.leaf(dtype, (filters, channels // group, *given["kernel_shape"]), roles=WEIGHT)
    b = d.leaf(dtype, (filters,), roles=WEIGHT) if d.chance(0.5) else ""
    stated = given.pop("kernel_shape") if d.chance(0.5) else None
    d.node(
        [x, w, b],
        kernel_shape=stated,
        group=d.pick([group, None]) if group == 1 else group,
        **stripped(given),
    )


def stripped(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "kernel_shape"}


@draws("ConvTranspose")
def conv_transpose(d: Draft) -> None:
    x = _image(d)
    dtype, (_, channels, *sizes) = d.values[x].dtype.name, d.values[x].shape
    given = window(d, tuple(max(2, n) for n in sizes), 3)
    group = d.pick([1, 1, 1, channels])
    w = d.leaf(dtype, (channels, d.random.randint(1, 3), *given["kernel_shape"]), roles=WEIGHT)
    b = d.leaf(dtype, (d.values[w].shape[1] * group,), roles=WEIGHT) if d.chance(0.5) else ""
    strides = given.get("strides") or [1] * len(sizes)
    extra = [d.random.randint(0, s - 1) for s in strides] if d.chance(0.3) else None
    shape = None
    if d.chance(0.1) and "pads" not in given:
        spans = zip(sizes, strides, given["kernel_shape"], given.get("dilations") or [1] * 9, strict=False)
        shape = [(n - 1) * s + (k - 1) * r + 1 - d.pick([0, 0, 1]) for n, s, k, r in spans]
    d.node([x, w, b], group=group, output_padding=extra, output_shape=shape, **stripped(given))


@draws("MaxPool AveragePool LpPool")
def pool(d: Draft) -> None:
    x = _image(d)
    given = window(d, d.values[x].shape[2:])
    indices = d.op == "MaxPool" and d.opset >= 8 and d.chance(0.1)
    d.node(
        [x], 2 if indices else 1, ceil_mode=d.pick([0, 1, None]), count_include_pad=d.pick([0, 1, None]),
        p=d.pick([1, 2, 3, None]), storage_order=d.pick([None, None, 1]) if indices else None, **given,
    )  # fmt: skip


@draws("GlobalAveragePool GlobalMaxPool GlobalLpPool")
def global_pool(d: Draft) -> None:
    d.node([_image(d)], p=d.pick([1, 2, 3, None]))


@draws("MaxUnpool")
def max_unpool(d: Draft) -> None:
    x = d.leaf(
        "float32",
        (d.pick([1, 2]), d.pick([1, 3]), *(2 * d.random.randint(1, 4) for _ in range(2))),
        roles="i",
    )
    d.op = "MaxPool"
    values, places = d.node([x], 2, kernel_shape=[2, 2], strides=[2, 2])
    d.op = "MaxUnpool"
    d.node([values, places], kernel_shape=[2, 2], strides=[2, 2])


@draws("Col2Im")
def col2im(d: Draft) -> None:
    image, block = [d.random.randint(3, 6) for _ in range(2)], [d.random.randint(1, 3) for _ in range(2)]
    strides = [d.pick([1, 1, 2]) for _ in range(2)]
    counts = [(n - b) // s + 1 for n, b, s in zip(image, block, strides, strict=True)]
    x = d.leaf(
        "float32", (d.pick([1, 2]), d.pick([1, 3]) * block[0] * block[1], counts[0] * counts[1]), roles="i"
    )
    d.node([x, d.ints(image), d.ints(block)], strides=strides)


@draws("Resize Upsample")
def resize(d: Draft) -> None:
    x = d.tensor(["float32"], rank=(1, 5), least=1)
    shape = d.values[x].shape
    rank, image = len(shape), len(shape) > 2 and d.chance(0.85)
    mode = d.pick(
        ["nearest", "linear", "cubic"] if d.opset > 10 and rank in (2, 4) else ["nearest", "linear"]
    )
    scales = [
        1.0 if image and k < 2 else d.pick([1.0, 2.0, 2.0, 3.0, 1.5, 0.5, 0.6, 2.5]) for k in range(rank)
    ]
    if d.op == "Upsample":
        scales = [max(1.0, s) for s in scales]
        inputs, given = (
            ([], {"scales": scales}) if d.has("scales") else ([d.given(np.array(scales, "float32"))], {})
        )
        d.node([x, *inputs], mode=d.pick(["nearest", "linear"]), **given)
        return
    if d.opset == 10:
        d.node([x, d.given(np.array(scales, "float32"))], mode=mode)
        return
    axes = sorted(k for k in range(rank) if scales[k] != 1) if d.has("axes") and d.chance(0.2) else None
    axes = axes or None
    scales = scales if not axes else [scales[axis] for axis in axes]
    sizes = None
    if d.chance(0.4):
        wanted = shape if not axes else [shape[axis] for axis in axes]
        sizes = [
            max(1, int(n * s) + (d.pick([0, 0, 1]) if s != 1 else 0))
            for n, s in zip(wanted, scales, strict=True)
        ]
    coordinates = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", None]
    coordinates += ["half_pixel_symmetric"] if d.opset > 18 else []
    given = {"coordinate_transformation_mode": d.pick(coordinates)}
    if mode == "nearest":
        given["nearest_mode"] = d.pick(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil", None])
    if mode == "cubic":
        given |= {"cubic_coeff_a": d.pick([-0.75, -0.5, None]), "exclude_outside": d.pick([0, 1, None])}
    if mode != "nearest" and d.chance(0.25):
        given["antialias"] = 1
    if sizes is not None and d.chance(0.1):
        given["keep_aspect_ratio_policy"] = d.pick(["stretch", "not_larger", "not_smaller"])
    roi = d.given(np.zeros(0, "float32")) if d.opset < 13 or d.chance(0.2) else ""
    scale = "" if sizes else d.given(np.array(scales, "float32"))
    scale = d.given(np.zeros(0, "float32")) if sizes and d.opset < 13 else scale
    d.node([x, roi, scale, d.ints(sizes) if sizes else ""], mode=d.pick([mode, mode]), axes=axes, **given)


@draws("GridSample")
def grid_sample(d: Draft) -> None:
    dims = d.pick([2, 2, 3]) if d.opset >= 20 else 2
    x = _image(d, dims=(dims, dims))
    shape = d.values[x].shape
    grid = d.leaf(
        "float32", (shape[0], *(d.random.randint(1, 4) for _ in range(dims)), dims), (-1.3, 1.3), "iiw"
    )
    modes = ["linear", "nearest", "cubic"] if d.opset >= 20 else ["bilinear", "nearest", "bicubic"]
    d.node(
        [x, grid], mode=d.pick([*modes[: 2 if dims == 3 else 3], None]), align_corners=d.pick([0, 1, None]),
        padding_mode=d.pick(["zeros", "border", "reflection", None]),
    )  # fmt: skip


@draws("NonMaxSuppression")
def boxes(d: Draft) -> None:
    batch, classes, count = d.pick([1, 1, 2]), d.pick([1, 2]), d.random.randint(1, 9)
    corners = d.leaf("float32", (batch, count, 4), (0, 1), "i")
    scores = d.leaf("float32", (batch, classes, count), (0, 1), "i")
    most = d.ints([d.random.randint(1, 6)])
    limits = [
        d.given(np.array([d.pick([0.0, 0.3, 0.6])], "float32")) if d.chance(0.7) else "" for _ in range(2)
    ]
    d.node([corners, scores, most, *limits], center_point_box=d.pick([0, 0, 1]))


@draws("RoiAlign")
def roi_align(d: Draft) -> None:
    x, boxes = _image(d, dims=(2, 2)), d.random.randint(1, 4)
    rois = d.leaf("float32", (boxes, 4), (-2, 9), "iiw")
    rows = d.leaf("int64", (boxes,), (0, d.values[x].shape[0] - 1), "iwc")
    given = {} if d.opset < 16 else {"coordinate_transformation_mode": d.pick(["output_half_pixel", None])}
    d.node(
        [x, rois, rows], mode=d.pick(["avg", "max", None]), output_height=d.pick([1, 2, 3, None]),
        output_width=d.pick([1, 2, None]), sampling_ratio=d.random.randint(1, 3),
        spatial_scale=d.pick([0.5, 1.3, None]), **given,
    )  # fmt: skip


@draws("DeformConv")
def deform_conv(d: Draft) -> None:
    x = _image(d, dims=(2, 2))
    dtype, (batch, channels, *sizes) = d.values[x].dtype.name, d.values[x].shape
    given = {name: value for name, value in window(d, tuple(sizes), 3).items() if name != "auto_pad"}
    kernel, pads = given["kernel_shape"], given.get("pads") or [0] * 4
    strides, dilations = (given.get(name) or [1, 1] for name in ("strides", "dilations"))
    out = [
        (n + pads[k] + pads[k + 2] - dilations[k] * (kernel[k] - 1) - 1) // strides[k] + 1
        for k, n in enumerate(sizes)
    ]
    divisors = [g for g in range(1, channels + 1) if channels % g == 0]
    group, offsets = d.pick(divisors), d.pick(divisors)
    w = d.leaf(dtype, (group * d.random.randint(1, 2), channels // group, *kernel), roles="w")
    moved = offsets * int(np.prod(kernel))
    offset = d.leaf(dtype, (batch, 2 * moved, *out), (-2, 2), "iiw")
    b = d.leaf(dtype, (d.values[w].shape[0],), roles="w") if d.chance(0.5) else ""
    mask = d.leaf(dtype, (batch, moved, *out), (-1, 1), "iw") if d.chance(0.5) else ""
    d.node([x, w, offset, b, mask], group=group, offset_group=offsets, **stripped(given))


# --- normalisation -------------------------------------------------------------------------------------------


def _epsilon(d: Draft) -> float | None:
    return d.pick([None, 1e-3, 0.1])


@draws("BatchNormalization")
def batch_normalization(d: Draft) -> None:
    x = d.tensor(rank=(2, 5))
    dtype, channels = d.values[x].dtype.name, d.values[x].shape[1]
    parts = [d.leaf(dtype, (channels,), within, WEIGHT) for within in (None, None, None, (0.1, 3))]
    d.node([x, *parts], epsilon=_epsilon(d), momentum=d.pick([None, 0.7]))


@draws("InstanceNormalization")
def instance_normalization(d: Draft) -> None:
    x = _image(d)
    dtype, channels = d.values[x].dtype.name, d.values[x].shape[1]
    d.node([x, *(d.leaf(dtype, (channels,), roles=WEIGHT) for _ in range(2))], epsilon=_epsilon(d))


@draws("GroupNormalization")
def group_normalization(d: Draft) -> None:
    x = _image(d)
    dtype, channels = d.values[x].dtype.name, d.values[x].shape[1]
    groups = d.pick([g for g in range(1, channels + 1) if channels % g == 0])
    count = groups if d.opset < 21 else channels
    parts = [d.leaf(dtype, (count,), roles=WEIGHT) for _ in range(2)]
    d.node([x, *parts], num_groups=groups, epsilon=_epsilon(d))


@draws("LayerNormalization RMSNormalization")
def layer_normalization(d: Draft) -> None:
    x = d.tensor(rank=(1, 5), least=1)
    dtype, shape = d.values[x].dtype.name, d.values[x].shape
    axis = d.axis(x) if d.chance(0.6) else -1
    normal = shape[axis:] if axis < 0 else shape[axis:]
    normal = normal if d.chance(0.85) else d.pick([(1,), normal[-1:]])
    scale = d.leaf(dtype, normal, roles=WEIGHT)
    bias = d.leaf(dtype, normal, roles=WEIGHT) if d.op[0] == "L" and d.chance(0.7) else ""
    d.node([x, scale, bias], axis=axis, epsilon=_epsilon(d))


@draws("LpNormalization")
def lp_normalization(d: Draft) -> None:
    x = d.tensor(rank=(1, 5), least=1)
    d.node([x], axis=d.pick([d.axis(x), None]), p=d.pick([1, 2, None]))


@draws("MeanVarianceNormalization")
def mean_variance(d: Draft) -> None:
    x = d.tensor(rank=(2, 5), least=1)
    axes = d.pick([None, d.axes(x, least=1)])
    if axes is None and d.values[x].ndim != 4:
        raise Illegal("the default axes are those of an image")
    if np.prod([d.values[x].shape[axis] for axis in axes or (0, 2, 3)]) < 2:
        raise Illegal("the deviation of one number is rounding")
    d.node([x], axes=axes)


@draws("LRN")
def lrn(d: Draft) -> None:
    d.node(
        [_image(d)],
        size=d.pick([1, 3, 5, 2]),
        alpha=d.pick([None, 0.3]),
        beta=d.pick([None, 0.5]),
        bias=d.pick([None, 2.0]),
    )


# --- recurrent layers ----------------------------------------------------------------------------------------

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
ACTIVATIONS = {
    "Tanh": (), "Sigmoid": (), "Relu": (), "HardSigmoid": ("alpha", "beta"), "LeakyRelu": ("alpha",), "Softsign": (),
    "Elu": ("alpha",), "Softplus": (), "ThresholdedRelu": ("alpha",), "ScaledTanh": ("alpha", "beta"),
    "Affine": ("alpha", "beta"),
}  # fmt: skip


def _sequence(d: Draft) -> tuple[str, int, int, int]:
    x = d.tensor(["float32"], rank=(3, 3), least=1)
    return (x, *d.values[x].shape)


def _functions(d: Draft, directions: int) -> dict[str, Any]:
    """Other activations than the usual ones."""
    per = {"RNN": 1, "GRU": 2, "LSTM": 3}[d.op]
    names = d.random.choices(list(ACTIVATIONS)[: 3 if d.chance(0.5) else None], k=per) * directions
    alphas = [0.3 for name in names if "alpha" in ACTIVATIONS[name]]
    betas = [0.6 for name in names if "beta" in ACTIVATIONS[name]]
    return {"activations": names, "activation_alpha": alphas or None, "activation_beta": betas or None}


@draws("RNN GRU LSTM")
def recurrent(d: Draft) -> None:
    """Every attribute, lengths, initial states, any of the outputs."""
    x, time, batch, features = _sequence(d)
    direction = d.pick(["forward", "reverse", "bidirectional", None, None])
    directions, hidden, gates = 1 + (direction == "bidirectional"), d.random.randint(1, 4), GATES[d.op]
    w = d.leaf("float32", (directions, gates * hidden, features), roles=WEIGHT)
    r = d.leaf("float32", (directions, gates * hidden, hidden), roles=WEIGHT)
    b = d.leaf("float32", (directions, 2 * gates * hidden), roles=WEIGHT) if d.chance(0.6) else ""
    lengths = d.leaf("int32", (batch,), (1, time), "iiiwc") if d.chance(0.3) else ""
    state = (directions, batch, hidden)
    inputs = [x, w, r, b, lengths, d.leaf("float32", state, roles="iiwc") if d.chance(0.3) else ""]
    if d.op == "LSTM":
        inputs.append(d.leaf("float32", state, roles="iiwc") if d.chance(0.3) else "")
        inputs.append(d.leaf("float32", (directions, 3 * hidden), roles=WEIGHT) if d.chance(0.1) else "")
    given: dict[str, Any] = _functions(d, directions) if d.chance(0.2) else {}
    if d.chance(0.1):
        given["clip"] = round(d.random.uniform(0.3, 2), 1)
    count = 3 if d.op == "LSTM" else 2
    used = [d.chance(0.6) for _ in range(count)]
    if not any(used):
        used[d.random.randrange(count)] = True
    coupled = d.chance(0.1)
    d.node(
        inputs, used, hidden_size=hidden, direction=direction, linear_before_reset=d.pick([0, 1, None]),
        input_forget=1 if coupled else None, **given,
    )  # fmt: skip


# --- attention -----------------------------------------------------------------------------------------------


@draws("Attention")
def attention(d: Draft) -> None:
    batch, heads, size, length, keys = (
        d.pick([1, 2]),
        d.pick([1, 2, 4]),
        d.pick([2, 3]),
        d.pick([1, 3, 4]),
        d.pick([2, 5]),
    )
    groups, wide = d.pick([heads, heads, 1]), d.pick([size, size, 4])
    if d.chance(0.3):
        shapes = [(batch, length, heads * size), (batch, keys, groups * size), (batch, keys, groups * wide)]
        given: dict[str, Any] = {"q_num_heads": heads, "kv_num_heads": groups}
    else:
        shapes = [(batch, heads, length, size), (batch, groups, keys, size), (batch, groups, keys, wide)]
        given = {}
    parts = [d.leaf("float32", shape, roles="i") for shape in shapes]
    mask = ""
    if d.chance(0.4):
        shape = d.pick([(length, keys), (batch, 1, length, keys), (1, heads, length, keys)])
        mask = (
            d.given(np.ones(shape, bool), roles="w")
            if d.chance(0.2)
            else d.leaf("float32", shape, roles="iw")
        )
    d.node(
        [*parts, mask], is_causal=d.pick([None, None, 1]), scale=d.pick([None, 0.3]),
        softcap=d.pick([None, None, 2.0]), **given,
    )  # fmt: skip
