"""The architectures of `keras.applications` in plain torch: the same layers and widths, padded as torch users pad.

`NETWORKS` maps the name of each in `keras.applications` to its maker; all take (N, 3, 224, 224) to 1000 logits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.vision.convnext import ConvNeXt
from models.vision.vgg import stage

MOBILE = (  # kernel, expansion, outputs, repeats, stride
    (3, 1, 16, 1, 1), (3, 6, 24, 2, 2), (3, 6, 32, 3, 2), (3, 6, 64, 4, 2),
    (3, 6, 96, 3, 1), (3, 6, 160, 3, 2), (3, 6, 320, 1, 1),
)  # fmt: skip
EFFICIENT = (
    (3, 1, 16, 1, 1), (3, 6, 24, 2, 2), (5, 6, 40, 2, 2), (3, 6, 80, 3, 2),
    (5, 6, 112, 3, 1), (5, 6, 192, 4, 2), (3, 6, 320, 1, 1),
)  # fmt: skip


def normed(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias),
        nn.BatchNorm2d(outputs, eps=1e-3),
    )


def head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


class Bottleneck(nn.Module):
    """The first convolution has the stride, and all have a bias."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.residual = nn.Sequential(
            normed(inputs, width, stride=stride, bias=True),
            nn.ReLU(),
            normed(width, width, 3, bias=True),
            nn.ReLU(),
            normed(width, outputs, bias=True),
        )
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else normed(inputs, outputs, stride=stride, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.residual(x))


def resnet50() -> nn.Module:
    parts = [normed(3, 64, 7, 2, bias=True), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    channels = 64
    for level, depth in enumerate((3, 4, 6, 3)):
        for index in range(depth):
            parts.append(Bottleneck(channels, 64 << level, 2 if level and not index else 1))
            channels = 256 << level
    return nn.Sequential(*parts, head(channels))


class InvertedResidual(nn.Module):
    """Widen, filter each channel on its own, weigh the channels by way of `squeezed` ones, narrow."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, expansion: int, stride: int, squeezed: int,
        activation: type[nn.Module],
    ) -> None:  # fmt: skip
        super().__init__()
        width = expansion * inputs
        self.widen = nn.Sequential(normed(inputs, width), activation()) if expansion > 1 else nn.Identity()
        self.filter = nn.Sequential(normed(width, width, kernel, stride, groups=width), activation())
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, squeezed, 1),
            activation(),
            nn.Conv2d(squeezed, width, 1),
            nn.Sigmoid(),
        ) if squeezed else None  # fmt: skip
        self.narrow = normed(width, outputs)
        self.same = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.filter(self.widen(x))
        y = self.narrow(y if self.weigh is None else y * self.weigh(y))
        return x + y if self.same else y


def inverted(rows: tuple[tuple[int, ...], ...], activation: type[nn.Module], squeeze: bool) -> nn.Module:
    parts, channels = [normed(3, 32, 3, 2), activation()], 32
    for kernel, expansion, outputs, repeats, stride in rows:
        for index in range(repeats):
            step, squeezed = 1 if index else stride, channels // 4 if squeeze else 0
            parts.append(InvertedResidual(channels, outputs, kernel, expansion, step, squeezed, activation))
            channels = outputs
    return nn.Sequential(*parts, normed(channels, 1280), activation(), head(1280))


def activated(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), conv)


class Grown(nn.Module):
    """32 channels more."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.more = nn.Sequential(activated(inputs, 128, 1), activated(128, 32, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.more(x)), 1)


def densenet121() -> nn.Module:
    parts = [normed(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    channels = 64
    for level, depth in enumerate((6, 12, 24, 16)):
        if level:
            parts += [activated(channels, channels // 2, 1), nn.AvgPool2d(2)]
            channels //= 2
        parts += [Grown(channels + 32 * index) for index in range(depth)]
        channels += 32 * depth
    return nn.Sequential(*parts, nn.BatchNorm2d(channels), nn.ReLU(), head(channels))


def vgg16() -> nn.Module:
    widths, depths = (3, 64, 128, 256, 512, 512), (2, 2, 3, 3, 3)
    parts = map(stage, widths, widths[1:], depths)
    dense = nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)
    return nn.Sequential(*parts, nn.Flatten(), *dense)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ResNet50": resnet50,
    "MobileNetV2": lambda: inverted(MOBILE, nn.ReLU6, squeeze=False),
    "DenseNet121": densenet121,
    "EfficientNetB0": lambda: inverted(EFFICIENT, nn.SiLU, squeeze=True),
    "VGG16": vgg16,
    "ConvNeXtTiny": lambda: ConvNeXt((96, 192, 384, 768), (3, 3, 9, 3), classes=1000),
}
