"""Sequence auto-encoder: a whole series squeezed into one code, repeated over time and unrolled again.

series (N, T, F) -> reconstruction (N, T, F).
"""

import torch
from torch import Tensor, nn

from models import Example, settle


class Autoencoder(nn.Module):
    """The decoder sees the same code at every step of a series as long as the input."""

    def __init__(self, features: int = 5, hidden: int = 14, code: int = 6, unrolled: int = 11) -> None:
        super().__init__()
        self.encoder = nn.LSTM(features, hidden, batch_first=True)
        self.bottleneck = nn.Linear(hidden, code)
        self.decoder = nn.LSTM(code, unrolled, batch_first=True)
        self.reconstruct = nn.Linear(unrolled, features)

    def forward(self, series: Tensor) -> Tensor:
        _, (h_n, _) = self.encoder(series)
        code = self.bottleneck(h_n[-1])
        states, _ = self.decoder(code.unsqueeze(1).expand(-1, series.size(1), -1))
        return self.reconstruct(states)


def make() -> Example:
    """Dynamic batch and time."""
    series = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(10))
    return settle(Autoencoder()), (series,), ({0: "batch", 1: "time"},)
