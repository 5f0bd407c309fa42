"""Video labeller: a small CNN looks at every frame by itself, an LSTM follows what it saw.

clip (N, T, 2, 22, 12) -> logits (N, T, classes).
"""

import torch
from torch import Tensor, nn

from models import Example, settle


class Frames(nn.Module):
    """Time is folded into the batch for the CNN and unfolded again for the LSTM."""

    def __init__(self, channels: int = 2, seen: int = 11, hidden: int = 8, classes: int = 6) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(channels, 10, kernel_size=3, padding=1),
            nn.BatchNorm2d(10),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(10, 9, kernel_size=3, stride=(2, 1)),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(9 * 5 * 4, seen),
        )
        self.follow = nn.LSTM(seen, hidden, batch_first=True)
        self.classify = nn.Linear(hidden, classes)

    def forward(self, clip: Tensor) -> Tensor:
        batch, time = clip.shape[:2]
        seen = self.look(clip.flatten(0, 1)).reshape(batch, time, -1)
        states, _ = self.follow(seen)
        return self.classify(states)


def make() -> Example:
    """Dynamic batch and time."""
    clip = torch.randn(3, 7, 2, 22, 12, generator=torch.Generator().manual_seed(15))
    return settle(Frames()), (clip,), ({0: "batch", 1: "time"},)
