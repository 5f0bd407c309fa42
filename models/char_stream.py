"""Streaming character model: the caller keeps the LSTM's state and hands it in with each chunk of text.

tokens (N, T) int64, h and c (layers, N, hidden) -> logits (N, T, vocabulary), h, c.
"""

import torch
from torch import Tensor, nn

from models import Example, settle


class CharStream(nn.Module):
    """Two stacked LSTMs whose state goes in and comes out."""

    def __init__(self, vocabulary: int = 29, embedding: int = 9, hidden: int = 12) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, num_layers=2, batch_first=True, dropout=0.25)
        self.logits = nn.Linear(hidden, vocabulary)

    def forward(self, tokens: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states, (h, c) = self.lstm(self.embedding(tokens), (h, c))
        return self.logits(states), h, c


def make() -> Example:
    """Dynamic batch and time; the state has two layers of 12."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(29, (3, 7), generator=generator)
    h, c = torch.randn(2, 2, 3, 12, generator=generator)
    return settle(CharStream()), (tokens, h, c), ({0: "batch", 1: "time"}, {1: "batch"}, {1: "batch"})
