"""What the layers of random modules are written with, and the module that holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Function = Callable[..., Any]


class Do(nn.Module):
    """A function of what goes in, of further inputs by name and of parts, as a layer. Of several values that it gives
    the first goes on and the others are outputs of the module."""

    def __init__(self, function: Function, *uses: str, **parts: nn.Module | torch.Tensor) -> None:
        super().__init__()
        self.function, self.uses = function, uses
        self.names = tuple(parts)
        for name, part in parts.items():
            if isinstance(part, nn.Module | nn.Parameter):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x: torch.Tensor, *further: torch.Tensor) -> Any:
        return self.function(x, *further, **{name: getattr(self, name) for name in self.names})


def turned(layer: nn.Module) -> Do:
    """A layer that wants its channels before time."""
    return Do(lambda x, f: f(x.mT).mT, f=layer)


def inside(layer: nn.Module) -> Do:
    """A layer that wants the channels of an image or a volume last."""
    return Do(lambda x, f: f(x.movedim(1, -1)).movedim(-1, 1), f=layer)


def first(layer: nn.Module) -> Do:
    """A layer that gives its states, or its weights, too."""
    return Do(lambda x, f: f(x)[0], f=layer)


def attend(layer: nn.Module, **options: Any) -> Do:
    """Attention of a sequence to itself; it and its weights."""

    def function(x: torch.Tensor, f: nn.Module) -> Any:
        y, weights = f(x, x, x, **options)
        return y if weights is None else (y, weights)

    return Do(function, f=layer)


def causal(x: torch.Tensor) -> torch.Tensor:
    """The mask under which a step sees none after it."""
    return nn.Transformer.generate_square_subsequent_mask(x.size(1), dtype=x.dtype)


def packed(rnn: nn.RNNBase, x: torch.Tensor, lengths: torch.Tensor, take: str, ordered: bool = False) -> Any:
    """What is taken, "y", "h" or "c" or several, of a recurrent layer over rows of these lengths."""
    if ordered:
        lengths = lengths.sort(descending=True).values
    y, state = rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=ordered))
    hidden, cell = state if isinstance(state, tuple) else (state, state)
    padded = pad_packed_sequence(y, batch_first=True, total_length=x.size(1))[0] if "y" in take else None
    found = {"y": padded, "h": hidden[-1], "c": cell[-1]}
    return tuple(found[name] for name in take)


def stepped(cell: nn.RNNCellBase, x: torch.Tensor) -> torch.Tensor:
    """A cell over all steps of time, one by one."""
    state, states = None, []
    for step in x.unbind(1):
        state = cell(step, state)
        states.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(states, 1)


def still(layer: nn.Module) -> Do:
    """A layer under `no_grad`, beside what goes into it."""

    def function(x: torch.Tensor, f: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return f(x)

    return Do(function, f=layer)


def frozen(layer: nn.Module) -> nn.Module:
    """A layer none of whose parameters train."""
    return layer.requires_grad_(False)


def twins(one: nn.Module, other: nn.Module) -> nn.Sequential:
    """Two layers after one another that have one weight."""
    other.weight = one.weight
    return nn.Sequential(one, nn.Tanh(), other)


class Chain(nn.Module):
    """Layers after one another; one whose place is in `residual` is added to what goes into it. `given_as` makes of
    all outputs what the module gives."""

    def __init__(
        self, layers: Sequence[nn.Module], residual: Sequence[bool], names: Sequence[str], given_as: Function
    ) -> None:
        super().__init__()
        self.layers, self.residual, self.names = nn.ModuleList(layers), tuple(residual), tuple(names)
        self.given_as = given_as

    def given(self, x: torch.Tensor, further: Mapping[str, torch.Tensor]) -> Any:
        """What it gives for `x` and those further inputs that layers use."""
        outputs = []
        for layer, added in zip(self.layers, self.residual, strict=True):
            y = layer(x, *(further[name] for name in getattr(layer, "uses", ())))
            if isinstance(y, tuple):
                y, *more = y
                outputs += more
            x = x + y if added else y
        return self.given_as([x, *outputs])
