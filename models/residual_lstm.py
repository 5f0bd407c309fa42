"""Residual bidirectional LSTMs: each layer's directions are split, summed and added to its input.

series (N, T, F) -> outputs (N, T, outputs).
"""

import torch
from torch import Tensor, nn

from models import Example, settle


class Residual(nn.Module):
    """steps + LayerNorm(forward states + backward states), (N, T, hidden) in and out."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(0.45)

    def forward(self, steps: Tensor) -> Tensor:
        states, _ = self.lstm(steps)
        hidden = self.lstm.hidden_size
        return steps + self.dropout(self.norm(states[..., :hidden] + states[..., hidden:]))


class ResidualLSTM(nn.Module):
    """Three residual layers between two linear ones."""

    def __init__(self, features: int = 5, hidden: int = 12, outputs: int = 8, depth: int = 3) -> None:
        super().__init__()
        self.enter = nn.Linear(features, hidden)
        self.layers = nn.ModuleList(Residual(hidden) for _ in range(depth))
        self.leave = nn.Linear(hidden, outputs)

    def forward(self, series: Tensor) -> Tensor:
        steps = self.enter(series)
        for layer in self.layers:
            steps = layer(steps)
        return self.leave(steps)


def make() -> Example:
    """Dynamic batch and time."""
    series = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(12))
    return settle(ResidualLSTM()), (series,), ({0: "batch", 1: "time"},)
