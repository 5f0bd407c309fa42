"""Text classifier: embedding, two stacked bidirectional LSTMs, the last state of both directions, an MLP.

tokens (N, T) int64 -> logits (N, classes).
"""

import torch
from torch import Tensor, nn

from models import Example, settle


class TextClassifier(nn.Module):
    """Reads the sentence both ways and judges it by the top layer's two final hidden states."""

    def __init__(self, vocabulary: int = 41, embedding: int = 10, hidden: int = 13, classes: int = 5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.encoder = nn.LSTM(
            embedding, hidden, num_layers=2, batch_first=True, bidirectional=True, dropout=0.3
        )
        self.head = nn.Sequential(
            nn.Dropout(0.4), nn.Linear(2 * hidden, 17), nn.ReLU(), nn.Dropout(0.2), nn.Linear(17, classes)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        _, (h_n, _) = self.encoder(self.embedding(tokens))
        return self.head(torch.cat((h_n[-2], h_n[-1]), dim=1))


def make() -> Example:
    """Dynamic batch and time."""
    tokens = torch.randint(41, (3, 7), generator=torch.Generator().manual_seed(1))
    return settle(TextClassifier()), (tokens,), ({0: "batch", 1: "time"},)
