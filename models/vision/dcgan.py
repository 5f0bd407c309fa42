"""DCGAN generator (Radford et al., 2015): transposed convolutions paint an image from a latent code.

code (N, 16) -> image (N, 3, 32, 40), colours from -1 to 1.
"""

from torch import Tensor, nn

from models import Example
from models.vision import BATCH, example, noise


def grow(inputs: int, outputs: int, kernel: int | tuple[int, int], **how: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, kernel, bias=False, **how), nn.BatchNorm2d(outputs), nn.ReLU(True)
    )


class Generator(nn.Module):
    """4 x 5 pixels, doubled three times: by kernels that cover the stride evenly and by one that does not."""

    def __init__(self, latent: int = 16, width: int = 8) -> None:
        super().__init__()
        self.paint = nn.Sequential(
            nn.Unflatten(1, (latent, 1, 1)),
            grow(latent, 4 * width, (4, 5)),
            grow(4 * width, 2 * width, 4, stride=2, padding=1),
            grow(2 * width, width, 3, stride=2, padding=1, output_padding=1),
            nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, code: Tensor) -> Tensor:
        return self.paint(code)


def make() -> Example:
    return example(Generator(), noise(3, 16), BATCH)
