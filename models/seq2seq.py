"""Translator trained by teacher forcing: LSTM encoder and decoder with Luong's dot attention.

source (N, S) int64, target (N, T) int64 -> logits (N, T, target vocabulary).
"""

import torch
from torch import Tensor, nn

from models import Example, settle


class Seq2Seq(nn.Module):
    """The decoder starts, layer by layer, from the encoder's final state and looks back at every step."""

    def __init__(self, source: int = 37, target: int = 31, embedding: int = 9, hidden: int = 12) -> None:
        super().__init__()
        self.source = nn.Embedding(source, embedding)
        self.target = nn.Embedding(target, embedding + 2)
        self.encoder = nn.LSTM(embedding, hidden, num_layers=2, batch_first=True, dropout=0.15)
        self.decoder = nn.LSTM(embedding + 2, hidden, num_layers=2, batch_first=True, dropout=0.15)
        self.combine = nn.Linear(2 * hidden, 17, bias=False)
        self.logits = nn.Linear(17, target)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, state = self.encoder(self.source(source))
        queries, _ = self.decoder(self.target(target), state)
        attention = (queries @ memory.transpose(1, 2)).softmax(dim=-1)
        return self.logits(self.combine(torch.cat((attention @ memory, queries), dim=-1)).tanh())


def make() -> Example:
    """Dynamic batch, and a dynamic time for each side."""
    generator = torch.Generator().manual_seed(7)
    source = torch.randint(37, (3, 7), generator=generator)
    target = torch.randint(31, (3, 5), generator=generator)
    dynamic_shapes = ({0: "batch", 1: "source_time"}, {0: "batch", 1: "target_time"})
    return settle(Seq2Seq()), (source, target), dynamic_shapes
