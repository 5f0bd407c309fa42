"""Language model with tied weights: one matrix reads the words and writes them.

tokens (N, T) int64 -> logits (N, T, vocabulary) of each next token.
"""

import torch
from torch import Tensor, nn

from models import Example, settle


class LanguageModel(nn.Module):
    """Embedding, two stacked LSTMs, a projection back to the embedding's size, the embedding's transpose."""

    def __init__(self, vocabulary: int = 47, embedding: int = 10, hidden: int = 18) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, num_layers=2, batch_first=True, dropout=0.2)
        self.dropout = nn.Dropout(0.5)
        self.project = nn.Linear(hidden, embedding)
        self.decoder = nn.Linear(embedding, vocabulary)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(tokens))
        return self.decoder(self.project(self.dropout(states)))


def make() -> Example:
    """Dynamic batch and time."""
    tokens = torch.randint(47, (3, 7), generator=torch.Generator().manual_seed(14))
    return settle(LanguageModel()), (tokens,), ({0: "batch", 1: "time"},)
