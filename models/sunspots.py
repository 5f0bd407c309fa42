"""Next year's sunspots: a two-layer LSTM reads a window of yearly counts and forecasts the year that follows.

Data    `statsmodels.datasets.sunspots`: yearly counts 1700 to 2008, in the public domain.
        Trained on the years before 1960, tested on 1960 to 2008.
Shapes  (batch, time, 1) -> (batch, 1), both in hundreds of sunspots; trained on windows of 22 years.
Score   mean absolute error in sunspots: 12.7 on the 49 test years; repeating last year's count gives 23.6.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

METRIC = "mae"
CHECKPOINT = Path(__file__).parent / "checkpoints" / "sunspots.safetensors"

CYCLE = 11  # years
WINDOW = 2 * CYCLE
UNIT = 100  # sunspots
FIRST_FORECAST, FIRST_TEST, LAST_TEST = 1700 + WINDOW, 1960, 2008


class SunspotForecaster(nn.Module):
    """Many to one: the last step of a stacked LSTM says by how much the count will change."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, num_layers=2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps, _ = self.lstm(x)
        return x[:, -1] + self.head(steps[:, -1])


def windows(first_year: int, last_year: int) -> tuple[np.ndarray, np.ndarray]:
    """The windows (n, WINDOW, 1) before each year of the range, and those years' counts (n, 1)."""
    from statsmodels.datasets import sunspots

    counts = sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(np.float32) / UNIT
    rows = np.lib.stride_tricks.sliding_window_view(counts, WINDOW + 1)
    rows = rows[first_year - FIRST_FORECAST : last_year + 1 - FIRST_FORECAST, :, None]
    return rows[:, :-1].copy(), rows[:, -1].copy()


def test_set() -> tuple[np.ndarray, np.ndarray]:
    return windows(FIRST_TEST, LAST_TEST)


def score(predict: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """The error of `predict`, beside that of repeating last year and of repeating the year one cycle ago."""
    inputs, targets = test_set()

    def mae(forecast: np.ndarray) -> float:
        return float(np.abs(forecast - targets).mean() * UNIT)

    return {
        METRIC: mae(predict(inputs)),
        "mae_of_last_year": mae(inputs[:, -1]),
        "mae_of_last_cycle": mae(inputs[:, -CYCLE]),
    }


def fit(epochs: int = 50, last_year: int = FIRST_TEST - 1) -> SunspotForecaster:
    """The number of epochs was chosen by training up to 1919 and looking at 1920 to 1959."""
    inputs, targets = map(torch.from_numpy, windows(FIRST_FORECAST, last_year))
    module = SunspotForecaster().train()
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs)).split(32):
            optimiser.zero_grad()
            nn.functional.l1_loss(module(inputs[rows]), targets[rows]).backward()
            optimiser.step()
    return module.eval()


def make() -> tuple[SunspotForecaster, tuple[torch.Tensor], tuple[dict[int, str]]]:
    module = SunspotForecaster()
    module.load_state_dict(load_file(CHECKPOINT), strict=True)
    return module.eval(), (torch.from_numpy(test_set()[0][:3]),), ({0: "batch", 1: "time"},)
