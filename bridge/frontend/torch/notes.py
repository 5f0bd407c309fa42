"""What a report has to say of a module, heard while torch traces it."""

from __future__ import annotations

import warnings
from typing import Any

import torch


class Note(UserWarning):
    """Something the report has to say; raised as a warning while tracing, collected by `_onnx_export`."""


def _noting() -> Any:
    """Takes the place of `torch.autograd.Function.apply`: an ONNX graph holds what it computes, and no gradient."""
    apply = vars(torch.autograd.Function)["apply"]

    def noted(kind: Any, *args: Any, **options: Any) -> Any:
        if kind.__module__.partition(".")[0] != "torch":
            warnings.warn(
                Note(
                    f"{kind.__module__}.{kind.__qualname__} brings its own gradient, which no graph holds: Keras "
                    f"trains by the gradient of what it computes"
                ),
                stacklevel=1,
            )
        return apply.__get__(None, kind)(*args, **options)

    return classmethod(noted)


NOTING = _noting()
