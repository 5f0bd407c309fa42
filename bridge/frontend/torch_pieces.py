"""Operators of torch that cut a tensor into pieces, written so that a free axis is followed."""

from __future__ import annotations

from typing import Any


def chunk(original: Any) -> Any:
    """`torch.chunk` by slices of which the last has no end: what remains of a free axis is no whole piece."""

    def run(input: Any, chunks: int, dim: int = 0) -> Any:
        size = input.shape[dim]
        pieces = original(input, chunks, dim)
        if isinstance(size, int):
            return pieces
        step, before = (size + chunks - 1) // chunks, (slice(None),) * (dim % input.dim())
        ends = [step * place for place in range(1, len(pieces))]
        return tuple(
            input[(*before, slice(*ends_of))] for ends_of in zip([0, *ends], [*ends, None], strict=True)
        )

    return run
