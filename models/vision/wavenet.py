"""WaveNet (van den Oord et al., 2016): dilated causal convolutions, gated, every layer heard in the output.

wave (N, 1, T) -> logits of the next sample's class (N, 16, T).
"""

import torch
from torch import Tensor, nn

from models import Example
from models.vision import example, noise


class CausalConv1d(nn.Conv1d):
    """Pads on the left, so that no output sees later inputs."""

    def forward(self, x: Tensor) -> Tensor:
        past = self.dilation[0] * (self.kernel_size[0] - 1)
        return super().forward(nn.functional.pad(x, (past, 0)))


class GatedLayer(nn.Module):
    def __init__(self, width: int, skip: int, dilation: int) -> None:
        super().__init__()
        self.gated = CausalConv1d(width, 2 * width, 2, dilation=dilation)
        self.mix = nn.Conv1d(width, width + skip, 1)
        self.sizes = width, skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        signal, gate = self.gated(x).chunk(2, dim=1)
        residual, skip = self.mix(torch.tanh(signal) * torch.sigmoid(gate)).split(self.sizes, dim=1)
        return x + residual, skip


class WaveNet(nn.Module):
    def __init__(self, width: int = 12, skip: int = 24, classes: int = 16, doublings: int = 4) -> None:
        super().__init__()
        self.stem = CausalConv1d(1, width, 2)
        dilations = [2**power for power in range(doublings)] * 2
        self.layers = nn.ModuleList(GatedLayer(width, skip, dilation) for dilation in dilations)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(skip, skip, 1), nn.ReLU(), nn.Conv1d(skip, classes, 1))

    def forward(self, wave: Tensor) -> Tensor:
        x = self.stem(wave)
        heard = []
        for layer in self.layers:
            x, skip = layer(x)
            heard.append(skip)
        return self.head(sum(heard))


def make() -> Example:
    return example(WaveNet(), noise(3, 1, 50), {0: "batch", 2: "time"})
