"""The example inputs a module is traced with: more than one of a batch of which one was given.

torch takes an axis of length one for a number. So an example of one, which is what people have at hand, is repeated for
the trace, where that is what the module means by its batch: every output then holds its rows as often.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import onnx_ir as ir
import torch
from torch.utils import _pytree as pytree

from bridge.errors import NotRun
from bridge.frontend.torch.module import Torch
from bridge.frontend.torch.names import called
from bridge.frontend.torch.shapes import Axes, as_torch_takes_them, free_axes
from bridge.graph.shapes import shape_of
from bridge.weights.tensors import BRAIN

Found = TypeVar("Found")

STAYS = (
    "the example holds one along its first axis, which stays fixed: {}; name the axis in dynamic_shapes, or give an "
    "example of more"
)
OTHERWISE = "with one of it the module computes something else than with more"
NOT_TRACED = "with more of it the module takes another branch, or torch does not trace it"
REPEATS = 3  # of a batch of one
MAX_RUNS = 27  # of the module, to find out which axes are its batch
TOLERANCE = 1e-3  # of the largest magnitude: other kernels are at work for another batch


@dataclass(frozen=True)
class Example:
    """The arguments to trace with, and which axes of them are to be free."""

    args: tuple[object, ...]
    kwargs: dict[str, object]
    axes: tuple[Axes, ...] | None = None  # of each leaf
    repeated: tuple[tuple[int, ...], ...] = ()  # for each leaf the axes along which it is repeated
    asked: bool = False  # whether the user named the axes
    stays: str = ""  # why one of an axis was given that may be the batch, and is not taken for it
    guessed: bool = False  # whether no output shows that it is repeated along its batch

    @classmethod
    def with_batch(cls, given: Torch) -> Iterator[Example]:
        """Examples of `given` with the batch free, the likeliest first: axis 0 of the first tensor, or axis 1 where a
        layer of the module is time-major, and every axis as long; then that of another tensor. Of an example of one
        those axes that can be told to be the batch."""
        module, (args, kwargs) = given.module, given.arguments
        leaves, spec = pytree.tree_flatten((args, kwargs))
        leading = 2 if time_major(module) else 1
        shapes = [tuple(x.shape[:leading]) for x in leaves if isinstance(x, torch.Tensor) and x.ndim]
        own, *others = dict.fromkeys(frozenset(shape) - {1} for shape in shapes) or [frozenset()]
        of_several = [
            cls(args, kwargs, _automatic(_as_long(leaves, sizes))) for sizes in (own, *others) if sizes
        ]
        if own and shapes[0][-1] != 1:
            yield of_several.pop(0)
        ones, sure, why = _axes_of_one(given, leaves, spec)
        if ones:
            more = _as_long(leaves, own) if leading > 1 else [()] * len(leaves)
            axes = _automatic([(*batch, *time) for batch, time in zip(ones, more, strict=True)])
            args, kwargs = pytree.tree_unflatten(_repeated(leaves, ones), spec)
            yield cls(args, kwargs, axes, tuple(ones), guessed=not sure)
        yield from of_several
        yield replace(cls(*given.arguments), stays=why)

    @classmethod
    def with_axes(cls, given: Torch, shapes: object) -> Iterator[Example]:
        """Examples of `given`, with the axes free that `shapes` name: repeated along those of length one, where the
        module runs on it, and as given. Raises `SourceError` where `shapes` do not fit."""
        args, kwargs = given.arguments
        axes = free_axes(given.module, args, kwargs, shapes)
        plain = cls(args, kwargs, tuple(axes), asked=True)
        leaves, spec = pytree.tree_flatten((args, kwargs))
        ones = [tuple(a for a in found if x.shape[a] == 1) for x, found in zip(leaves, axes, strict=True)]
        if any(ones):
            args, kwargs = pytree.tree_unflatten(_repeated(leaves, ones), spec)
            repeated = given.called_with(args, kwargs)
            with contextlib.suppress(NotRun):  # another axis is as long
                repeated(repeated.examples)
                yield replace(plain, args=args, kwargs=kwargs, repeated=tuple(ones))
        yield plain

    @contextlib.contextmanager
    def sizes_shared(self, module: torch.nn.Module) -> Iterator[None]:
        """While `module` is traced, axes of one name are one size, and so is the batch found in its inputs, also where
        forward does not show it."""
        shared = [places for places in self._places().values() if len(places) > 1]

        def agree(_: object, args: object, kwargs: object) -> None:
            tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            for places in shared:
                first, *others = (tensors[place].shape[axis] for place, axis in places)
                for other in others:
                    torch._check(first == other)

        handle = module.register_forward_pre_hook(agree, with_kwargs=True) if shared else None
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()

    def _places(self) -> dict[str, list[tuple[int, int]]]:
        """For each size that has a name, where it is: the tensors, by their place among all, and the axes."""
        found: dict[str, list[tuple[int, int]]] = {}
        if self.asked:
            for place, named in enumerate(self.of_tensors(self.axes or ())):
                for axis, dim in named.items():
                    if name := called(dim):
                        found.setdefault(name, []).append((place, axis))
            return found
        of_each = list(map(tuple, self.of_tensors(self.repeated or self.axes or ())))
        return {"batch": [(place, axes[0]) for place, axes in enumerate(of_each) if len(axes) == 1]}

    def is_free(self, model: ir.Model) -> bool:
        """Whether `model`, traced with it, has left free the axes along which it is repeated, or else one that was to
        be free."""
        repeated = self._fixed(model, self.repeated)
        return not any(repeated) if repeated else not all(self._fixed(model, self.axes or ()))

    def _fixed(self, model: ir.Model, of_leaves: Sequence[Iterable[int]]) -> list[bool]:
        """Of the axes given for each leaf, whether `model` has fixed them."""
        pairs = zip(model.graph.inputs, self.of_tensors(of_leaves), strict=False)
        return [isinstance(shape_of(value)[axis], int) for value, axes in pairs for axis in axes]

    def shapes(self, module: torch.nn.Module) -> dict[str, object] | None:
        """The free axes as torch takes them; None where they are torch's to choose."""
        return None if self.axes is None else as_torch_takes_them(module, self.args, self.kwargs, self.axes)

    def of_tensors(self, of_leaves: Sequence[Found]) -> list[Found]:
        """Of what there is for each leaf, that for the tensors."""
        leaves = pytree.tree_leaves((self.args, self.kwargs))
        return [found for x, found in zip(leaves, of_leaves, strict=False) if isinstance(x, torch.Tensor)]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report says of it."""
        if not self.repeated:
            return (STAYS.format(self.stays),) if self.stays else ()
        if self.asked:
            return (f"the example is one long where axes are named: traced with {REPEATS} of it there",)
        return (f"the example holds one of a batch: traced with {REPEATS} of it, so that the batch is free",)


def time_major(module: torch.nn.Module) -> bool:
    """Whether a recurrent layer or an attention of the module has the time before the batch."""
    kinds = torch.nn.RNNBase | torch.nn.MultiheadAttention
    return any(isinstance(layer, kinds) and not layer.batch_first for layer in module.modules())


def _as_long(leaves: list[object], sizes: frozenset[int]) -> list[tuple[int, ...]]:
    shapes = [tuple(leaf.shape) if isinstance(leaf, torch.Tensor) else () for leaf in leaves]
    return [tuple(axis for axis, size in enumerate(shape) if size in sizes) for shape in shapes]


def _automatic(chosen: Sequence[tuple[int, ...]]) -> tuple[Axes, ...]:
    """The chosen axes of every leaf, free where torch allows it."""
    return tuple(dict.fromkeys(axes, torch.export.Dim.AUTO) for axes in chosen)


def _axes_of_one(
    given: Torch, leaves: list[object], spec: pytree.TreeSpec
) -> tuple[list[tuple[int, ...]], bool, str]:
    """For each leaf the axis of length one that is the batch, if it has one, and whether that is sure: the first choice
    under which the module gives what it gives for the example, as often as the example is repeated; or else the first
    under which it gives anything of as many axes, as a sum over the batch. Also why none is, or may not be."""
    wanted = given(given.examples)
    runs, why = list[tuple[int, ...]](), ""
    for choice in itertools.islice(_choices(leaves), MAX_RUNS):
        repeated = given.called_with(*pytree.tree_unflatten(_repeated(leaves, choice), spec))
        try:
            got = repeated(repeated.examples)
        except NotRun as error:  # sizes that are not meant
            why = why or f"with {REPEATS} of it the module does not run: {error}"
            continue
        if other := _other_axes(wanted, got):
            why = why or f"with {REPEATS} of it {other} with one"
            continue
        if _is_repeated(wanted, got):
            return choice, True, NOT_TRACED
        runs = runs or choice
    return runs, False, NOT_TRACED if runs else why


def _other_axes(one: list[np.ndarray], more: list[np.ndarray]) -> str:
    """What a module gives otherwise for more of an example than for one, if not as many outputs of as many axes."""
    if len(one) != len(more):
        return f"the module gives {len(more)} outputs, and {len(one)}"
    shapes = [(x.shape, y.shape) for x, y in zip(one, more, strict=True) if x.ndim != y.ndim]
    return f"an output has the shape {shapes[0][1]}, and {shapes[0][0]}" if shapes else ""


def _choices(leaves: list[object]) -> Iterator[list[tuple[int, ...]]]:
    """Which axis of each leaf is repeated: of the first two, those of length one; as many leaves as may be first."""
    shapes = [tuple(x.shape[:2]) if isinstance(x, torch.Tensor) else () for x in leaves]
    options = [[*((axis,) for axis, size in enumerate(shape) if size == 1), ()] for shape in shapes]
    choices = (list(choice) for choice in itertools.product(*options))
    return iter(sorted((c for c in choices if any(c)), key=lambda choice: choice.count(())))


def _repeated(leaves: list[object], choice: Sequence[tuple[int, ...]]) -> list[object]:
    def grown(x: object, axes: tuple[int, ...]) -> object:
        if not isinstance(x, torch.Tensor):
            return x
        return functools.reduce(lambda y, axis: y.repeat_interleave(REPEATS, dim=axis), axes, x)

    return list(map(grown, leaves, choice))


def _is_repeated(wanted: list[np.ndarray], got: list[np.ndarray]) -> bool:
    """Whether all outputs are as they were, and some of them repeated."""
    grown = [_grown(before, after) for before, after in zip(wanted, got, strict=True)]
    return None not in grown and any(grown)


def _grown(before: np.ndarray, after: np.ndarray) -> bool | None:
    """Whether `after` is `before` repeated along some axes, where it is not the same; None if it is something else."""
    pairs = [(a, b) for a, b in zip(before.shape, after.shape, strict=True) if a != b]
    if any(pair != (1, REPEATS) for pair in pairs):
        return None
    if after.dtype == BRAIN:
        before, after = before.astype(np.float32), after.astype(np.float32)
    wide = np.broadcast_to(before, after.shape)
    if not np.issubdtype(after.dtype, np.floating):
        return bool(pairs) if np.array_equal(wide, after) else None
    scale = float(np.abs(wide).max(initial=0))
    return bool(pairs) if np.allclose(wide, after, rtol=0, atol=TOLERANCE * scale, equal_nan=True) else None
