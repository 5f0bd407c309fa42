"""ConvTranspose in numpy, as its schema defines it: onnxruntime has it in 32 bits, and ONNX's evaluator reads the
weights of several groups wrong.

https://github.com/onnx/onnx/blob/main/docs/Operators.md#ConvTranspose
"""

from __future__ import annotations

from types import EllipsisType

import numpy as np

from bridge.verification.metrics import Arrays, Attributes


def conv_transpose(given: Arrays, attributes: Attributes) -> list[np.ndarray]:
    """Every cell of the input puts its kernel into the output, a stride further than the one before it."""
    x, w, *bias = given
    kernel, ones = w.shape[2:], [1] * (w.ndim - 2)
    stride, dilation = attributes.get("strides") or ones, attributes.get("dilations") or ones
    whole = _spread(x, w, attributes.get("group") or 1, stride, dilation)
    extra = attributes.get("output_padding") or [0] * len(kernel)
    whole = np.pad(whole, [(0, 0), (0, 0), *((0, more) for more in extra)])
    kept: tuple[EllipsisType | slice, ...] = (..., *_kept(x.shape[2:], whole.shape[2:], stride, attributes))
    y = whole[kept]
    return [sum((b.reshape(-1, *ones) for b in bias if b is not None), y).astype(x.dtype)]


def _spread(x: np.ndarray, w: np.ndarray, groups: int, stride: list[int], dilation: list[int]) -> np.ndarray:
    """The output before anything is cut off it: (batch, channels, …)."""
    kernel, batch = w.shape[2:], x.shape[0]
    steps = list(zip(x.shape[2:], kernel, stride, dilation, strict=True))
    sizes = [(n - 1) * s + d * (k - 1) + 1 for n, k, s, d in steps]
    made = np.zeros((batch, groups, w.shape[1], *sizes), np.result_type(x, w))
    parts = x.reshape(batch, groups, -1, *x.shape[2:])
    weights = w.reshape(groups, -1, *w.shape[1:])
    for place in np.ndindex(*kernel):
        starts = [p * d for p, d in zip(place, dilation, strict=True)]
        reached = [slice(a, a + (n - 1) * s + 1, s) for a, (n, _, s, _) in zip(starts, steps, strict=True)]
        cells: tuple[EllipsisType | slice, ...] = (..., *reached)
        made[cells] += np.einsum("bgi...,gio->bgo...", parts, weights[(..., *place)])
    return made.reshape(batch, -1, *sizes)


def _kept(
    given: tuple[int, ...], whole: tuple[int, ...], stride: list[int], attributes: Attributes
) -> list[slice]:
    """What pads leave of each axis; where a size is asked for instead, what is too much is shared between both ends."""
    auto, asked = attributes.get("auto_pad") or "NOTSET", attributes.get("output_shape")
    if not asked and auto in ("SAME_UPPER", "SAME_LOWER"):
        asked = [n * s for n, s in zip(given, stride, strict=True)]
    if asked:
        over = [size - wanted for size, wanted in zip(whole, asked[-len(whole) :], strict=True)]
        begins = [n // 2 if auto == "SAME_UPPER" else n - n // 2 for n in over]
        ends = [n - begin for n, begin in zip(over, begins, strict=True)]
    else:
        pads = attributes.get("pads") or [0] * 2 * len(whole) if auto == "NOTSET" else [0] * 2 * len(whole)
        begins, ends = pads[: len(whole)], pads[len(whole) :]
    return [slice(begin, size - end) for begin, end, size in zip(begins, ends, whole, strict=True)]
