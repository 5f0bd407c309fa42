"""Random torch modules made of layers, converted by `bridge.convert` with random free axes.

Every value is (batch, time, width). A module is a list of layers, so that it is shrunk by leaving some out.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

import bridge
from benchmarks.fuzz.workers import ALARM, CRASHED, EQUAL, REFUSED, Outcome

WIDTH = 8
SCALES = (1.0, 1.0, 30.0, 1e-3)  # of all weights
MAKERS: dict[str, tuple[str, ...]] = {  # group: how a layer of it is written; W stands for WIDTH
    "linear": ("nn.Linear(W, W)", "nn.Linear(W, W, bias=False)"),
    "activation": (
        "nn.ReLU()", "nn.GELU()", "nn.GELU(approximate='tanh')", "nn.ELU(0.7)", "nn.SELU()", "nn.LeakyReLU(0.2)",
        "nn.Hardswish()", "nn.Softplus()", "nn.SiLU()", "nn.Mish()", "nn.PReLU()", "nn.Tanh()", "nn.Softmax(-1)",
        "nn.Softmax(1)", "nn.LogSoftmax(-1)", "nn.Softsign()", "nn.ReLU6()", "nn.Hardtanh(-0.5, 2)", "nn.CELU()",
    ),
    "dropout": ("nn.Dropout(0.3)", "nn.Dropout1d(0.2)", "nn.AlphaDropout(0.1)"),
    "norm": (
        "nn.LayerNorm(W)", "nn.LayerNorm(W, elementwise_affine=False)", "nn.RMSNorm(W)", "Turned(nn.BatchNorm1d(W))",
        "Turned(nn.InstanceNorm1d(W, affine=True))", "Turned(nn.GroupNorm(2, W))",
    ),
    "convolution": (
        "Turned(nn.Conv1d(W, W, 3, padding=1))", "Turned(nn.Conv1d(W, W, 3, padding=2, dilation=2, groups=2))",
        "Turned(nn.Conv1d(W, W, 2, stride=2))", "Turned(nn.Conv1d(W, W, 3, padding='same', groups=W))",
        "Turned(nn.ConvTranspose1d(W, W, 3, stride=2, padding=1, output_padding=1))",
        "Image(nn.Conv2d(1, 1, 3, padding=1))",
        "Image(nn.Conv2d(1, 1, (3, 1), padding=(1, 0), padding_mode='circular'))",
    ),
    "pool": (
        "Turned(nn.MaxPool1d(2))", "Turned(nn.AvgPool1d(3, 1, 1))", "Turned(nn.MaxPool1d(3, 2, 1, ceil_mode=True))",
        "Turned(nn.AdaptiveAvgPool1d(1))", "Image(nn.MaxPool2d(3, 1, 1))", "Turned(nn.Upsample(scale_factor=2))",
        "Turned(nn.Upsample(scale_factor=2, mode='linear'))",
    ),
    "recurrent": (
        "First(nn.LSTM(W, W, batch_first=True))", "First(nn.GRU(W, W, 2, batch_first=True, dropout=0.2))",
        "First(nn.RNN(W, W, nonlinearity='relu', batch_first=True))", "First(nn.LSTM(W, W // 2, batch_first=True, "
        "bidirectional=True))", "First(nn.GRU(W, W // 2, bias=False, batch_first=True, bidirectional=True))",
        "First(nn.LSTM(W, 2 * W, batch_first=True, proj_size=W))", "First(nn.GRU(W, W))",
    ),
    "attention": (
        "Attend(nn.MultiheadAttention(W, 2, batch_first=True))",
        "nn.TransformerEncoderLayer(W, 2, 16, batch_first=True, norm_first=True)",
        "nn.TransformerEncoderLayer(W, 4, 16, activation='gelu', batch_first=True)",
    ),
    "functional": (
        "Do(lambda x: x.flip(1))", "Do(lambda x: x.cumsum(1) / 3)", "Do(lambda x: torch.cat([x, x * 0.5], 1))",
        "Do(lambda x: x.permute(0, 2, 1).reshape(x.size(0), 2, -1, x.size(1)).sum(2).repeat(1, W // 2, 1).mT)",
        "Do(lambda x: functional.pad(x, (0, 0, 1, 2)))", "Do(lambda x: x[:, ::2])",
        "Do(lambda x: x.chunk(2, -1)[1].repeat(1, 1, 2))",
        "Do(lambda x: torch.where(x > 0, x, x.exp()))", "Do(lambda x: functional.normalize(x, dim=-1))",
        "Do(lambda x: x - x.mean(1, keepdim=True))", "Do(lambda x: x.clamp(-1, 2) ** 2)", "Do(lambda x: x.roll(1, 1))",
        "Do(lambda x: torch.einsum('btw,bsw->bts', x, x).softmax(-1) @ x)", "Do(lambda x: x.amax(1, keepdim=True) + x)",
        "Do(lambda x: x.unflatten(-1, (2, -1)).transpose(1, 2).flatten(0, 1).unflatten(0, (-1, 2))"
        ".transpose(1, 2).flatten(2))",
    ),
    "branch": (
        "Do(lambda x: x[:, :9] if x.size(1) > 9 else x)", "Do(lambda x: x * 2 if x.size(0) >= 5 else x)",
        "Do(lambda x: x + 1 if x.size(1) % 2 else x)",
        "Do(lambda x: functional.pad(x, (0, 0, 0, 4)) if x.size(1) < 4 else x)",
    ),
}  # fmt: skip


class Turned(nn.Module):
    """A layer that wants its channels before time."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.transpose(1, 2)).transpose(1, 2)


class Image(Turned):
    """A layer that wants an image of one channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x[:, None])[:, 0]


class First(Turned):
    """A layer that gives its states too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


class Attend(Turned):
    """Attention of a sequence to itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, x, x)[0]


class Do(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Chain(nn.Module):
    """Layers after one another; one whose place is in `residual` is added to what goes into it, where that fits."""

    def __init__(self, layers: list[nn.Module], residual: tuple[bool, ...]) -> None:
        super().__init__()
        self.layers, self.residual = nn.ModuleList(layers), residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, added in zip(self.layers, self.residual, strict=True):
            y = layer(x)
            x = x + y if added else y
        return x


@dataclass(frozen=True)
class Module:
    """One drawn module, and what of its input is free."""

    seed: int
    layers: tuple[tuple[str, str, bool], ...]  # group, code, whether it is added to its input
    scale: float
    free: tuple[int, ...] | None  # axes; None leaves it to the defaults

    @property
    def groups(self) -> tuple[str, ...]:
        return (*{group for group, *_ in self.layers}, f"weights × {self.scale:g}")

    def make(self) -> tuple[nn.Module, torch.Tensor, Any]:
        """Module, example and dynamic_shapes."""
        torch.manual_seed(self.seed)
        names = {"nn": nn, "torch": torch, "functional": functional, "W": WIDTH, **globals()}
        layers = [eval(code, names) for _, code, _ in self.layers]
        module = Chain(layers, tuple(added for *_, added in self.layers)).eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(self.scale)
        free = None if self.free is None else ({axis: "batch time".split()[axis] for axis in self.free},)
        return module, torch.randn(2, 7, WIDTH), free

    def run(self) -> Outcome:
        module, x, shapes = self.make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                bridge.convert(module, x, dynamic_shapes=shapes)
            except bridge.Mismatch as error:
                return Outcome(ALARM, str(error))
            except bridge.BridgeError as error:
                own = type(error).__name__ == "InternalError"
                return Outcome(CRASHED if own else REFUSED, f"{type(error).__name__}: {error}")
        return Outcome(EQUAL)

    def shrunk(self, fails: Callable[[Module], bool]) -> Module:
        """Layers left out one by one for as long as it fails."""
        for place in reversed(range(len(self.layers))):
            smaller = replace(self, layers=self.layers[:place] + self.layers[place + 1 :])
            if smaller.layers and fails(smaller):
                return smaller.shrunk(fails)
        return self

    def shown(self) -> str:
        return f"from benchmarks.fuzz.modules import Module\nprint({self!r}.run())"


def case(seed: int) -> Module:
    """The module of `seed`."""
    chosen = random.Random(seed)
    layers = []
    for _ in range(chosen.randint(1, 5)):
        weights = [1 if group in ("branch", "dropout") else 3 for group in MAKERS]
        group = chosen.choices(list(MAKERS), weights)[0]
        code = chosen.choice(MAKERS[group])
        same = group in ("linear", "activation", "norm", "dropout", "attention", "recurrent")
        layers.append((group, code, same and chosen.random() < 0.3))
    free = chosen.choice([None, (0,), (1,), (0, 1)])
    return Module(seed, tuple(layers), chosen.choice(SCALES), free)
