"""A module that names a type of floating point, as it would compute if it named float64 there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map, tree_map_only

from bridge.frontend.torch.patches import replaced

WIDE = {
    torch.bfloat16: torch.float64,
    torch.float16: torch.float64,
    torch.float32: torch.float64,
    torch.complex32: torch.complex128,
    torch.complex64: torch.complex128,
}


class _Widened(TorchDispatchMode):
    """Operators are told to give float64 in the place of less, and what yet is less is widened."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # fmt: skip
        args, kwargs = tree_map(_wide, (args, kwargs or {}))
        return tree_map_only(torch.Tensor, lambda x: x.to(WIDE.get(x.dtype, x.dtype)), func(*args, **kwargs))


def _wide(argument: Any) -> Any:
    return WIDE.get(argument, argument) if isinstance(argument, torch.dtype) else argument


@contextlib.contextmanager
def widened() -> Iterator[None]:
    """torch, in which every type of floating point is float64, also where none is said."""
    default, limits = torch.get_default_dtype(), torch.finfo

    def narrow(*of: torch.dtype) -> torch.finfo:
        return limits(torch.float32) if of == (torch.float64,) else limits(*of)

    torch.set_default_dtype(torch.float64)
    try:
        with replaced([(torch, "finfo", narrow, "of its limits forward may make numbers")]), _Widened():
            yield
    finally:
        torch.set_default_dtype(default)
