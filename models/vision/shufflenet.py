"""ShuffleNet V2 (Ma et al., 2018): half of the channels pass by, then both halves are shuffled together.

image (N, 3, H, W) -> logits (N, 10).
"""

import torch
from torch import Tensor, nn

from models import Example
from models.vision import IMAGE, example, noise


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channels (g, c/g) -> (c/g, g)."""
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, channels // groups, height, width)
    return x.transpose(1, 2).contiguous().view(batch, channels, height, width)


def pointwise(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def depthwise(channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
    )


class Unit(nn.Module):
    """Keeps the size: one half of the channels is filtered."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(pointwise(half, half), depthwise(half, 1), pointwise(half, half))

    def forward(self, x: Tensor) -> Tensor:
        passed, filtered = x.chunk(2, dim=1)
        return shuffle(torch.cat((passed, self.branch(filtered)), 1), 2)


class DownUnit(nn.Module):
    """Halves the size: both branches see all channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.left = nn.Sequential(depthwise(inputs, 2), pointwise(inputs, half))
        self.right = nn.Sequential(pointwise(inputs, half), depthwise(half, 2), pointwise(half, half))

    def forward(self, x: Tensor) -> Tensor:
        return shuffle(torch.cat((self.left(x), self.right(x)), 1), 2)


class ShuffleNet(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        self.stages = nn.Sequential(DownUnit(8, 16), Unit(16), Unit(16), DownUnit(16, 32), Unit(32))
        self.last = pointwise(32, 32)
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.stages(self.stem(x))).mean([2, 3]))


def make() -> Example:
    return example(ShuffleNet(), noise(2, 3, 32, 40), IMAGE)
