"""`torch.istft` as inverse transforms of the frames and a transposed convolution that adds them up."""

from __future__ import annotations

import torch
from torch.nn import functional


def istft(
    input, n_fft, hop_length=None, win_length=None, window=None, center=True, normalized=False, onesided=None,
    length=None, return_complex=False,
):  # fmt: skip
    """Replaces `torch.istft`."""
    if return_complex:
        raise NotImplementedError("istft with return_complex=True: Keras models have no complex outputs")
    hop = n_fft // 4 if hop_length is None else hop_length
    shape = _shape(window, n_fft, n_fft if win_length is None else win_length, input)
    whole = onesided is False or (onesided is None and input.shape[-2] == n_fft)
    norm = "ortho" if normalized else "backward"
    turned = input.transpose(-1, -2)
    frames = (
        torch.fft.ifft(turned, n_fft, norm=norm).real if whole else torch.fft.irfft(turned, n_fft, norm=norm)
    )
    batched = frames if frames.dim() == 3 else frames[None]
    total = _overlapped(batched * shape, hop)
    weight = _overlapped(torch.ones_like(batched[:1]) * shape * shape, hop)
    start = n_fft // 2 if center else 0
    if length is None:
        end = -(n_fft // 2) if center and n_fft > 1 else None
        y = (total[:, start:end]) / (weight[:, start:end])
    else:
        y = total[:, start : start + length] / weight[:, start : start + length]
        y = functional.pad(y, (0, length - y.shape[-1])) if isinstance(y.shape[-1], int) else y
    return y if frames.dim() == 3 else y[0]


def _shape(window: torch.Tensor, n_fft: int, length: int, like: torch.Tensor) -> torch.Tensor:
    """The window, in the middle of a frame."""
    real = torch.empty(0, dtype=like.dtype).real.dtype
    window = torch.ones(length, dtype=real, device=like.device) if window is None else window
    left = (n_fft - length) // 2
    return functional.pad(window, (left, n_fft - length - left))


def _overlapped(frames: torch.Tensor, hop: int) -> torch.Tensor:
    """The sum of frames, each `hop` after the one before."""
    size = frames.shape[-1]
    each = torch.eye(size, dtype=frames.dtype, device=frames.device)[:, None]
    return functional.conv_transpose1d(frames.transpose(-1, -2), each, stride=hop).squeeze(1)
