"""A torch module with every rounded value moved by its last bit, in the forward pass and in the backward: how far
rounding alone moves what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

EXACT = frozenset(  # operators of aten that round nothing
    """_reshape_copy _to_copy _unsafe_view abs alias_copy amax amin arange as_strided bitwise_not cat ceil clamp
    clamp_max clamp_min clone constant_pad_nd copy_ detach diagonal_backward embedding empty empty_like expand_copy
    fill_ flip floor full full_like gather hardtanh hardtanh_backward index index_select lift_fresh masked_fill
    masked_fill_ max max_pool2d_with_indices max_pool3d_with_indices maximum min minimum neg new_empty new_empty_strided
    new_zeros ones_like relu relu_ repeat roll round scalar_tensor select_backward sign slice_backward sort stack
    threshold threshold_backward topk tril triu trunc unfold_backward where zero_ zeros zeros_like""".split()
)
CANCELLING = frozenset(  # those whose formulas are exact to so many places after the point, however small the number is
    "celu elu gelu hardswish log_sigmoid_forward mish selu softplus".split()
)


class Shaken(TorchDispatchMode):
    """Every number that is rounded, moved by its last bit: what a function of one element gives; and of what adds up,
    such as a product of matrices or a normalisation, what goes in, too."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        name = func.overloadpacket.__name__
        kwargs = kwargs or {}
        if func.is_view or name in EXACT:
            return func(*args, **kwargs)
        if torch.Tag.pointwise not in func.tags and not func._schema.is_mutable:
            given = zip(func._schema.arguments, args, strict=False)  # not what it writes into unsaid
            args = [x if a.name.startswith("running_") else self._each(x) for a, x in given]
        made = func(*args, **kwargs)
        plain = name.removesuffix("_backward").rstrip("_")
        least = (args[0] if name.endswith("_backward") else 1.0) if plain in CANCELLING else 0.0
        if func._schema.is_mutable:
            return made.copy_(self._moved(made, least)) if isinstance(made, torch.Tensor) else made
        return self._each(made, least)

    def _each(self, tree: object, least: object = 0.0) -> object:
        return torch.utils._pytree.tree_map(lambda x: self._moved(x, least), tree)

    def _moved(self, x: object, least: object = 0.0) -> Any:
        """`x` off by the last bits of each number, or of `least`."""
        if not isinstance(x, torch.Tensor) or not x.is_floating_point() or x.is_sparse:
            return x
        least = torch.as_tensor(least, dtype=x.dtype, device=x.device)
        size = torch.maximum(x.abs(), least.abs().expand_as(x))
        signs = torch.randint(0, 2, x.shape, generator=self._random, dtype=x.dtype) * 2 - 1
        return x + size * signs.to(x.device) * torch.finfo(x.dtype).eps
