"""DeepLab V3 (Chen et al., 2017): atrous spatial pyramid pooling, enlarged back to the image.

image (N, 3, H, W) -> logits of every pixel (N, 5, H, W).
"""

import torch
from torch import Tensor, nn

from models import Example
from models.vision import IMAGE, example, noise


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def enlarge(x: Tensor, size: torch.Size) -> Tensor:
    return nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


class ImagePooling(nn.Module):
    """The mean of the whole map, projected and spread over it again."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return enlarge(self.project(x), x.shape[-2:])


class ASPP(nn.Module):
    def __init__(self, inputs: int, outputs: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        atrous = [conv(inputs, outputs, 3, dilation=rate) for rate in rates]
        pooling = ImagePooling(inputs, outputs)
        self.branches = nn.ModuleList([conv(inputs, outputs, 1), *atrous, pooling])
        self.project = nn.Sequential(conv(len(self.branches) * outputs, outputs, 1), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([branch(x) for branch in self.branches], 1))


class DeepLab(nn.Module):
    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv(3, 8, 3, 2), conv(8, 16, 3, 2), conv(16, 24, 3, dilation=2))
        self.aspp = ASPP(24, 16, rates=(2, 4, 6))
        self.head = nn.Sequential(conv(16, 16, 3), nn.Conv2d(16, classes, 1))

    def forward(self, image: Tensor) -> Tensor:
        return enlarge(self.head(self.aspp(self.backbone(image))), image.shape[-2:])


def make() -> Example:
    return example(DeepLab(), noise(2, 3, 40, 52), IMAGE)
