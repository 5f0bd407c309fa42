"""CRNN text reader: convolutions turn a line of text into columns, a bidirectional LSTM reads the columns.

image (N, 1, 20, W) -> log probabilities (W // 2 + 1, N, classes), time first as CTC wants them.
"""

import torch
from torch import Tensor, nn

from models import Example, settle


class CRNN(nn.Module):
    """Pools height twice and width once, then takes each column of the picture as one step in time."""

    def __init__(self, height: int = 20, hidden: int = 14, classes: int = 11) -> None:
        super().__init__()
        self.columns = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=3, padding=1),
            nn.LeakyReLU(0.1),
            nn.MaxPool2d(kernel_size=2, stride=2),
            nn.Conv2d(8, 12, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.LeakyReLU(0.1),
            nn.MaxPool2d(kernel_size=(2, 2), stride=(2, 1), padding=(0, 1)),
        )
        self.lstm = nn.LSTM(12 * (height // 4), hidden, batch_first=True, bidirectional=True)
        self.classify = nn.Linear(2 * hidden, classes)

    def forward(self, image: Tensor) -> Tensor:
        columns = self.columns(image).permute(0, 3, 1, 2).flatten(2)
        states, _ = self.lstm(columns)
        return self.classify(states).log_softmax(dim=2).permute(1, 0, 2)


def make() -> Example:
    """Any width from 2 up, and a dynamic batch."""
    image = torch.randn(3, 1, 20, 33, generator=torch.Generator().manual_seed(5))
    return settle(CRNN()), (image,), ({0: "batch", 3: "width"},)


def make_fixed() -> Example:
    """The same reader for images 33 wide; only the batch is dynamic."""
    module, args, _ = make()
    return module, args, ({0: "batch"},)
