"""What torch computes while a module runs: the output of every module, by forward hooks, and of every operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from bridge.frontend.torch.module import Torch
from bridge.verification.metrics import Arrays

See = Callable[[np.ndarray], None]


def watch(reference: Torch, inputs: Arrays, see: See) -> None:
    """Run `reference` and let `see` look at each array of floating point as it is made. Raises `NotRun`."""
    hook = torch.nn.modules.module.register_module_forward_hook(lambda part, given, made: _each(made, see))
    try:
        with reference.evaluating() as module, _Seen(see):
            reference.outputs(inputs, module)
    finally:
        hook.remove()


class _Seen(TorchDispatchMode):
    def __init__(self, see: See) -> None:
        super().__init__()
        self._see = see

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        made = func(*args, **(kwargs or {}))
        _each(made, self._see)
        return made


def _each(made: object, see: See) -> None:
    for x in pytree.tree_leaves(made):
        if isinstance(x, torch.Tensor) and x.is_floating_point() and not x.is_sparse:
            see((x.float() if x.dtype == torch.bfloat16 else x).detach().cpu().numpy())
