"""torch's spectral norm kept whole, so that its parameters stay in sight."""

from __future__ import annotations

from collections.abc import Callable

import torch


def spectral_norm(original: Callable[..., torch.Tensor]):
    """The forward of the parametrisation, as in evaluation mode; of a vector, whose norm is its length, `original`."""

    def forward(self, weight):
        if weight.ndim == 1:
            return original(self, weight)
        return torch.ops.bridge.spectral_norm(weight, self._u, self._v, self.dim)

    return forward


def spectral_norm_weight(self, module, do_power_iteration):
    """Replaces `compute_weight` of the one that hooks make, as in evaluation mode."""
    weight, u, v = (getattr(module, self.name + part) for part in ("_orig", "_u", "_v"))
    return torch.ops.bridge.spectral_norm(weight, u, v, self.dim)
