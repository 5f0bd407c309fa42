"""Look-ups in tables and along axes, written with operators that torch exports."""

from __future__ import annotations

from collections.abc import Callable

import torch


def embedding_bag(
    input, weight, offsets=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, mode="mean", sparse=False,
    per_sample_weights=None, include_last_offset=False, padding_idx=None,
):  # fmt: skip
    """Replaces `F.embedding_bag`: rows of a table, and what is done with those of one bag."""
    if max_norm is not None:
        raise NotImplementedError(
            f"embedding_bag with max_norm changes its weights in forward; normalise their rows before "
            f"(torch.renorm(weight, {norm_type:g}, 0, {max_norm:g})) and leave max_norm out"
        )
    inside = None if padding_idx is None else input != padding_idx % weight.shape[0]
    rows = torch.nn.functional.embedding(input, weight, scale_grad_by_freq=scale_grad_by_freq)
    if offsets is not None:  # bags side by side: every bag sees all rows and keeps its own
        ends = (
            offsets[1:]
            if include_last_offset
            else torch.cat([offsets[1:], offsets.new_full((1,), input.shape[0])])
        )
        starts = offsets[:-1] if include_last_offset else offsets
        place = torch.arange(input.shape[0], device=input.device)
        own = (place >= starts[:, None]) & (place < ends[:, None])
        inside, rows = own if inside is None else own & inside, rows[None]
    if inside is None and per_sample_weights is None:
        return getattr(rows, "amax" if mode == "max" else mode)(1)
    if inside is None:
        inside = torch.ones_like(input, dtype=torch.bool)
    count = inside.sum(1, keepdim=True)
    if mode == "max":
        highest = rows.masked_fill(~inside[..., None], -torch.inf).amax(1)
        return torch.where(count == 0, 0.0, highest)
    shares = inside.to(rows.dtype) if per_sample_weights is None else inside * per_sample_weights
    total = (shares[:, None] @ rows).squeeze(1)
    return total / count.clamp(min=1).to(rows.dtype) if mode == "mean" else total


def take_along_dim(original: Callable[..., torch.Tensor]):
    """Where nothing broadcasts, a gather: torch compares the sizes of all axes, and fixes them."""

    def take(input, indices, dim=None):
        if dim is None or input.dim() != indices.dim():
            return original(input, indices, dim)
        others = [axis for axis in range(input.dim()) if axis != dim % input.dim()]
        same = all(input.shape[axis] == indices.shape[axis] for axis in others)
        return input.gather(dim, indices) if same else original(input, indices, dim)

    return take
