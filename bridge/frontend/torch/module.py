"""A torch module as a function of numpy arrays, called as it was exported."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge.errors import SourceError, calling, short_message
from bridge.weights.tensors import array_of, tensor_of

if TYPE_CHECKING:
    import torch

Arrays = list[np.ndarray]


def copy_sharing_parameters(module: torch.nn.Module) -> torch.nn.Module:
    """A copy of a torch module that shares its parameters and buffers. What forward keeps from one call for the next,
    such as a table made of parameters, is then neither traced as a constant nor left behind."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    try:
        return copy.deepcopy(module, shared)
    except Exception:  # it holds what cannot be copied, such as the results of a hook
        return module


def _copied(module: torch.nn.Module, instead: Mapping[int, torch.Tensor] | None = None) -> torch.nn.Module:
    """A copy of a torch module, with tensors `instead` of those that have an identity."""
    try:
        return copy.deepcopy(module, dict(instead or {}))
    except Exception as error:  # torch's, and what the attributes of the module raise
        needs = f"{type(module).__name__} cannot be copied, which comparing in float64 and in training needs"
        raise SourceError(f"{needs}: {short_message(error)}") from error


@contextlib.contextmanager
def without_fast_paths() -> Iterator[None]:
    """torch's attention by its formula: the fused kernels that evaluation mode would take instead give zeros where a
    sequence is padded, which neither the trace nor training does. On a GPU products in the precision that they have,
    of which it would leave out digits."""
    import torch

    from bridge.keras_compat import torch_in_full_precision

    mha = torch.backends.mha
    enabled = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with torch_in_full_precision():
            yield
    finally:
        mha.set_fastpath_enabled(enabled)


def _taken(
    condition: Any, then: Callable[..., Any], otherwise: Callable[..., Any], operands: Any = ()
) -> Any:
    return then(*operands) if condition else otherwise(*operands)


def branching_plainly() -> AbstractContextManager[None]:
    """`torch.cond` as the branch that it takes: Dynamo would compile it, and where operators are watched meanwhile no
    other one runs in the process any more."""
    import torch

    from bridge.frontend.torch.patches import replaced

    return replaced([(torch, "cond", _taken, "")])


class Torch:
    """A module called as it was exported, on numpy arrays, with `NotRun` for whatever it raises; `double()` gives it in
    float64, `throughout()` that as if it named float64 wherever it names a type."""

    def __init__(
        self, module: torch.nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object] | None = None,
        around: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ):  # fmt: skip
        import torch

        self._torch = torch
        self.module, self._around = module, around
        self._leaves, self._spec = torch.utils._pytree.tree_flatten((args, kwargs or {}))
        self.examples = [array_of(x) for x in self._leaves if isinstance(x, torch.Tensor)]

    @property
    def arguments(self) -> tuple[tuple[object, ...], dict[str, object]]:
        """The example inputs, as the module takes them."""
        return self._torch.utils._pytree.tree_unflatten(self._leaves, self._spec)

    @property
    def unnamed(self) -> tuple[str, ...]:
        """The keyword inputs that are no parameters of forward, whose `**kwargs` takes them."""
        parameters = inspect.signature(self.module.forward).parameters
        return tuple(name for name in self.arguments[1] if name not in parameters)

    def copy(self) -> Torch:
        """The same, with a module of its own. Raises `SourceError` for one that cannot be copied."""
        return Torch(_copied(self.module), *self.arguments, around=self._around)

    def double(self) -> Torch:
        """The same module and examples in float64. Raises `SourceError` for a module that cannot be copied."""
        torch = self._torch
        floats = [x for x in self._leaves if isinstance(x, torch.Tensor) and x.is_floating_point()]
        narrow = any(x.dtype != torch.float64 for x in floats)
        leaves = [x.double() if any(x is one for one in floats) else x for x in self._leaves]
        args, kwargs = torch.utils._pytree.tree_unflatten(leaves, self._spec)
        module = _copied(self.module, dict(self._doubles()))
        for layer in module.modules():  # what hangs on the precision unless it is said
            if narrow and isinstance(layer, torch.nn.RMSNorm) and layer.eps is None:
                layer.eps = torch.finfo(torch.float32).eps
        return Torch(module.double(), args, kwargs)

    def throughout(self) -> Torch:
        """The same module, which is one in float64, computing so throughout."""
        from bridge.frontend.torch.widened import widened

        return Torch(self.module, *self.arguments, around=widened)

    def _doubles(self) -> Iterator[tuple[int, torch.Tensor]]:
        """The module's tensors in float64, of which a copy in their own precision is never made."""
        torch = self._torch
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if type(tensor) is torch.nn.Parameter and tensor.is_floating_point():
                yield id(tensor), torch.nn.Parameter(tensor.detach().double(), tensor.requires_grad)
            elif type(tensor) is torch.Tensor and tensor.is_floating_point():
                yield id(tensor), tensor.detach().double()

    @cached_property
    def _settled(self) -> torch.nn.Module:
        """What calls in evaluation mode run, so that the module is as if it had not been called."""
        return copy_sharing_parameters(self.module)

    def tensors(self, inputs: Arrays) -> tuple[tuple[object, ...], dict[str, object]]:
        """The arguments of a call, with copies of `inputs` for tensors: the module may write into them."""
        torch, given = self._torch, iter(inputs)
        leaves = [
            tensor_of(next(given)).to(x.device, copy=True) if isinstance(x, torch.Tensor) else x
            for x in self._leaves
        ]
        return torch.utils._pytree.tree_unflatten(leaves, self._spec)

    def result(self, inputs: Arrays, module: torch.nn.Module | None = None) -> object:
        """What the module (or `module`) gives, in whatever mode it is in, for `inputs`."""
        args, kwargs = self.tensors(inputs)
        with without_fast_paths(), branching_plainly(), self._around():
            return (self.module if module is None else module)(*args, **kwargs)

    def outputs(self, inputs: Arrays, module: torch.nn.Module | None = None) -> list[torch.Tensor]:
        """The tensors of `result`, flat."""
        results = self._torch.utils._pytree.tree_leaves(self.result(inputs, module))
        return [x for x in results if isinstance(x, self._torch.Tensor)]

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[torch.nn.Module]:
        """A module to be called in evaluation mode, with `NotRun` for whatever that raises."""
        module = self._settled
        training = getattr(module, "training", False)
        if training:
            module.eval()
        try:
            with calling(), self._torch.no_grad():
                yield module
        finally:
            if training:
                module.train()

    def __call__(self, inputs: Arrays) -> Arrays:
        with self.evaluating() as module:
            return [array_of(x) for x in self.outputs(inputs, module)]

    def called_with(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Torch:
        """The same module with other examples."""
        return Torch(self.module, args, kwargs, self._around)
