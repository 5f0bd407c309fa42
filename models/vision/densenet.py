"""DenseNet (Huang et al., 2016): every layer reads the concatenation of all maps before it in its block.

image (N, 3, H, W) -> logits (N, 10).
"""

import torch
from torch import Tensor, nn

from models import Example
from models.vision import IMAGE, example, noise


def preactivated(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
    )


class DenseBlock(nn.Module):
    def __init__(self, inputs: int, depth: int, growth: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                preactivated(inputs + index * growth, 2 * growth, 1),
                preactivated(2 * growth, growth, 3),
                nn.Dropout(dropout),
            )
            for index in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.layers:
            maps.append(layer(torch.cat(maps, 1)))
        return torch.cat(maps, 1)


class DenseNet(nn.Module):
    def __init__(
        self, depths: tuple[int, ...] = (3, 3, 2), growth: int = 8, dropout: float = 0.1, classes: int = 10
    ) -> None:
        super().__init__()
        channels = 2 * growth
        self.stem = nn.Conv2d(3, channels, 3, 2, padding=1, bias=False)
        self.blocks = nn.Sequential()
        for index, depth in enumerate(depths):
            if index:
                self.blocks.append(nn.Sequential(preactivated(channels, channels // 2, 1), nn.AvgPool2d(2)))
                channels //= 2
            self.blocks.append(DenseBlock(channels, depth, growth, dropout))
            channels += depth * growth
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.norm(self.blocks(self.stem(x))))
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


def make() -> Example:
    return example(DenseNet(), noise(2, 3, 32, 40), IMAGE)
