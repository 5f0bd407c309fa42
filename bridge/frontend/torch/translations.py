"""What becomes ONNX in another way than the stock exporter has it: `TRANSLATIONS`, by torch's operator."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir
import torch
from onnxscript import opset23 as op
from onnxscript.function_libs.torch_lib.ops import core

from bridge.frontend.torch.axes import ALONG_AXES, ints
from bridge.frontend.torch.formulas import FORMULAS, number
from bridge.frontend.torch.gradients import GRADIENTS
from bridge.frontend.torch.losses import LOSSES
from bridge.frontend.torch.ops import OPS, onnx_recurrent
from bridge.frontend.torch.pools import POOLS
from bridge.frontend.torch.positions import BY_POSITION
from bridge.frontend.torch.special import SPECIAL
from bridge.frontend.torch.traced import Translations

EXACT_FACTORS = 41  # 1 / 41 is the first fraction of which float32 makes 41 / 41 < 1


def _number(value: float, dtype: ir.DataType):
    return op.Constant(value=onnx.helper.make_tensor("", int(dtype), (1,), [value]))


def _onnx_aten(mode: str):
    """`aten.lstm.input` and its kin, as an ExportedProgram made without the patches holds them."""

    def translate(x, hx, weights, bias, layers, dropout, train, bidirectional, batch_first):
        states = list(hx) if mode == "LSTM" else [hx]
        x = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
        y, *finals = onnx_recurrent(x, None, states, weights, mode, bias, layers, dropout, bidirectional)
        return (op.Transpose(y, perm=[1, 0, 2]) if batch_first else y), *finals

    return translate


def _onnx_convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
    """More output padding than the stride, which runtimes refuse, is so much less padding behind the input, and zeros
    behind it where there is not so much."""
    rank = len(x.shape) - 2
    steps, pads, more = ([*given] * (rank // len(given)) for given in (stride, padding, output_padding))
    if not transposed or all(extra < step for extra, step in zip(more, steps, strict=True)):
        return core.aten_convolution(
            x, weight, bias, stride, padding, dilation, transposed, output_padding, groups
        )
    lacking = [extra - pad for extra, pad in zip(more, pads, strict=True)]
    zeros = [max(0, -(-lack // step)) for lack, step in zip(lacking, steps, strict=True)]
    ends = [zero * step - lack for zero, step, lack in zip(zeros, steps, lacking, strict=True)]
    if any(zeros):
        x = op.Pad(x, ints(*[0] * (rank + 4), *zeros))
    spread = [*dilation] * (rank // len(dilation))
    return op.ConvTranspose(
        x, weight, bias, strides=steps, pads=[*pads, *ends], dilations=spread, group=groups
    )


def _onnx_pixel_unshuffle(x, downscale_factor):
    """The stock one leaves the number of images to be worked out from all other sizes."""
    rank, r = len(x.shape), ints(downscale_factor)
    lead = [op.Shape(x, end=rank - 3)] if rank > 3 else []
    channels, *sizes = (op.Shape(x, start=axis, end=axis + 1) for axis in range(rank - 3, rank))
    height, width = (op.Div(size, r) for size in sizes)
    blocks = op.Reshape(x, op.Concat(*lead, channels, height, r, width, r, axis=0))
    order = [0, 2, 4, 1, 3]
    blocks = op.Transpose(blocks, perm=[*range(rank - 3), *(rank - 3 + axis for axis in order)])
    more = op.Mul(channels, ints(downscale_factor**2))
    return op.Reshape(blocks, op.Concat(*lead, more, height, width, axis=0))


def _onnx_conv3d(x, weight, bias=None, stride=(1, 1, 1), padding=(0, 0, 0), dilation=(1, 1, 1), groups=1):
    """The stock one makes up a missing bias, in a shape that onnxruntime refuses."""
    pads = [*padding, *padding]
    return op.Conv(x, weight, bias, strides=list(stride), pads=pads, dilations=list(dilation), group=groups)


def _onnx_celu(x, alpha=1.0):
    """ONNX has Celu in single precision alone, and the stock one rounds to it."""
    if x.dtype == ir.DataType.FLOAT:
        return op.Celu(x, alpha=alpha)
    scale = number(alpha, x)
    return op.Mul(op.Elu(op.Div(x, scale)), scale)


def _onnx_scalar(s, dtype=ir.DataType.FLOAT, layout="", device="", pin_memory=False):
    """The stock one writes every number in single precision, also where double is meant."""
    if dtype == ir.DataType.DOUBLE and isinstance(s, int | float):
        return op.Constant(value=onnx.helper.make_tensor("", onnx.TensorProto.DOUBLE, (), [s]))
    return op.Cast(s, to=dtype if dtype > 0 else ir.DataType.FLOAT)


def _onnx_resize(where="half_pixel", **attributes):
    """`aten.upsample_*.vec`, which the stock exporter takes apart into its arithmetic for want of a translation."""

    def translate(x, output_size, *rest):
        *align, scale_factors = rest
        mode = "align_corners" if align and align[0] else where
        scales = sizes = None
        if output_size is None:
            scales = op.Constant(value_floats=[1.0, 1.0, *scale_factors])
        else:
            sizes = op.Concat(op.Shape(x, start=0, end=2), *map(_row, output_size), axis=0)
        return op.Resize(x, None, scales, sizes, coordinate_transformation_mode=mode, **attributes)

    return translate


def _row(size: object) -> Any:
    """A size as a tensor of one number."""
    return ints(size) if isinstance(size, int) else op.Reshape(size, ints(1))


def _onnx_nearest(offset: float, **attributes):
    """`aten.upsample_nearest*.vec`. Which cell is nearest may hang on how a position is rounded: where the factor is
    no whole number it is worked out as torch does (UpSampleKernel.cpp), in double precision only if x is."""
    resize = _onnx_resize(mode="nearest", **attributes)

    def translate(x, output_size, scale_factors):
        factors = scale_factors or [
            m / n if isinstance(m, int) and isinstance(n, int) else None
            for m, n in zip(output_size, x.shape[2:], strict=True)
        ]
        if all(factor in range(1, EXACT_FACTORS) for factor in factors):
            return resize(x, output_size, scale_factors)
        double = ir.DataType.DOUBLE
        real = double if x.dtype == double else ir.DataType.FLOAT
        for axis, factor in enumerate(factors, 2):
            n = op.Shape(x, start=axis, end=axis + 1)
            if output_size is None:
                m = op.Cast(op.Mul(op.Cast(n, to=double), _number(factor, double)), to=ir.DataType.INT64)
                step = _number(1 / factor, real)
            else:
                m = _row(output_size[axis - 2])
                step = op.Div(op.Cast(n, to=real), op.Cast(m, to=real))
            places = op.Range(op.Constant(value_int=0), op.Squeeze(m, ints(0)), op.Constant(value_int=1))
            places = op.Cast(places, to=real)
            places = op.Add(places, _number(offset, real)) if offset else places
            cells = op.Cast(op.Floor(op.Mul(places, step)), to=ir.DataType.INT64)
            cells = op.Min(cells, op.Sub(n, ints(1)))
            x = op.Gather(x, cells, axis=axis)
        return x

    return translate


def _onnx_linspace(start, end, steps, dtype=-1, layout="", device="", pin_memory=False):
    """The stock one writes the ends in single precision, also where double is meant."""
    if all(isinstance(number, int | float) for number in (start, end, steps)):
        numpy = ir.DataType(dtype if dtype and dtype > 0 else ir.DataType.FLOAT).numpy()
        return op.Constant(value=onnx.numpy_helper.from_array(np.linspace(start, end, steps, dtype=numpy)))
    return core.aten_linspace(start, end, steps, dtype)


def _onnx_rms_norm(x, normalized_shape, weight=None, eps=None):
    """Without a weight the stock one makes a scale as large as x."""
    if weight is None:
        ones = np.ones(normalized_shape, x.dtype.numpy())
        weight = op.Constant(value=onnx.numpy_helper.from_array(ones))
    if eps is None:  # as small as the type that it is worked out in
        eps = float(np.finfo(np.float64 if x.dtype == ir.DataType.DOUBLE else np.float32).eps)
    return op.RMSNormalization(x, weight, axis=-len(normalized_shape), epsilon=eps)


def _onnx_split(x, sizes, dim=0):
    """As the stock one has it; of bfloat16, of which ONNX has no sequences, part by part."""
    length = x.shape[dim]
    parts = [sizes] if isinstance(sizes, int) else sizes
    if x.dtype != ir.DataType.BFLOAT16 or not all(isinstance(size, int) for size in (length, *parts)):
        return op.SplitToSequence(x, sizes, axis=dim)
    ends = (
        range(sizes, length + sizes, sizes) if isinstance(sizes, int) else list(itertools.accumulate(sizes))
    )
    return [op.Slice(x, ints(a), ints(min(b, length)), ints(dim)) for a, b in itertools.pairwise([0, *ends])]


TRANSLATIONS: Translations = {
    **FORMULAS,
    **SPECIAL,
    **ALONG_AXES,
    **BY_POSITION,
    **GRADIENTS,
    **POOLS,
    **LOSSES,
    **{own.overload: own.translation for own in OPS},
    torch.ops.aten.linspace.default: _onnx_linspace,
    torch.ops.aten.upsample_linear1d.vec: _onnx_resize(mode="linear"),
    **{
        getattr(torch.ops.aten, f"{name}{rank}d").vec: translate
        for name, translate in (
            ("upsample_nearest", _onnx_nearest(0.0, where="asymmetric", nearest_mode="floor")),
            ("_upsample_nearest_exact", _onnx_nearest(0.5, nearest_mode="round_prefer_ceil")),
        )
        for rank in (1, 2, 3)
    },
    torch.ops.aten.celu.default: _onnx_celu,
    torch.ops.aten.split.Tensor: _onnx_split,
    torch.ops.aten.split_with_sizes.default: _onnx_split,
    torch.ops.aten.rms_norm.default: _onnx_rms_norm,
    torch.ops.aten.scalar_tensor.default: _onnx_scalar,
    torch.ops.aten.conv3d.default: _onnx_conv3d,
    torch.ops.aten.pixel_unshuffle.default: _onnx_pixel_unshuffle,
    torch.ops.aten.convolution.default: _onnx_convolution,
    torch.ops.aten.lstm.input: _onnx_aten("LSTM"),
    torch.ops.aten.gru.input: _onnx_aten("GRU"),
    torch.ops.aten.rnn_tanh.input: _onnx_aten("RNN_TANH"),
    torch.ops.aten.rnn_relu.input: _onnx_aten("RNN_RELU"),
}
