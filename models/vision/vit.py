"""Vision Transformer (Dosovitskiy et al., 2020): patches and a class token through a pre-norm encoder.

image (N, 3, 32, 40) -> logits (N, 10). The learned positions fix the size of the image.
"""

import torch
from torch import Tensor, nn

from models import Example
from models.vision import BATCH, example, noise


class Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(
        self,
        size: tuple[int, int],
        patch: int = 8,
        width: int = 32,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        classes: int = 10,
    ) -> None:
        super().__init__()
        patches = (size[0] // patch) * (size[1] // patch)
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, patches + 1, width))
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.Sequential(*[Block(width, heads, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.embed(image).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(len(image), -1, -1), patches), 1)
        x = self.encoder(self.dropout(x + self.positions))
        return self.head(self.norm(x)[:, 0])


def make() -> Example:
    return example(ViT((32, 40)), noise(2, 3, 32, 40), BATCH)
