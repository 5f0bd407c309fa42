"""Speech front end in the manner of Deep Speech 2: convolutions over time and frequency, then recurrence.

spectrogram (N, T, 14) -> logits (N, (T + 1) // 2, characters).
"""

import torch
from torch import Tensor, nn

from models import Example, settle


class BatchGRU(nn.Module):
    """BatchNorm over the features, then a bidirectional GRU with its directions added.

    (N, T, features) -> (N, T, hidden).
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features)
        self.gru = nn.GRU(features, hidden, batch_first=True, bidirectional=True)

    def forward(self, frames: Tensor) -> Tensor:
        states, _ = self.gru(self.norm(frames.transpose(1, 2)).transpose(1, 2))
        return states.unflatten(2, (2, -1)).sum(dim=2)


class Speech(nn.Module):
    """The first convolution halves time, both halve frequency; the clip of Hardtanh bites at both ends."""

    def __init__(self, characters: int = 13) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=(5, 4), stride=(2, 2), padding=(2, 1), bias=False),
            nn.BatchNorm2d(6),
            nn.Hardtanh(0.0, 0.7),
            nn.Conv2d(6, 9, kernel_size=(5, 3), stride=(1, 2), padding=(2, 1), bias=False),
            nn.BatchNorm2d(9),
            nn.Hardtanh(-0.6, 0.2),
        )
        self.recurrent = nn.Sequential(BatchGRU(9 * 4, 10), BatchGRU(10, 8))
        self.classify = nn.Linear(8, characters)

    def forward(self, spectrogram: Tensor) -> Tensor:
        maps = self.conv(spectrogram.unsqueeze(1))
        return self.classify(self.recurrent(maps.permute(0, 2, 1, 3).flatten(2)))


def make() -> Example:
    """Dynamic batch and time."""
    spectrogram = torch.randn(3, 19, 14, generator=torch.Generator().manual_seed(6))
    return settle(Speech()), (spectrogram,), ({0: "batch", 1: "time"},)
