"""The example inputs a module is traced with: tensors, and more than one of a batch of which one was given.

torch takes an axis of length one for a number. So an example of one, which is what people have at hand, is repeated for
the trace, where that is what the module means by its batch: every output then holds its rows as often.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch.utils import _pytree as pytree

from bridge.errors import NotRun
from bridge.frontend.torch_module import Torch
from bridge.graph.shapes import shape_of

REPEATS = 3  # of a batch of one
MAX_RUNS = 27  # of the module, to find out which axes are its batch
TOLERANCE = 1e-3  # of the largest magnitude: other kernels are at work for another batch


def as_tensors(inputs: Any) -> Any:
    """`inputs` with their numpy arrays as tensors."""
    return pytree.tree_map(lambda x: torch.from_numpy(x.copy()) if isinstance(x, np.ndarray) else x, inputs)


@dataclass(frozen=True)
class Example:
    """The arguments to trace with, and which axes of them are to be free where the user names none."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    axes: dict[str, Any] | None = None  # by forward's parameters, {axis: Dim.AUTO} for each tensor
    repeated: tuple[tuple[int, ...], ...] = ()  # for each tensor the axis along which it is repeated

    @classmethod
    def with_batch(cls, given: Torch) -> Example:
        """The example of `given`, with the batch free: axis 0 of the first tensor, or axis 1 where a recurrent layer of
        the module is time-major, and every axis as long; of an example of one, those axes that can be told to be."""
        module, (args, kwargs) = given.module, given.arguments
        leaves, spec = pytree.tree_flatten((args, kwargs))
        first = next((x for x in leaves if isinstance(x, torch.Tensor) and x.ndim), None)
        if first is None:
            return cls(args, kwargs)
        sizes = set(first.shape[: 2 if time_major(module) else 1]) - {1}
        chosen = [_as_long(x, sizes) for x in leaves]
        found = None if any(chosen) else _axes_of_one(given, leaves, spec)
        if found is None:
            return cls(args, kwargs, _named(module, spec, chosen))
        args, kwargs = pytree.tree_unflatten(_repeated(leaves, found), spec)
        tensors = (axes for x, axes in zip(leaves, found, strict=True) if isinstance(x, torch.Tensor))
        return cls(args, kwargs, _named(module, spec, found), tuple(tensors))

    def is_free(self, model: ir.Model) -> bool:
        """Whether `model`, traced with it, has left free the axes along which it is repeated."""
        pairs = zip(model.graph.inputs, self.repeated, strict=False)
        return not any(isinstance(shape_of(value)[axis], int) for value, axes in pairs for axis in axes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report says of it."""
        told = f"the example holds one of a batch: traced with {REPEATS} of it, so that the batch is free"
        return (told,) if self.repeated else ()


def time_major(module: torch.nn.Module) -> bool:
    """Whether a recurrent layer of the module has the time before the batch."""
    return any(isinstance(m, torch.nn.RNNBase) and not m.batch_first for m in module.modules())


def _as_long(leaf: Any, sizes: set[int]) -> tuple[int, ...]:
    shape = leaf.shape if isinstance(leaf, torch.Tensor) else ()
    return tuple(axis for axis, size in enumerate(shape) if size in sizes)


def _named(module: torch.nn.Module, spec: Any, chosen: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    """The chosen axes of every leaf, by the names of forward's parameters."""
    axes = [dict.fromkeys(some, torch.export.Dim.AUTO) or None for some in chosen]
    args, kwargs = pytree.tree_unflatten(axes, spec)
    return inspect.signature(module.forward).bind(*args, **kwargs).arguments


def _axes_of_one(given: Torch, leaves: list[Any], spec: Any) -> list[tuple[int, ...]] | None:
    """For each leaf the axis of length one that is the batch, if it has one: the first choice under which the module
    gives what it gives for the example, as often as the example is repeated."""
    wanted = given(given.examples)
    for choice in itertools.islice(_choices(leaves), MAX_RUNS):
        repeated = given.called_with(*pytree.tree_unflatten(_repeated(leaves, choice), spec))
        try:
            got = repeated(repeated.examples)
        except NotRun:  # sizes that are not meant
            continue
        if len(got) == len(wanted) and _is_repeated(wanted, got):
            return choice
    return None


def _choices(leaves: list[Any]) -> Iterator[list[tuple[int, ...]]]:
    """Which axis of each leaf is repeated: of the first two, those of length one; as many leaves as may be first."""
    shapes = [tuple(x.shape[:2]) if isinstance(x, torch.Tensor) else () for x in leaves]
    options = [[*((axis,) for axis, size in enumerate(shape) if size == 1), ()] for shape in shapes]
    choices = (list(choice) for choice in itertools.product(*options))
    return iter(sorted((c for c in choices if any(c)), key=lambda choice: choice.count(())))


def _repeated(leaves: list[Any], choice: Sequence[tuple[int, ...]]) -> list[Any]:
    return [
        x.repeat_interleave(REPEATS, dim=axes[0]) if axes else x
        for x, axes in zip(leaves, choice, strict=True)
    ]


def _is_repeated(wanted: list[np.ndarray], got: list[np.ndarray]) -> bool:
    """Whether all outputs are as they were, and some of them repeated along one axis."""
    grown = [_grown(before, after) for before, after in zip(wanted, got, strict=True)]
    return all(axes is not None for axes in grown) and any(grown)


def _grown(before: np.ndarray, after: np.ndarray) -> tuple[int, ...] | None:
    """The axis along which `after` is `before` repeated, none if it is the same; None if it is something else."""
    if before.ndim != after.ndim:
        return None
    longer = tuple(i for i, (a, b) in enumerate(zip(before.shape, after.shape, strict=True)) if a != b)
    if len(longer) > 1 or longer and (before.shape[longer[0]], after.shape[longer[0]]) != (1, REPEATS):
        return None
    wide = np.broadcast_to(before, after.shape)
    if not np.issubdtype(after.dtype, np.floating):
        return longer if np.array_equal(wide, after) else None
    scale = float(np.abs(wide).max(initial=0))
    return longer if np.allclose(wide, after, rtol=0, atol=TOLERANCE * scale, equal_nan=True) else None
