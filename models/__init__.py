"""Whole models in plain PyTorch, the kind people want to bring to Keras.

Every module here has a `make()` that returns `(module, args, dynamic_shapes)`:

- `module`: an `nn.Module` in eval mode, every weight away from its initial value (see `settle`);
- `args`: the example inputs, a tuple of tensors for `module(*args)`;
- `dynamic_shapes`: one entry per argument, `{axis: name}` or None, as `torch.onnx.export` takes them;
  axes that share a name share their size.

All of it is plain torch, without any import of bridge, and deterministic: two calls give equal numbers.
Sizes are small and differ from one another, so that two axes swapped by mistake cannot go unseen.
Letters in shapes: N batch, T time, C channels, H height, W width, F features.
"""

from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn

Example: TypeAlias = tuple[nn.Module, tuple[Tensor, ...], tuple[dict[int, str] | None, ...]]
Net = TypeVar("Net", bound=nn.Module)


@torch.no_grad()
def settle(module: Net, seed: int = 0) -> Net:
    """Give `module` the look of a trained one, in place: numbers drawn from `seed` alone, eval mode.

    Matrices and kernels are normal with variance 1 / fan-in, norm weights scatter around 1 and all other
    vectors around 0. BatchNorm gets a mean off 0, a variance within 0.5..1.5 and a count of batches.
    A parameter with several names (tied weights) is drawn once and stays tied.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1:
            parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
        else:
            parameter.normal_(1.0 if name.endswith("weight") else 0.0, 0.2, generator=generator)
    for name, buffer in module.named_buffers():
        match name.rpartition(".")[2]:
            case "running_mean":
                buffer.normal_(0.4, 0.2, generator=generator)
            case "running_var":
                buffer.uniform_(0.5, 1.5, generator=generator)
            case "num_batches_tracked":
                buffer.fill_(17)
    return module.eval()
