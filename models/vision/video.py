"""Residual video networks (Tran et al., 2018): R3D with 3x3x3 kernels, R(2+1)D with space and time apart.

clip (N, 3, T, H, W) -> logits (N, 7).
"""

from collections.abc import Callable

from torch import Tensor, nn

from models import Example
from models.vision import example, noise

CLIP = {0: "batch", 2: "frames", 3: "height", 4: "width"}

Conv = Callable[[int, int, int], nn.Module]


def whole(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Conv3d(inputs, outputs, 3, stride, padding=1, bias=False)


def apart(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Space, then time; the width in between is chosen for as many parameters as `whole` has."""
    middle = 27 * inputs * outputs // (9 * inputs + 3 * outputs)
    return nn.Sequential(
        nn.Conv3d(inputs, middle, (1, 3, 3), (1, stride, stride), padding=(0, 1, 1), bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        nn.Conv3d(middle, outputs, (3, 1, 1), (stride, 1, 1), padding=(1, 0, 0), bias=False),
    )


class Block(nn.Module):
    def __init__(self, conv: Conv, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv(inputs, outputs, stride),
            nn.BatchNorm3d(outputs),
            nn.ReLU(inplace=True),
            conv(outputs, outputs, 1),
            nn.BatchNorm3d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut.extend([nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs)])

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.residual(x) + self.shortcut(x))


class VideoResNet(nn.Module):
    def __init__(self, conv: Conv, width: int = 8, classes: int = 7) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, width, (3, 7, 7), (1, 2, 2), padding=(1, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), padding=(0, 1, 1)),
        )
        self.blocks = nn.Sequential(Block(conv, width, width, 1), Block(conv, width, 2 * width, 2))
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, clip: Tensor) -> Tensor:
        return self.head(self.pool(self.blocks(self.stem(clip))).flatten(1))


def make() -> Example:
    """R3D."""
    return example(VideoResNet(whole), noise(2, 3, 6, 24, 32), CLIP)


def make_factored() -> Example:
    """R(2+1)D."""
    return example(VideoResNet(apart), noise(2, 3, 6, 24, 32), CLIP)
