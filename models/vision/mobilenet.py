"""MobileNet of inverted residuals: V3 (Howard et al., 2019) with squeeze-and-excitation and hard-swish,
V2 (Sandler et al., 2018) with ReLU6.

image (N, 3, H, W) -> logits (N, 10).
"""

from typing import NamedTuple

from torch import Tensor, nn

from models import Example
from models.vision import IMAGE, example, noise


class Row(NamedTuple):
    """One inverted residual, as a line of the papers' tables."""

    kernel: int
    hidden: int
    outputs: int
    squeeze: bool
    activation: type[nn.Module]
    stride: int


V3 = (
    Row(3, 8, 8, True, nn.ReLU, 2),
    Row(3, 24, 12, False, nn.ReLU, 1),
    Row(5, 32, 16, True, nn.Hardswish, 2),
    Row(5, 48, 16, True, nn.Hardswish, 1),
)
V2 = (
    Row(3, 8, 8, False, nn.ReLU6, 1),
    Row(3, 32, 12, False, nn.ReLU6, 2),
    Row(3, 48, 12, False, nn.ReLU6, 1),
    Row(3, 48, 16, False, nn.ReLU6, 2),
)


def normed(
    inputs: int, outputs: int, kernel: int, activation: type[nn.Module], stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
        activation(),
    )


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale(x)


class InvertedResidual(nn.Module):
    """Widen, filter each channel on its own, weigh the channels, narrow."""

    def __init__(self, inputs: int, row: Row) -> None:
        super().__init__()
        kernel, hidden, outputs, squeeze, activation, stride = row
        self.same = stride == 1 and inputs == outputs
        self.body = nn.Sequential()
        if hidden != inputs:
            self.body.append(normed(inputs, hidden, 1, activation))
        self.body.append(normed(hidden, hidden, kernel, activation, stride, groups=hidden))
        if squeeze:
            self.body.append(SqueezeExcitation(hidden))
        self.body.append(normed(hidden, outputs, 1, nn.Identity))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.same else self.body(x)


class MobileNet(nn.Module):
    def __init__(self, rows: tuple[Row, ...], activation: type[nn.Module], classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(normed(3, 8, 3, activation, stride=2))
        channels = 8
        for row in rows:
            self.features.append(InvertedResidual(channels, row))
            channels = row.outputs
        self.features.append(normed(channels, 32, 1, activation))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(32, 32), activation(), nn.Dropout(0.2), nn.Linear(32, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(x)).flatten(1))


def make() -> Example:
    """MobileNetV3."""
    return example(MobileNet(V3, nn.Hardswish), noise(2, 3, 40, 48), IMAGE)


def make_v2() -> Example:
    """MobileNetV2."""
    return example(MobileNet(V2, nn.ReLU6), noise(2, 3, 40, 48), IMAGE)
