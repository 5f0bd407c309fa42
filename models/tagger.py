"""Tagger: a bidirectional GRU names every token of a sentence.

tokens (N, T) int64 -> log probabilities (N, T, tags).
"""

import torch
from torch import Tensor, nn

from models import Example, settle


class Tagger(nn.Module):
    """Embedding, bidirectional GRU, LayerNorm and one log-softmax per step."""

    def __init__(self, vocabulary: int = 43, embedding: int = 8, hidden: int = 11, tags: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.gru = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(2 * hidden)
        self.dropout = nn.Dropout(0.35)
        self.tags = nn.Linear(2 * hidden, tags)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.gru(self.embedding(tokens))
        return self.tags(self.dropout(self.norm(states))).log_softmax(dim=-1)


def make() -> Example:
    """Dynamic batch and time."""
    tokens = torch.randint(43, (3, 7), generator=torch.Generator().manual_seed(3))
    return settle(Tagger()), (tokens,), ({0: "batch", 1: "time"},)
