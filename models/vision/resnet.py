"""ResNet (He et al., 2015) with basic blocks, and ResNeXt (Xie et al., 2016) with grouped bottlenecks.

image (N, 3, H, W) -> logits (N, 10).
"""

from torch import Tensor, nn

from models import Example
from models.vision import IMAGE, example, noise


def normed(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Block(nn.Module):
    """`relu(residual(x) + x)`, where a strided or widening block projects x with a 1x1 convolution."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, groups: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.residual = self.branch(inputs, width, outputs, stride, groups)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else normed(inputs, outputs, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.residual(x) + self.shortcut(x))


class Basic(Block):
    @staticmethod
    def branch(inputs: int, width: int, outputs: int, stride: int, groups: int) -> nn.Sequential:
        return nn.Sequential(
            normed(inputs, width, 3, stride, groups),
            nn.ReLU(inplace=True),
            normed(width, outputs, 3, groups=groups),
        )


class Bottleneck(Block):
    expansion = 2

    @staticmethod
    def branch(inputs: int, width: int, outputs: int, stride: int, groups: int) -> nn.Sequential:
        return nn.Sequential(
            normed(inputs, width, 1),
            nn.ReLU(inplace=True),
            normed(width, width, 3, stride, groups),
            nn.ReLU(inplace=True),
            normed(width, outputs, 1),
        )


class ResNet(nn.Module):
    def __init__(
        self, block: type[Block], depths: tuple[int, ...], width: int = 8, groups: int = 1, classes: int = 10
    ) -> None:
        super().__init__()
        self.stem = normed(3, width, 7, 2).extend([nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)])
        self.stages = nn.Sequential()
        inputs = width
        for level, depth in enumerate(depths):
            stage = nn.Sequential()
            for index in range(depth):
                stride = 2 if level and not index else 1
                stage.append(block(inputs, width << level, stride, groups))
                inputs = (width << level) * block.expansion
            self.stages.append(stage)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.stages(self.stem(x))).flatten(1))


def make() -> Example:
    """Basic blocks."""
    return example(ResNet(Basic, (2, 2, 1)), noise(2, 3, 40, 56), IMAGE)


def make_bottleneck() -> Example:
    """Bottlenecks with four groups."""
    return example(ResNet(Bottleneck, (2, 2, 1), groups=4), noise(2, 3, 40, 56), IMAGE)
