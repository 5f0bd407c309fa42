"""MLP-Mixer (Tolstikhin et al., 2021): an MLP across the patches, then one across the channels.

image (N, 3, 32, 48) -> logits (N, 10). The MLPs across the patches fix the size of the image.
"""

from torch import Tensor, nn

from models import Example
from models.vision import BATCH, example, noise


def mlp(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, width))


class Block(nn.Module):
    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.across_patches = mlp(patches, 2 * patches)
        self.norm2 = nn.LayerNorm(width)
        self.across_channels = mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across_patches(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.across_channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(
        self, size: tuple[int, int], patch: int = 8, width: int = 32, depth: int = 2, classes: int = 10
    ) -> None:
        super().__init__()
        patches = (size[0] // patch) * (size[1] // patch)
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.Sequential(*[Block(patches, width) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(1))


def make() -> Example:
    return example(Mixer((32, 48)), noise(2, 3, 32, 48), BATCH)
