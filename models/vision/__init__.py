"""Networks for images, clips and waveforms, one design a file: all its features, at small widths.

A file's other makers, ``make_<variant>()``, give variants of its design; the contract is that of `models`.
"""

import torch
from torch import Tensor, nn

from models import Example, settle

BATCH = {0: "batch"}
IMAGE = {0: "batch", 2: "height", 3: "width"}


def noise(*shape: int) -> Tensor:
    """Standard normal, always the same for the same shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def example(module: nn.Module, x: Tensor, axes: dict[int, str]) -> Example:
    """`module` settled, with x as its input.

    As after training, each BatchNorm knows the statistics of what reaches it (a tiny variance is raised).
    Foreign ones would damp the signal layer by layer, until the output hardly depended on the input.
    """

    def meet(norm: nn.BatchNorm2d | nn.BatchNorm3d, inputs: tuple[Tensor]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1)
        norm.running_mean.copy_(values.mean(1))
        norm.running_var.copy_(values.var(1).clamp(min=0.1))

    settle(module)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d)]
    hooks = [norm.register_forward_pre_hook(meet) for norm in norms]
    module(x)
    for hook in hooks:
        hook.remove()
    return module, (x,), (axes,)
