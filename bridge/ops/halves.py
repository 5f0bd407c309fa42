"""Powers of ordinary numbers leave the range of a half, although what is made of them may lie within it."""

from __future__ import annotations

import functools
from collections.abc import Callable

from keras import ops

from bridge.ops.contract import Tensor

HALVES = ("float16", "bfloat16")


def single(x: Tensor) -> Tensor:
    """`x`, in single precision where it is in half."""
    return ops.cast(x, "float32") if str(x.dtype) in HALVES else x


def as_half(x: Tensor, dtype: str) -> Tensor:
    """`x`, in `dtype` where that is one of half precision."""
    return ops.cast(x, dtype) if dtype in HALVES else x


def in_single(build: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`build`, whose last operand is `single` and whose result has the type that this had, as onnxruntime does it."""

    @functools.wraps(build)
    def wide(*operands: Tensor, **attributes: object) -> Tensor:
        *before, x = operands
        made = build(*before, single(x), **attributes)
        return made if made.dtype == x.dtype else ops.cast(made, x.dtype)

    return wide
