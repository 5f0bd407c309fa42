"""VGG (Simonyan and Zisserman, 2014): 3x3 convolutions between max pools, and a linear head on what is left.

image (N, 3, 32, 40) -> logits (N, 10). The linear head fixes the size of the image.
"""

import torch
from torch import Tensor, nn

from models import Example
from models.vision import BATCH, example, noise


def stage(inputs: int, width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, *[width] * (depth - 1)):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.MaxPool2d(2))


class VGG(nn.Module):
    def __init__(self, size: tuple[int, int], classes: int = 10) -> None:
        super().__init__()
        height, width = size
        self.features = nn.Sequential(stage(3, 8, 1), stage(8, 16, 2), stage(16, 32, 2))
        self.classifier = nn.Sequential(
            nn.Linear(32 * (height // 8) * (width // 8), 64),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(64, 64),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(64, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


def make() -> Example:
    return example(VGG((32, 40)), noise(2, 3, 32, 40), BATCH)
