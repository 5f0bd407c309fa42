"""Inception (Szegedy et al., 2014 and 2015): parallel branches of several kernel sizes, concatenated.

image (N, 3, H, W) -> logits (N, 10).
Pools round up (`ceil_mode`); average pools count the padding in one block and leave it out in the other.
"""

import torch
from torch import Tensor, nn

from models import Example
from models.vision import IMAGE, example, noise


class Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1) -> None:
        super().__init__()
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding=[k // 2 for k in size], bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.bn(self.conv(x)), inplace=True)


class Branches(nn.ModuleList):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], 1)


def square(inputs: int, width: int) -> Branches:
    """1x1, 5x5, twice 3x3 and an average that counts the padding: 4 `width` channels."""
    return Branches(
        [
            Conv(inputs, width, 1),
            nn.Sequential(Conv(inputs, width, 1), Conv(width, width, 5)),
            nn.Sequential(Conv(inputs, width, 1), Conv(width, width, 3), Conv(width, width, 3)),
            nn.Sequential(nn.AvgPool2d(3, 1, padding=1, count_include_pad=True), Conv(inputs, width, 1)),
        ]
    )


def factored(inputs: int, width: int) -> Branches:
    """1x1, 1x7 then 7x1, a maximum, and an average that leaves the padding out: 4 `width` channels."""
    return Branches(
        [
            Conv(inputs, width, 1),
            nn.Sequential(Conv(inputs, width, 1), Conv(width, width, (1, 7)), Conv(width, width, (7, 1))),
            nn.Sequential(nn.MaxPool2d(3, 1, padding=1, ceil_mode=True), Conv(inputs, width, 1)),
            nn.Sequential(nn.AvgPool2d(3, 1, padding=1, count_include_pad=False), Conv(inputs, width, 1)),
        ]
    )


class Inception(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv(3, 8, 3, 2), nn.MaxPool2d(3, 2, ceil_mode=True))
        self.square = square(8, 4)
        self.reduce = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.factored = factored(16, 6)
        self.average = nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False)
        self.mix = Conv(24, 32, 1)
        self.dropout = nn.Dropout(0.4)
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(self.square(self.stem(x)))
        x = self.mix(self.average(self.factored(x)))
        return self.head(self.dropout(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)))


def make() -> Example:
    return example(Inception(), noise(2, 3, 50, 62), IMAGE)
