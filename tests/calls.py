"""A torch module from a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class Call(nn.Module):
    """A module from a function over its parts and parameters."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module | nn.Parameter):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Any, lengths: Any = None) -> Any:
        return self.function(self, x) if lengths is None else self.function(self, x, lengths)
