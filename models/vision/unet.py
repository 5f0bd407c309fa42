"""U-Net (Ronneberger et al., 2015), padded: down by max pools, up again beside the map of the same size.

image (N, 3, H, W) -> logits of every pixel (N, 4, H, W). H and W are multiples of 4.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models import Example
from models.vision import IMAGE, example, noise


def double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def transposed(width: int) -> nn.Module:
    return nn.ConvTranspose2d(2 * width, width, 2, 2)


def bilinear(width: int) -> nn.Module:
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(2 * width, width, 1))


class UNet(nn.Module):
    def __init__(
        self, up: Callable[[int], nn.Module], width: int = 8, depth: int = 2, classes: int = 4
    ) -> None:
        super().__init__()
        widths = [width << level for level in range(depth)]
        self.down = nn.ModuleList(double(w // 2 if w > width else 3, w) for w in widths)
        self.pool = nn.MaxPool2d(2)
        self.bottom = double(widths[-1], 2 * widths[-1])
        self.up = nn.ModuleList(up(w) for w in reversed(widths))
        self.merge = nn.ModuleList(double(2 * w, w) for w in reversed(widths))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            skips.append(down(x))
            x = self.pool(skips[-1])
        x = self.bottom(x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat((skips.pop(), up(x)), 1))
        return self.head(x)


def make() -> Example:
    """Enlarges by transposed convolutions."""
    return example(UNet(transposed), noise(2, 3, 32, 40), IMAGE)


def make_bilinear() -> Example:
    """Enlarges bilinearly, half-pixel centres, and projects."""
    return example(UNet(bilinear), noise(2, 3, 32, 40), IMAGE)
