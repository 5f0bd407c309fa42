"""Feature pyramid network (Lin et al., 2016): coarse maps are enlarged and added to the finer ones.

image (N, 3, H, W) -> four maps (N, 16, H / s, W / s), rounded up, for s = 4, 8, 16, 32.
"""

from torch import Tensor, nn

from models import Example
from models.vision import IMAGE, example, noise


def halve(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class FeaturePyramid(nn.Module):
    def __init__(self, widths: tuple[int, ...] = (8, 16, 32), outputs: int = 16) -> None:
        super().__init__()
        self.stem = halve(3, widths[0])
        self.stages = nn.ModuleList(map(halve, (widths[0], *widths), widths))
        self.laterals = nn.ModuleList(nn.Conv2d(width, outputs, 1) for width in widths)
        self.smooth = nn.ModuleList(nn.Conv2d(outputs, outputs, 3, padding=1) for _ in widths)
        self.coarsest = nn.MaxPool2d(1, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(image)
        maps = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = stage(x)
            maps.append(lateral(x))
        for fine in reversed(range(len(maps) - 1)):
            size = maps[fine].shape[-2:]
            maps[fine] = maps[fine] + nn.functional.interpolate(maps[fine + 1], size=size, mode="nearest")
        maps = [smooth(x) for smooth, x in zip(self.smooth, maps, strict=True)]
        return *maps, self.coarsest(maps[-1])


def make() -> Example:
    return example(FeaturePyramid(), noise(2, 3, 48, 56), IMAGE)
