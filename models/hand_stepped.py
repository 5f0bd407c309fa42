"""Encoder whose recurrent cells are stepped by hand: LSTMCell, GRUCell and RNNCell, one feeding the next.

frames (N, 6, 5) -> codes (N, 6, 9), summary (N, 4).
"""

import torch
from torch import Tensor, nn

from models import Example, settle


class HandStepped(nn.Module):
    """A Python loop over time, so the number of steps is fixed the moment the model is traced."""

    def __init__(self, features: int = 5, summary: int = 4) -> None:
        super().__init__()
        self.lstm = nn.LSTMCell(features, 11)
        self.gru = nn.GRUCell(11, 8)
        self.rnn = nn.RNNCell(8, 9)
        self.summary = nn.Linear(11 + 8 + 9, summary)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        lstm, gru, rnn = None, None, None  # torch starts a cell without a state from zeros
        codes = []
        for frame in frames.unbind(dim=1):
            lstm = self.lstm(frame, lstm)
            gru = self.gru(lstm[0], gru)
            rnn = self.rnn(gru, rnn)
            codes.append(rnn)
        return torch.stack(codes, dim=1), self.summary(torch.cat((lstm[0], gru, rnn), dim=1))


def make() -> Example:
    """Six steps, always; only the batch is dynamic."""
    frames = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(8))
    return settle(HandStepped()), (frames,), ({0: "batch"},)
