"""Torch's tensors as numpy's arrays, and back, bit for bit: numpy has bfloat16 by `ml_dtypes` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    import torch

BRAIN = np.dtype(ml_dtypes.bfloat16)


def array_of(tensor: torch.Tensor) -> np.ndarray:
    """The numbers of a tensor, where it has them if that is in main memory."""
    import torch

    held = tensor.detach().cpu()
    return held.view(torch.int16).numpy().view(BRAIN) if held.dtype == torch.bfloat16 else held.numpy()


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """A tensor on the numbers of an array."""
    import torch

    held = np.asarray(array, order="C")
    if held.dtype == BRAIN:
        return torch.from_numpy(held.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(held)
