"""SRResNet (Ledig et al., 2016): residual blocks at low resolution, enlarged fourfold by pixel shuffles.

image (N, 3, H, W) -> image (N, 3, 4 H, 4 W).
"""

from torch import Tensor, nn

from models import Example
from models.vision import IMAGE, example, noise


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def double(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())


class SRResNet(nn.Module):
    def __init__(self, width: int = 12, depth: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.blocks = nn.Sequential(*[Block(width) for _ in range(depth)])
        self.enlarge = nn.Sequential(double(width), double(width))
        self.head = nn.Conv2d(width, 3, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.enlarge(x + self.blocks(x)))


def make() -> Example:
    return example(SRResNet(), noise(2, 3, 12, 16), IMAGE)
