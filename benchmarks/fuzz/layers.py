"""The layers of random modules: what is written for a value of each kind, with every attribute drawn.

A value is an "image" (batch, channels, height, width), a "volume", a "sequence" (batch, time, width), a "line" (batch,
width) or "tokens" (batch, time). A layer is code, so that what fails can be printed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

DIMS = {"sequence": 1, "image": 2, "volume": 3}  # how many axes are neither batch nor channels
ACTIVATIONS = (
    "nn.ReLU()", "nn.GELU()", "nn.GELU(approximate='tanh')", "nn.ELU(0.7)", "nn.SELU()", "nn.LeakyReLU(0.2)",
    "nn.Hardswish()", "nn.Softplus(2, 5)", "nn.SiLU()", "nn.Mish()", "nn.PReLU()", "nn.Tanh()", "nn.Softmax(-1)",
    "nn.Softmax(1)", "nn.LogSoftmax(-1)", "nn.Softmin(1)", "nn.Softsign()", "nn.ReLU6()", "nn.Hardtanh(-0.5, 2)",
    "nn.CELU(1.3)", "nn.Threshold(0.1, -2)", "nn.Softshrink(0.2)", "nn.Hardshrink(0.3)", "nn.Tanhshrink()",
    "nn.LogSigmoid()", "nn.Hardsigmoid()", "nn.Sigmoid()", "nn.RReLU()", "nn.Identity()",
)  # fmt: skip


class Draw(random.Random):
    """Attributes, written as code."""

    def pick(self, *options: Any) -> Any:
        return self.choice(options)

    def each(self, dims: int, *options: int) -> str:
        """One number for every axis, or one for all."""
        numbers = tuple(self.choice(options) for _ in range(dims))
        return repr(numbers if dims > 1 and self.random() < 0.5 else numbers[0])

    def flag(self) -> bool:
        return self.random() < 0.5

    def rare(self) -> bool:
        return self.random() < 0.2

    def divisor(self, number: int) -> int:
        return self.choice([k for k in range(1, number + 1) if number % k == 0])


Maker = Callable[[Draw, int, Sequence[int]], str]  # with the channels and the other sizes but the batch


def convolution(d: Draw, c: int, sizes: Sequence[int]) -> str:
    n, groups = len(sizes), d.pick(1, d.divisor(c))
    out = groups * d.pick(1, 2) if groups > 1 else d.pick(2, 4, 5)
    same = d.random() < 0.2
    stride = "1" if same else d.each(n, 1, 1, 2, 3)
    padding = "'same'" if same else d.each(n, 0, 1, 2)
    mode = d.pick("zeros", "zeros", "reflect", "replicate", "circular")
    return (
        f"nn.Conv{n}d({c}, {out}, {d.each(n, 1, 2, 3, 3)}, stride={stride}, padding={padding}, "
        f"dilation={d.each(n, 1, 1, 2)}, groups={groups}, bias={d.flag()}, padding_mode={mode!r})"
    )


def transposed(d: Draw, c: int, sizes: Sequence[int]) -> str:
    n, groups = len(sizes), d.pick(1, 1, d.divisor(c))
    return (
        f"nn.ConvTranspose{n}d({c}, {groups * d.pick(1, 2)}, {d.each(n, 1, 2, 3, 4)}, stride={d.each(n, 1, 2, 3)}, "
        f"padding={d.each(n, 0, 0, 1)}, output_padding={d.each(n, 0, 0, 1)}, groups={groups}, bias={d.flag()}, "
        f"dilation={d.each(n, 1, 1, 2)})"
    )


def pool(d: Draw, c: int, sizes: Sequence[int]) -> str:
    n, kernel, stride = len(sizes), d.each(len(sizes), 2, 3), d.each(len(sizes), 1, 2, 3)
    window = f"{kernel}, {stride}, ceil_mode={d.flag()}"
    kind = d.pick("max", "max", "average", "average", "lp", "adaptive", "global")
    if kind == "max":
        return f"nn.MaxPool{n}d({window}, padding={d.each(n, 0, 1)}, dilation={d.each(n, 1, 1, 2)})"
    if kind == "average":
        divisor = f", divisor_override={d.pick(None, None, 3)}" if n > 1 else ""
        return f"nn.AvgPool{n}d({window}, padding={d.each(n, 0, 1)}, count_include_pad={d.flag()}{divisor})"
    if kind == "lp":
        return f"nn.LPPool{n}d({d.pick(1, 2, 4)}, {window})"
    wanted = "1" if kind == "global" else d.each(n, 1, 2, 3)
    return f"nn.Adaptive{d.pick('Avg', 'Max')}Pool{n}d({wanted})"


def norm(d: Draw, c: int, sizes: Sequence[int]) -> str:
    n, eps = len(sizes), d.pick(1e-5, 1e-3, 0.1)
    return d.pick(
        f"nn.BatchNorm{n}d({c}, eps={eps}, momentum={d.pick(0.1, 0.3)}, affine={d.flag()})",
        f"nn.BatchNorm{n}d({c})",
        f"nn.InstanceNorm{n}d({c}, eps={eps}, affine={d.flag()})",
        f"nn.InstanceNorm{n}d({c}, affine=True, track_running_stats=True)",
        f"nn.GroupNorm({d.divisor(c)}, {c}, eps={eps}, affine={d.flag()})",
        f"nn.LocalResponseNorm({d.pick(1, 2, 3, 5)}, alpha=0.5, beta={d.pick(0.75, 1.0)}, k={d.pick(1.0, 2.0)})",
    )


def last_norm(d: Draw, c: int, sizes: Sequence[int]) -> str:
    """Over the last axis of a sequence or a line."""
    return d.pick(
        f"nn.LayerNorm({c}, eps={d.pick(1e-5, 1e-3)}, elementwise_affine={d.flag()})",
        f"nn.LayerNorm({c}, bias=False)",
        f"nn.RMSNorm({c}, elementwise_affine={d.flag()})",
        "Do(lambda x: functional.normalize(x, dim=-1))",
        "Do(lambda x: (x - x.mean(-1, True)) / (x.std(-1, keepdim=True) + 1e-3))",
    )


def resize(d: Draw, c: int, sizes: Sequence[int]) -> str:
    n = len(sizes)
    linear = ("linear", "bilinear", "trilinear")[n - 1]
    modes = ["nearest", "nearest-exact", "area", linear, linear, *(["bicubic"] if n == 2 else [])]
    mode = d.choice(modes)
    corners = f", align_corners={d.flag()}" if mode in (linear, "bicubic") else ""
    scale = d.pick("2.0", "2.0", "3.0", "1.5", "0.5", "0.7")
    if d.flag():
        return f"nn.Upsample(scale_factor={scale}, mode={mode!r}{corners})"
    size = d.pick(
        f"{tuple(d.randint(1, 9) for _ in sizes)}",
        "[s * 2 for s in x.shape[2:]]",
        "[s + 3 for s in x.shape[2:]]",
    )
    return f"Do(lambda x: functional.interpolate(x, size={size}, mode={mode!r}{corners}))"


def padded(d: Draw, c: int, sizes: Sequence[int]) -> str:
    n = len(sizes)
    widths = tuple(d.pick(0, 1, 2) for _ in range(2 * n))
    kind = d.pick("Zero", "Reflection", "Replication", "Circular", "Constant")
    value = ", -1.5" if kind == "Constant" else ""
    crop = tuple(d.pick(0, 1, -1) for _ in range(2 * n))
    return d.pick(f"nn.{kind}Pad{n}d({widths}{value})", f"Do(lambda x: functional.pad(x, {crop}))")


def per_channel(d: Draw, c: int, sizes: Sequence[int]) -> str:
    return d.pick(f"nn.PReLU({c})", "nn.GLU(1)")


def drop(d: Draw, c: int, sizes: Sequence[int]) -> str:
    return d.pick("nn.Dropout(0.3)", f"nn.Dropout{len(sizes)}d(0.2)", "nn.AlphaDropout(0.1)")


def blocks(d: Draw, c: int, sizes: Sequence[int]) -> str:
    """What only images have."""
    k = d.each(2, 1, 2, 3)
    return d.pick(
        "nn.PixelShuffle(2)",
        "nn.PixelUnshuffle(2)",
        f"nn.ChannelShuffle({d.divisor(c)})",
        "nn.Softmax2d()",
        f"Do(lambda x: functional.fold(functional.unfold(x, {k}), x.shape[2:], {k}))",
        f"inside(nn.Linear({c}, {d.pick(3, 4)}))",
        f"inside(nn.LayerNorm({c}))",
        f"nn.LayerNorm([{c}, {sizes[0]}, {sizes[-1]}])",
        f"nn.Linear({sizes[-1]}, 5)",
    )


def parametrised(d: Draw, c: int, sizes: Sequence[int]) -> str:
    n = len(sizes)
    mode = d.pick("zeros", "circular")
    layer = d.pick(f"nn.Conv{n}d({c}, 4, 3, padding=1)", f"nn.ConvTranspose{n}d({c}, 4, 2)")
    return d.pick(
        f"nn.utils.parametrizations.weight_norm({layer}, dim={d.pick(0, 1)})",
        f"nn.utils.parametrizations.spectral_norm({layer})",
        f"nn.utils.weight_norm({layer})",
        f"Do(lambda x, f: f(f(x)), f=nn.Conv{n}d({c}, {c}, 3, padding=1, padding_mode={mode!r}))",
    )


def stopped(d: Draw, c: int, sizes: Sequence[int]) -> str:
    """What does not train, in part or whole, and what has one weight with another."""
    n = len(sizes)
    layer = f"nn.Conv{n}d({c}, {c}, 3, padding=1)"
    return d.pick(
        f"still({layer})",
        f"Do(lambda x, f: x + f(x).detach(), f={layer})",
        f"Do(lambda x, f: f(x.detach()), f={layer})",
        f"frozen({layer})",
        f"frozen(nn.BatchNorm{n}d({c}))",
        f"twins({layer}, nn.Conv{n}d({c}, {c}, 3, padding=1, bias={d.flag()}))",
        f"Do(lambda x, f: f(x) + (x * f.weight.sum()).detach(), f=nn.BatchNorm{n}d({c}))",
    )


def spatial(d: Draw, c: int, sizes: Sequence[int]) -> str:
    """Functional code on channels first."""
    last = len(sizes) + 1
    axis = d.randint(1, last)
    return d.pick(
        f"Do(lambda x: x.flip({axis}))",
        f"Do(lambda x: x.roll({d.pick(1, 2, -1)}, {axis}))",
        f"Do(lambda x: torch.cat([x, x * 0.5], {axis}))",
        f"Do(lambda x: x.chunk(2, {axis})[{d.pick(0, 1)}])",
        f"Do(lambda x: torch.stack([x, -x], {axis}).flatten({axis}, {axis + 1}))",
        f"Do(lambda x: x[:, :, : x.size(2) // 2 + 1] - x.mean({axis}, keepdim=True).mean())",
        f"Do(lambda x: x.cumsum({axis}) / x.size({axis}))",
        f"Do(lambda x: x * x.mean({tuple(range(2, last + 1))}, keepdim=True).sigmoid())",
        f"Do(lambda x: x - x.amax({axis}, keepdim=True))",
        f"Do(lambda x: x + torch.arange(x.size({last}), device=x.device) / x.size({last}))",
        f"Do(lambda x: functional.normalize(x, dim={axis}))",
        f"Do(lambda x, scale: x * scale, scale=torch.linspace(0.5, 2, {c}).reshape(-1{', 1' * len(sizes)}))",
        f"Do(lambda x, w: torch.einsum('bc...,cd->bd...', x, w), w=nn.Parameter(torch.randn({c}, 3) / 2))",
        "Do(lambda x: torch.where(x > 0, x, x.exp()))",
        "Do(lambda x: x.clamp(-1, 2) ** 2)",
        f"Do(lambda x: x.masked_fill(x > x.mean({axis}, keepdim=True), 0.5))",
        f"Do(lambda x: x.narrow({axis}, 0, 1).expand_as(x) + x)",
    )


def activation(d: Draw, c: int, sizes: Sequence[int]) -> str:
    return d.choice(ACTIVATIONS)


SPATIAL: dict[str, Sequence[Maker]] = {  # on channels first; of a sequence they are turned
    "convolution": (convolution, convolution, transposed),
    "pool": (pool,),
    "norm": (norm,),
    "resize": (resize, padded),
    "channels": (per_channel,),
    "parametrised": (parametrised,),
    "dropout": (drop,),
    "stopped": (stopped,),
}
