"""Fourier transforms: DFT and STFT. A complex number is a pair along the last axis."""

from __future__ import annotations

from typing import cast

import numpy as np
from keras import ops

from bridge.graph.shapes import Dim
from bridge.ops import dims
from bridge.ops.contract import Dims, Ints, Refused, Site, Tensor
from bridge.ops.registry import op


@op("DFT")
def dft(site: Site, x, dft_length: Dims = None, axis: Ints = None, *, inverse=0, onesided=0):
    """Of the last axis but one, where the others make room for it."""
    rank = len(site.shape())
    axis = (-2 if axis is None else int(np.ravel(axis)[0])) % rank
    have = site.shape()[axis]
    whole = 2 * (have - 1) if inverse and onesided else have
    length = whole if dft_length is None else _one(dft_length)
    x = ops.moveaxis(x, axis, -2)
    parts = [x[..., part] for part in range(cast("int", site.shape()[-1]))]
    if inverse and onesided:
        return ops.moveaxis(ops.expand_dims(ops.irfft(_pair(parts), fft_length=_known(length)), -1), -2, axis)
    if onesided:
        return ops.moveaxis(ops.stack(ops.rfft(parts[0], fft_length=_known(length)), axis=-1), -2, axis)
    real, imaginary = _pair([_fitted(part, have, length) for part in parts])
    if not inverse:
        return ops.moveaxis(ops.stack(_turned(site, real, imaginary, length), axis=-1), -2, axis)
    real, imaginary = _turned(site, real, -imaginary, length)
    turned = ops.stack([real, -imaginary], axis=-1)
    return ops.moveaxis(turned / ops.cast(dims.size(site, length), site.dtype), -2, axis)


def _turned(site: Site, real: Tensor, imaginary: Tensor, length: Dim) -> tuple[Tensor, Tensor]:
    """The transform along the last axis; where its length is known only at run time, which Keras's does not take, by
    its definition: sums of products with cosines and sines."""
    if isinstance(length, int):
        return ops.fft((real, imaginary))
    places, count = dims.positions(site, length), dims.size(site, length)
    turns = ops.mod(
        ops.expand_dims(places, 1) * ops.expand_dims(places, 0), count
    )  # of `count` that make a whole one
    angles = ops.cast(turns, site.dtype) * (2 * np.pi / ops.cast(count, site.dtype))
    cosines, sines = ops.cos(angles), ops.sin(angles)
    return (
        ops.matmul(real, cosines) + ops.matmul(imaginary, sines),
        ops.matmul(imaginary, cosines) - ops.matmul(real, sines),
    )


def _one(length: Dim | list[Dim]) -> Dim:
    return length[0] if isinstance(length, list | tuple) else length


def _known(length: Dim) -> int:
    if not isinstance(length, int):
        raise Refused(f"a Fourier transform of unknown length, {length}; fix the axis")
    return length


def _pair(parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    return (parts[0], ops.zeros_like(parts[0])) if len(parts) == 1 else (parts[0], parts[1])


def _fitted(part: Tensor, have: Dim, length: Dim) -> Tensor:
    """Cut or filled with zeros to the length."""
    if have == length:
        return part
    missing = _known(length) - _known(have)
    if missing < 0:
        return part[..., :length]
    return ops.pad(part, [(0, 0)] * (len(part.shape) - 1) + [(0, missing)])


@op("STFT")
def stft(site: Site, signal, frame_step: Ints, window=None, frame_length: Ints = None, *, onesided=1):
    """Of frames of a real signal (batch, time, 1) -> (batch, frames, frequencies, 2)."""
    if len(site.shape()) == 3 and site.shape()[2] != 1:
        raise Refused("the short-time Fourier transform of complex numbers")
    length = _known(site.shape(2)[0]) if frame_length is None else int(np.ravel(frame_length)[0])
    signal = ops.squeeze(signal, -1) if len(site.shape()) == 3 else signal
    frames = ops.extract_sequences(signal, length, int(np.ravel(frame_step)[0]))
    frames = frames if window is None else ops.multiply(frames, window)
    parts = ops.rfft(frames, fft_length=length) if onesided else ops.fft((frames, ops.zeros_like(frames)))
    return ops.stack(parts, axis=-1)
