"""Many-to-one forecaster: an LSTM reads the past, its last output foretells the next few values.

series (N, T, F) -> forecast (N, horizon).
"""

import torch
from torch import Tensor, nn

from models import Example, settle


class Forecaster(nn.Module):
    """The smallest useful recurrent model: one LSTM, one Linear."""

    def __init__(self, features: int = 5, hidden: int = 16, horizon: int = 4) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.dropout = nn.Dropout(0.1)
        self.forecast = nn.Linear(hidden, horizon)

    def forward(self, series: Tensor) -> Tensor:
        states, _ = self.lstm(series)
        return self.forecast(self.dropout(states[:, -1]))


def make() -> Example:
    """Dynamic batch and time."""
    series = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(9))
    return settle(Forecaster()), (series,), ({0: "batch", 1: "time"},)
