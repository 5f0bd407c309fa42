"""What people give a generator: prompts without their padding, and the numbers by which tokens are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bridge.errors import SourceError


def rows_of(prompts: Sequence[Sequence[int]] | np.ndarray, mask: np.ndarray | None) -> list[np.ndarray]:
    """The tokens of each prompt, without padding."""
    rows = [np.asarray(row) for row in prompts]
    if mask is not None:
        kept = np.asarray(mask).astype(bool)
        if kept.shape != np.shape(prompts):
            raise SourceError(f"the mask has the shape {kept.shape}, the prompts have {np.shape(prompts)}")
        rows = [row[here] for row, here in zip(rows, kept, strict=True)]
    for place, row in enumerate(rows):
        if row.ndim != 1 or not row.size or not np.issubdtype(row.dtype, np.integer):
            raise SourceError(
                f"prompt {place} is of {row.dtype} {row.shape}: give integers, at least one, such as the token "
                f"with which sequences begin"
            )
    if not rows:
        raise SourceError("there is no prompt")
    return [row.astype(np.int32) for row in rows]


def noise_of(shape: tuple[int, int, int], seed: int, given: np.ndarray | None) -> np.ndarray:
    """(batch, steps, vocabulary) exponential numbers."""
    if given is None:
        given = np.random.default_rng(seed).standard_exponential(shape, dtype=np.float32)
    noise = np.asarray(given, np.float32)
    if noise.ndim != 3 or noise.shape[0] < shape[0] or noise.shape[1:] != shape[1:]:
        raise SourceError(f"noise has the shape {noise.shape}: there are {shape} steps, prompts and tokens")
    return noise.swapaxes(0, 1)
