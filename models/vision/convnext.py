"""ConvNeXt (Liu et al., 2022): depthwise 7x7, then an MLP on each pixel, channels last, scaled.

image (N, 3, H, W) -> logits (N, 10).
"""

import torch
from torch import Tensor, nn

from models import Example
from models.vision import IMAGE, example, noise


class LayerNorm2d(nn.LayerNorm):
    """Normalises the channels of every pixel of (batch, channels, height, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class StochasticDepth(nn.Module):
    """While training, drops whole samples with probability `rate` and scales up those it keeps."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = 1 - self.rate
        return x * torch.bernoulli(x.new_full((x.shape[0], 1, 1, 1), keep)) / keep


class Block(nn.Module):
    def __init__(self, width: int, drop: float, scale: float = 1e-6) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), scale))
        self.drop = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.contract(nn.functional.gelu(self.expand(y)))
        return x + self.drop(y.permute(0, 3, 1, 2))


class ConvNeXt(nn.Module):
    def __init__(
        self,
        widths: tuple[int, ...] = (8, 16),
        depths: tuple[int, ...] = (2, 2),
        drop: float = 0.1,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, 4), LayerNorm2d(widths[0], eps=1e-6))
        self.stages = nn.Sequential()
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if index:
                inputs = widths[index - 1]
                self.stages.extend([LayerNorm2d(inputs, eps=1e-6), nn.Conv2d(inputs, width, 2, 2)])
            self.stages.extend([Block(width, drop) for _ in range(depth)])
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.stages(self.stem(x)).mean((-2, -1))))


def make() -> Example:
    return example(ConvNeXt(), noise(2, 3, 48, 64), IMAGE)
