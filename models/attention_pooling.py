"""Attention pooling: a bidirectional LSTM's states, averaged over time with learned weights.

series (N, T, F) -> logits (N, classes), attention (N, T) that sums to 1 over time.
"""

import torch
from torch import Tensor, nn

from models import Example, settle


class AttentionPooling(nn.Module):
    """Scores every step through a tanh layer, so that the steps that matter speak loudest."""

    def __init__(self, features: int = 6, hidden: int = 10, scored: int = 13, classes: int = 4) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True, bidirectional=True)
        self.score = nn.Sequential(nn.Linear(2 * hidden, scored), nn.Tanh(), nn.Linear(scored, 1, bias=False))
        self.classify = nn.Linear(2 * hidden, classes)

    def forward(self, series: Tensor) -> tuple[Tensor, Tensor]:
        states, _ = self.lstm(series)
        attention = self.score(states).softmax(dim=1)
        return self.classify((attention * states).sum(dim=1)), attention.squeeze(-1)


def make() -> Example:
    """Dynamic batch and time."""
    series = torch.randn(3, 7, 6, generator=torch.Generator().manual_seed(4))
    return settle(AttentionPooling()), (series,), ({0: "batch", 1: "time"},)
