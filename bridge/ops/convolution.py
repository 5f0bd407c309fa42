"""Convolutions in one to three dimensions: Keras's own layers, padded first where they cannot say the pads.

Kernels are ONNX's (outputs, inputs / group, spatial…), transposed ones (inputs, outputs / group, spatial…); a kernel
that the graph computes goes through `keras.ops`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import keras
import numpy as np
from keras import ops

from bridge.graph.shapes import Dim
from bridge.graph.windows import Window, windows
from bridge.keras_compat import Config
from bridge.ops import dims
from bridge.ops.contract import Ints, Site, Step, Tensor
from bridge.ops.layouts import CHANNELS_LAST
from bridge.ops.padding import PADDING, check_padding, is_same, is_valid, padded
from bridge.ops.reading import between, pictures, read_at
from bridge.ops.registry import op
from bridge.weights.weight import Weight

layers = keras.layers
CONV = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}
DEPTHWISE = {1: layers.DepthwiseConv1D, 2: layers.DepthwiseConv2D}
TRANSPOSED = {1: layers.Conv1DTranspose, 2: layers.Conv2DTranspose, 3: layers.Conv3DTranspose}


def _kernel(step: Step) -> list[int] | None:
    """The spatial sizes of the kernel, which the weights know best."""
    w = step.argument("w")
    sizes = w.dims if isinstance(w, Weight) else w.shape
    spatial = list(sizes[2:])
    return spatial if all(isinstance(dim, int) for dim in sizes) else step.argument("kernel_shape")


def _check_channels(step: Step) -> str | None:
    if reason := dims.unknown_channels(step):
        return reason
    channels, kernel = step.shape()[1], step.shape(1)
    takes = kernel[0] if step.node.op_type == "ConvTranspose" else kernel[1] * step.argument("group")
    fits = takes == channels or not isinstance(takes, int)
    return None if fits else f"its kernel takes {takes} channels, its input has {channels}"


def _check_conv(step: Step) -> str | None:
    kernel = _kernel(step)
    if kernel is None:
        return "the size of its kernel is not known"
    given = [step.argument(name) for name in ("strides", "pads", "dilations", "auto_pad")]
    return _check_channels(step) or check_padding(windows(step.shape()[2:], kernel, *given), given[-1])


@op("Conv", layout=CHANNELS_LAST, check=_check_conv, makes=(*CONV.values(), *DEPTHWISE.values(), *PADDING))
def conv(
    site: Site, x, w: Weight | Tensor, b: Weight | Tensor | None = None,
    *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None,
):  # fmt: skip
    axes = windows(site.shape()[1:-1], _kernel(site.step) or [], strides, pads, dilations, auto_pad)
    x = site.at_run_time(x)  # Keras does not look whether its kernel is a tensor
    depthwise = isinstance(w, Weight) and group == x.shape[-1] > 1 and len(axes) in DEPTHWISE
    padding, x = _pad(site, x, axes, causal=not depthwise)
    return _in_steps(site, x, w, b, axes, group, padding, depthwise)


def _in_steps(
    site: Site, x, w, b, axes: Sequence[Window], group: int, padding: str, depthwise: bool
) -> Tensor:
    """Convolved; where strides cannot be said, every place is computed, and some are kept."""
    steps = [axis.stride for axis in axes]
    dilated = max(steps) > 1 and max(axis.dilation for axis in axes) > 1  # which Keras refuses
    # TensorFlow (2.21, on CPUs) mistakes one channel where the last of two axes alone has a stride, with one place left
    last = site.out_shape()[2]
    alone = len(steps) == 2 and steps[0] == 1 < steps[1] and x.shape[-1] == group
    thinned = dilated or alone and not (isinstance(last, int) and last > 1)
    if thinned:
        if padding == "same":
            x, padding = padded(site, x, [axis.ends for axis in axes]), "valid"
        axes = [replace(axis, stride=1) for axis in axes]
    y = _convolved(site, x, w, b, axes, group, padding, depthwise)
    return y[(slice(None), *(slice(None, None, step) for step in steps))] if thinned else y


def _pad(site: Site, x: Tensor, axes: Sequence[Window], causal: bool) -> tuple[str, Tensor]:
    """Keras's word for the padding, and x with what that word does not say."""
    if is_valid(axes):
        return "valid", x
    if is_same(axes):
        return "same", x
    if causal and len(axes) == 1 and axes[0].pads == (axes[0].span - 1, 0):
        return "causal", x
    return "valid", padded(site, x, [axis.ends for axis in axes])


def _convolved(
    site: Site, x, w, b, axes: Sequence[Window], group: int, padding: str, depthwise: bool
) -> Tensor:
    config: Config = {
        "strides": tuple(axis.stride for axis in axes),
        "padding": padding,
        "dilation_rate": _one_or_all([axis.dilation for axis in axes]),
    }
    if not isinstance(w, Weight) or not _is_bias(b):
        return _computed(site, x, w, b, axes, config, group)
    kernel = tuple(axis.kernel for axis in axes)
    weights = {"bias": b} if isinstance(b, Weight) else {}
    config |= {"kernel_size": kernel, "use_bias": bool(weights)}
    if depthwise and len(set(config["strides"])) == 1:
        weights["kernel"] = w.reshape(group, -1, *kernel).rearrange("c m ... -> ... c m")
        return site.layer(
            DEPTHWISE[len(axes)], depth_multiplier=w.dims[0] // group, weights=weights, **config
        )(x)
    weights["kernel"] = w.rearrange("o i ... -> ... i o")
    return site.layer(CONV[len(axes)], filters=w.dims[0], groups=group, weights=weights, **config)(x)


def _one_or_all(numbers: Sequence[int]) -> int | tuple[int, ...]:
    """One number where all are the same: of several, saved as a list, TensorFlow's depthwise convolution along one
    axis makes an error (Keras 3.15)."""
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)


def _is_bias(b: Weight | Tensor | None) -> bool:
    """A parameter, or none, or the zeros that exporters write for none."""
    return b is None or isinstance(b, Weight) or (isinstance(b, np.ndarray) and not b.any())


def _computed(site: Site, x, w, b, axes: Sequence[Window], config: Config, group: int) -> Tensor:
    """A convolution whose kernel or bias is a tensor; each group of channels by itself, as `ops.conv` has no groups."""
    if config["padding"] == "causal":
        x = ops.pad(x, ((0, 0), axes[0].pads, (0, 0)))
        config["padding"] = "valid"
    w = site.tensor(w) if isinstance(w, Weight) else w
    kernel = ops.transpose(w, (*range(2, len(axes) + 2), 1, 0))
    if 1 < group == x.shape[-1] and len(axes) in DEPTHWISE and len(set(config["strides"])) == 1:
        by_channel = ops.reshape(kernel, (*kernel.shape[:-2], group, kernel.shape[-1] // group))
        return _biased(site, ops.depthwise_conv(x, by_channel, **config | {"strides": axes[0].stride}), b)
    return _biased(site, _by_groups(lambda x, k: ops.conv(x, k, **config), x, kernel, group, axis=-1), b)


def _by_groups(
    convolve: Callable[[Tensor, Tensor], Tensor], x: Tensor, kernel: Tensor, group: int, axis: int
) -> Tensor:
    """Each group of channels by itself; along `axis` the kernel has its blocks one after the other."""
    if group == 1:
        return convolve(x, kernel)
    parts = zip(ops.split(x, group, axis=-1), ops.split(kernel, group, axis=axis), strict=True)
    return ops.concatenate([convolve(*part) for part in parts], axis=-1)


def _biased(site: Site, y, b) -> Tensor:
    return (
        y
        if _is_bias(b) and not isinstance(b, Weight)
        else y + (site.tensor(b) if isinstance(b, Weight) else b)
    )


# --- transposed --------------------------------------------------------------------------------------------------


def _check_transposed(step: Step) -> str | None:
    kernel = _kernel(step)
    if kernel is None:
        return "the size of its kernel is not known"
    if reason := _check_channels(step):
        return reason
    if step.argument("output_shape") and not all(isinstance(dim, int) for dim in step.shape()[2:]):
        return "output_shape with an input of unknown size; give pads and output_padding"
    return None


@op("ConvTranspose", layout=CHANNELS_LAST, check=_check_transposed, makes=(*TRANSPOSED.values(), *PADDING))
def conv_transpose(
    site: Site, x, w: Weight | Tensor, b: Weight | Tensor | None = None,
    *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, output_padding=None, output_shape=None,
    pads=None, strides=None,
):  # fmt: skip
    """What the pads cut off the whole output is cropped; what lies behind it (output_padding) Keras makes itself."""
    axes = windows(site.shape()[1:-1], _kernel(site.step) or [], strides, pads, dilations)
    x = site.at_run_time(x)  # Keras does not look whether its kernel is a tensor
    extra = output_padding or [0] * len(axes)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER") or output_shape:
        axes = [
            replace(a, pads=p)
            for a, p in zip(axes, _fitted(axes, extra, output_shape, auto_pad), strict=True)
        ]
    cut = [(axis.ends[0], axis.ends[1] - more) for axis, more in zip(axes, extra, strict=True)]
    more = [max(-end, 0) for _, end in cut]
    crop = [(-begin, -max(end, 0)) for begin, end in cut]
    if not isinstance(w, Weight) or not _is_bias(b) or max(axis.dilation for axis in axes) > 1:
        # a dilated Conv2DTranspose is not in tensorflow's own kernels for CPUs
        w = site.tensor(w) if isinstance(w, Weight) else w
        kernel = ops.transpose(w, (*range(2, len(axes) + 2), 0, 1))
        y = _by_groups(lambda x, k: _spread(x, k, axes, more), x, kernel, group, axis=-2)
        return _biased(site, padded(site, y, crop), b)
    config: Config = {"strides": tuple(axis.stride for axis in axes)}
    if any(map(any, cut)) and all(
        _is_same_transposed(axis, ends) for axis, ends in zip(axes, cut, strict=True)
    ):
        return _transposed(site, x, w, b, axes, group, config | {"padding": "same"})
    config |= {"padding": "valid", "output_padding": tuple(more)}
    return padded(site, _transposed(site, x, w, b, axes, group, config), crop)


def _fitted(
    axes: Sequence[Window], extra: Sequence[int], output_shape: Sequence[int] | None, auto_pad: str
) -> list:
    """The pads that give `output_shape`, or the input's size times the stride."""
    pads = []
    for index, axis in enumerate(axes):
        if output_shape:
            size = cast("int", axis.size)
            total = axis.stride * (size - 1) + extra[index] + axis.span - output_shape[index]
        else:
            total = max(extra[index] + axis.span - axis.stride, 0)
        half = total // 2
        if total < 0:  # there is more behind the end
            pads.append((0, total))
        else:
            pads.append((half, total - half) if auto_pad == "SAME_UPPER" else (total - half, half))
    return pads


def _is_same_transposed(axis: Window, cut: tuple[int, int]) -> bool:
    """Whether Keras's "same", an output as long as the input times the stride, cuts this much."""
    total = axis.span - axis.stride
    return total >= 0 and cut == (total // 2, total - total // 2)


def _transposed(
    site: Site, x, w: Weight, b: Weight | Tensor | None, axes: Sequence[Window], group: int, config: Config
) -> Tensor:
    """The whole transposed convolution, one layer for each group."""
    cls, inputs, outputs = TRANSPOSED[len(axes)], w.dims[0] // group, w.dims[1]
    config |= {"kernel_size": tuple(axis.kernel for axis in axes), "use_bias": isinstance(b, Weight)}
    parts = []
    for index in range(group):
        weights = {
            "kernel": w.narrow(0, index * inputs, (index + 1) * inputs).rearrange("i o ... -> ... o i")
        }
        if isinstance(b, Weight):
            weights["bias"] = b.narrow(0, index * outputs, (index + 1) * outputs)
        part = x if group == 1 else x[..., index * inputs : (index + 1) * inputs]
        parts.append(site.layer(cls, filters=outputs, weights=weights, **config)(part))
    return parts[0] if group == 1 else ops.concatenate(parts, axis=-1)


def _spread(x: Tensor, kernel: Tensor, axes: Sequence[Window], more: Sequence[int]) -> Tensor:
    """The whole transposed convolution with a kernel (spatial…, inputs, outputs) that is a tensor, or dilated: an
    ordinary one over x with zeros between its cells. `keras.ops.conv_transpose` mistakes its arguments (3.15)."""
    for place, axis in enumerate(axes, 1):
        if axis.stride > 1:
            x = ops.repeat(x, axis.stride, axis=place)
            line = x[tuple(slice(None) if k == place else slice(0, 1) for k in range(len(x.shape)))]
            number = ops.cumsum(ops.ones_like(line, dtype="int32"), axis=place) - 1
            x = x * ops.cast(ops.equal(number % axis.stride, 0), x.dtype)
            x = x[(slice(None),) * place + (slice(None, 1 - axis.stride),)]
    pads = [(axis.span - 1, axis.span - 1 + rest) for axis, rest in zip(axes, more, strict=True)]
    kernel = ops.flip(kernel, axis=tuple(range(len(axes))))
    return ops.conv(
        ops.pad(x, ((0, 0), *pads, (0, 0))), kernel, dilation_rate=tuple(axis.dilation for axis in axes)
    )


# --- kernels whose places move ------------------------------------------------------------------------------------


def _check_moved(step: Step) -> str | None:
    if len(step.shape()) != 4:
        return "pictures of two dimensions only"
    return dims.unknown_channels(step)


@op("DeformConv", layout=CHANNELS_LAST, check=_check_moved, makes=(CONV[2], *dims.RESHAPING))
def deform_conv(
    site: Site, x, w: Weight, offset, b: Weight | Tensor | None = None, mask=None,
    *, dilations=None, group=1, kernel_shape=None, offset_group=1, pads=None, strides=None,
):  # fmt: skip
    """What each place of the kernel meets is laid out as a picture, which is convolved without overlap."""
    kernel, (batch, _, *out) = w.dims[2:], site.shape(2)
    axes = windows(site.shape()[1:-1], kernel, strides, pads, dilations, "NOTSET")
    rows, sizes = pictures(site, batch, 4), [dims.size(site, dim) for dim in site.shape()[1:-1]]
    moved = _by_group(site, offset, 2, [batch, offset_group, *kernel, 2, *out], (4, 1, 0, 5, 2, 6, 3))
    grids = [_grid(site, k, axis, dim) for k, (axis, dim) in enumerate(zip(axes, out, strict=True))]
    parts = []
    for index, part in enumerate(ops.split(x, offset_group, axis=-1)):
        places = [dims.add(moved[axis, index], grid) for axis, grid in enumerate(grids)]
        parts.append(between(functools.partial(read_at, site, part, rows, sizes), places))
    met = ops.concatenate(parts, axis=-1)
    if mask is not None:
        seen = _by_group(site, mask, 4, [batch, offset_group, *kernel, *out], (0, 4, 2, 5, 3, 1))
        met = met * ops.repeat(seen, x.shape[-1] // offset_group, axis=-1)
    have = [dim for pair in zip(out, kernel, strict=True) for dim in pair]
    laid = [dim * count for dim, count in zip(out, kernel, strict=True)]
    met = dims.reshape(site, met, [batch, *have, x.shape[-1]], [batch, *laid, x.shape[-1]])
    apart = [Window(size, count, count, 1, (0, 0)) for size, count in zip(laid, kernel, strict=True)]
    return _in_steps(site, met, w, b, apart, group, "valid", depthwise=False)


def _by_group(site: Site, x: Tensor, index: int, parts: Sequence[Dim], order: Sequence[int]) -> Tensor:
    """Input `index`, whose channels are `parts`, with the axes in another order: each of the output before the
    kernel's."""
    return ops.transpose(dims.reshape(site, x, site.shape(index), parts), order)


def _grid(site: Site, index: int, axis: Window, dim: Dim) -> Tensor:
    """Where the kernel meets the picture along an axis: for each place of the output, and each of the kernel."""
    starts = ops.reshape(dims.positions(site, dim) * axis.stride, (-1, 1))
    grid = dims.add(starts, np.arange(axis.kernel, dtype="int32")[None] * axis.dilation - axis.ends[0])
    return ops.cast(
        ops.reshape(grid, (-1, axis.kernel, 1, 1) if index == 0 else (1, 1, -1, axis.kernel)), site.dtype
    )


# --- blocks put together again -----------------------------------------------------------------------------------


@op("Col2Im")
def col2im(
    site: Site, input, image_shape: Ints, block_shape: Ints, *, dilations=None, pads=None, strides=None
):
    """torch's fold: overlapping blocks added up, a transposed convolution whose kernel puts each cell in its place."""
    axes = windows(image_shape, block_shape, strides, pads, dilations)
    counts: list[Any] = [(a.size + sum(a.ends) - a.span) // a.stride + 1 for a in axes]
    more = [a.size + sum(a.ends) - (n - 1) * a.stride - a.span for n, a in zip(counts, axes, strict=True)]
    cells = math.prod(block_shape)
    kernel = np.eye(cells, dtype=site.dtype).reshape(*block_shape, cells, 1)
    x = ops.transpose(ops.reshape(input, (-1, cells, *counts)), (0, *range(2, len(axes) + 2), 1))
    y = _spread(x, kernel, axes, more)
    y = y[(slice(None), *(slice(axis.ends[0], axis.ends[0] + axis.size) for axis in axes))]
    return dims.reshape(site, y, y.shape, site.out_shape())
