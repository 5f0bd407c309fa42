"""Packed sequences: a stacked bidirectional LSTM that reads each series of a batch only up to its own length.

series (N, T, F), lengths (N,) int64 within 1..T -> states (N, T, 2 * hidden), zero past each length, and
final (N, 2 * hidden), where the top layer's two directions ended.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models import Example, settle


class Packed(nn.Module):
    """Lengths come in any order; what lies past them never touches a state."""

    def __init__(self, features: int = 5, hidden: int = 9) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            features, hidden, num_layers=2, batch_first=True, bidirectional=True, dropout=0.05
        )

    def forward(self, series: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        packed = pack_padded_sequence(series, lengths, batch_first=True, enforce_sorted=False)
        packed, (h_n, _) = self.lstm(packed)
        states, _ = pad_packed_sequence(packed, batch_first=True, total_length=series.size(1))
        return states, torch.cat((h_n[-2], h_n[-1]), dim=1)


def make() -> Example:
    """Dynamic batch and time; one series fills all 7 steps, the others end early."""
    series = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(13))
    return settle(Packed()), (series, torch.tensor([4, 7, 2])), ({0: "batch", 1: "time"}, {0: "batch"})
