"""Convolutions over time with GroupNorm and GELU, then a bidirectional GRU with a skip connection.

signal (N, C, T) -> logits (N, (T + 1) // 2, classes).
"""

import torch
from torch import Tensor, nn

from models import Example, settle


def block(channels: int, filters: int, groups: int, **conv: int) -> nn.Sequential:
    """Conv1d of width 5, GroupNorm, GELU: (N, channels, T) -> (N, filters, T')."""
    return nn.Sequential(
        nn.Conv1d(channels, filters, kernel_size=5, **conv), nn.GroupNorm(groups, filters), nn.GELU()
    )


class ConvGRU(nn.Module):
    """A strided and a dilated block; the GRU adds what the past and the future say to what it was given."""

    def __init__(self, channels: int = 4, classes: int = 9) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            block(channels, 10, groups=5, stride=2, padding=2), block(10, 16, groups=2, dilation=2, padding=4)
        )
        self.gru = nn.GRU(16, 8, batch_first=True, bidirectional=True)
        self.classify = nn.Linear(16, classes)

    def forward(self, signal: Tensor) -> Tensor:
        steps = self.conv(signal).transpose(1, 2)
        states, _ = self.gru(steps)
        return self.classify(steps + states)


def make() -> Example:
    """Dynamic batch and time."""
    signal = torch.randn(3, 4, 15, generator=torch.Generator().manual_seed(11))
    return settle(ConvGRU()), (signal,), ({0: "batch", 2: "time"},)
