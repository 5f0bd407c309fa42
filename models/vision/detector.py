"""Single-shot detector (Liu et al., 2015): every cell of three maps scores and moves a few anchor boxes.

image (N, 3, 64, 48) -> boxes (N, anchors, 4), corners x0 y0 x1 y1 with the image from 0 to 1;
scores (N, anchors, 5), probabilities, the background first. The anchors fix the size of the image.
"""

import torch
from torch import Tensor, nn

from models import Example
from models.vision import BATCH, example, noise

CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2


def anchor_grid(rows: int, columns: int, scale: float, aspects: tuple[float, ...]) -> Tensor:
    """(rows * columns * aspects, 4): centre x, centre y, width, height; cells row by row."""
    y, x = ((torch.arange(cells) + 0.5) / cells for cells in (rows, columns))
    y, x, aspect = torch.meshgrid(y, x, torch.tensor(aspects), indexing="ij")
    return torch.stack((x, y, scale * aspect.sqrt(), scale / aspect.sqrt()), -1).reshape(-1, 4)


def decode(moves: Tensor, anchors: Tensor) -> Tensor:
    """Anchors shifted and stretched by the network's moves, as corners."""
    centre = anchors[:, :2] + CENTRE_VARIANCE * moves[..., :2] * anchors[:, 2:]
    half = anchors[:, 2:] * torch.exp(SIZE_VARIANCE * moves[..., 2:]) / 2
    return torch.cat((centre - half, centre + half), -1)


def halve(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Head(nn.Module):
    """A 3x3 convolution whose channels are (anchors, values), laid out as one row for each anchor."""

    def __init__(self, inputs: int, anchors: int, values: int) -> None:
        super().__init__()
        self.values = values
        self.conv = nn.Conv2d(inputs, anchors * values, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.values)


class Detector(nn.Module):
    def __init__(
        self,
        size: tuple[int, int],
        classes: int = 4,
        widths: tuple[int, ...] = (16, 24, 32),
        scales: tuple[float, ...] = (0.2, 0.4, 0.8),
        aspects: tuple[float, ...] = (1.0, 2.0, 0.5),
    ) -> None:
        super().__init__()
        rows, columns = size
        self.stem = nn.Sequential(halve(3, 8), halve(8, widths[0]))
        self.stages = nn.ModuleList(map(halve, widths, (*widths[1:], widths[-1])))
        outputs = [stage[0].out_channels for stage in self.stages]
        self.moves = nn.ModuleList(Head(width, len(aspects), 4) for width in outputs)
        self.scores = nn.ModuleList(Head(width, len(aspects), 1 + classes) for width in outputs)
        grids = [
            anchor_grid(-(-rows // step), -(-columns // step), scale, aspects)
            for step, scale in zip((8, 16, 32), scales, strict=True)
        ]
        self.register_buffer("anchors", torch.cat(grids))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(image)
        moves, scores = [], []
        for stage, move, score in zip(self.stages, self.moves, self.scores, strict=True):
            x = stage(x)
            moves.append(move(x))
            scores.append(score(x))
        return decode(torch.cat(moves, 1), self.anchors), torch.cat(scores, 1).softmax(-1)


def make() -> Example:
    return example(Detector((64, 48)), noise(2, 3, 64, 48), BATCH)
