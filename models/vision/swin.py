"""Swin Transformer (Liu et al., 2021): attention inside windows, every other block's windows shifted by half.

image (N, 3, 32, 48) -> logits (N, 10). Windows and masks fix the size of the image.
Inside, maps are (N, H, W, C) and windows (N * windows, pixels, C).
"""

import torch
from torch import Tensor, nn

from models import Example
from models.vision import BATCH, example, noise


def windowed(x: Tensor, side: int) -> Tensor:
    """(batch, height, width, channels) -> (batch * windows, side * side, channels)."""
    _, height, width, channels = x.shape
    x = x.view(-1, height // side, side, width // side, side, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, side * side, channels)


def joined(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """The inverse of `windowed`."""
    x = windows.view(-1, height // side, width // side, side, side, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, windows.shape[-1])


def relative_positions(side: int) -> Tensor:
    """For every pair of pixels of a window, the row of the bias table for their offset: (pixels, pixels)."""
    pixels = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    offsets = pixels[:, None] - pixels[None] + side - 1
    return offsets[..., 0] * (2 * side - 1) + offsets[..., 1]


def shift_mask(height: int, width: int, side: int, shift: int) -> Tensor:
    """(windows, pixels, pixels): -100 between pixels that only the roll made neighbours, else 0."""
    row, column = (torch.arange(-size, 0) for size in (height, width))
    row, column = ((x >= -side).long() + (x >= -shift) for x in (row, column))
    regions = windowed((3 * row[:, None] + column)[None, :, :, None], side)
    return torch.where(regions == regions.mT, 0.0, -100.0)


class WindowAttention(nn.Module):
    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.bias_table = nn.Parameter(0.02 * torch.randn((2 * side - 1) ** 2, heads))
        self.register_buffer("bias_index", relative_positions(side))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        _, pixels, width = x.shape
        qkv = self.qkv(x).reshape(-1, pixels, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.bias_table[self.bias_index.view(-1)].view(pixels, pixels, self.heads)
        scores = (q * self.scale) @ k.transpose(-2, -1) + bias.permute(2, 0, 1)
        if mask is not None:
            scores = scores.view(-1, len(mask), self.heads, pixels, pixels) + mask[:, None]
            scores = scores.view(-1, self.heads, pixels, pixels)
        mixed = scores.softmax(-1) @ v
        return self.project(mixed.transpose(1, 2).reshape(-1, pixels, width))


class Block(nn.Module):
    def __init__(self, size: tuple[int, int], width: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.side, self.shift = side, shift
        self.norm1 = nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, side)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.register_buffer("mask", shift_mask(*size, side, shift) if shift else None)

    def attend(self, x: Tensor) -> Tensor:
        _, height, width, _ = x.shape
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = joined(self.attention(windowed(x, self.side), self.mask), self.side, height, width)
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    """Each 2x2 pixels become one with twice the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduce(self.norm(torch.cat(corners, -1)))


class Swin(nn.Module):
    def __init__(
        self, size: tuple[int, int], patch: int = 2, width: int = 16, side: int = 4, classes: int = 10
    ) -> None:
        super().__init__()
        height, length = size[0] // patch, size[1] // patch
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.norm = nn.LayerNorm(width)
        self.stages = nn.Sequential(
            *[Block((height, length), width, 2, side, shift) for shift in (0, side // 2)],
            PatchMerging(width),
            *[Block((height // 2, length // 2), 2 * width, 4, side, shift) for shift in (0, side // 2)],
        )
        self.final_norm = nn.LayerNorm(2 * width)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stages(self.norm(self.embed(image).permute(0, 2, 3, 1)))
        return self.head(self.final_norm(x).mean((1, 2)))


def make() -> Example:
    return example(Swin((32, 48)), noise(2, 3, 32, 48), BATCH)
