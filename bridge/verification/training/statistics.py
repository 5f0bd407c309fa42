"""What BatchNorm takes of a batch in training.

torch's running variance is the unbiased one, Keras's the biased one: an update differs by n / (n - 1) for n values a
channel. So the biased variance of every batch is taken where it enters torch's layer, and what Keras has to make of it
is worked out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch

# Of each layer and call: values a channel, and their variance
Batches: TypeAlias = "dict[torch.nn.Module, list[tuple[int, np.ndarray]]]"


@contextlib.contextmanager
def batch_norm_inputs(module: torch.nn.Module) -> Iterator[Batches]:
    """What enters the BatchNorm layers of a torch module."""
    from torch.nn.modules.batchnorm import _BatchNorm

    found: Batches = {}

    def enter(layer: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        rows = given[0].detach().transpose(0, 1).flatten(1)
        found.setdefault(layer, []).append((rows.shape[1], rows.var(1, correction=0).cpu().numpy()))

    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    hooks = [layer.register_forward_pre_hook(enter) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def biased_variance(variance: np.ndarray, momentum: float, batches: Sequence[np.ndarray]) -> np.ndarray:
    """The running variance after batches of these biased variances."""
    for batch in batches:
        variance = (1 - momentum) * variance + momentum * batch
    return variance
