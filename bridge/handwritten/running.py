"""Both sides of a transfer run on the same inputs, whatever the order of the axes of each.

Which axes of torch's tensors are Keras's, nobody says. All orders in use are tried: where values drawn at random agree
in one of them, the two are one function.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bridge.errors import NotRun, SourceError, calling
from bridge.frontend.torch.module import Torch
from bridge.handwritten.flattened import Tensor
from bridge.handwritten.keras_slots import Target, layers_in_a_row, nearest, slots_of
from bridge.handwritten.layouts import LAYOUTS, moving_layouts
from bridge.handwritten.settings import built_shape
from bridge.handwritten.torch_parts import array_of
from bridge.keras_compat import full_precision
from bridge.verification.checks import limit_of
from bridge.verification.metrics import Arrays, cast, relative_error, worst_error
from bridge.verification.precision import ROUNDING_FACTOR

if TYPE_CHECKING:
    import torch
    from torch.utils.hooks import RemovableHandle

BATCH = 3
FREE = (8, 33, 64, 224)  # sizes of free axes, of which the first is taken at which both sides run
SEED = 0
NEAR = 0.1  # an error beyond is not asked whether it is rounding
CELLS = {"LSTMCell", "GRUCell", "SimpleRNNCell"}  # which take a step and the states before it


@dataclass(frozen=True)
class Input:
    """One input of the Keras side; `below` bounds its integers, None for other numbers."""

    name: str
    shape: tuple[int | None, ...]
    below: int | None

    def draw(self, rng: np.random.Generator, free: int) -> np.ndarray:
        """Values of it: axes of free size differ from one another, and integers have a zero among them."""
        shape = [BATCH if i == 0 and n is None else n or free + i for i, n in enumerate(self.shape)]
        if self.below is None:
            return rng.standard_normal(shape).astype(np.float32)
        values = rng.integers(0, self.below, shape)
        values.flat[0] = 0
        return values


class Keras:
    """A layer, a model, or a sequence of them one after the other, as a function of arrays."""

    def __init__(self, target: Target):
        self.chain = list(layers_in_a_row(target))

    @cached_property
    def inputs(self) -> list[Input]:
        """Raises `NotRun` where they are not known."""
        first = self.chain[0]
        tensors = getattr(first, "inputs", None)
        if nearest(first, {"Model"}) and tensors:
            struct = getattr(first, "input", None)
            names = sorted(struct) if isinstance(struct, dict) else [t.name for t in tensors]
            return [self._input(n, t.shape, t) for n, t in zip(names, tensors, strict=True)]
        if nearest(first, {"MultiHeadAttention"}):
            shapes = (first.get_build_config() or {}).get("shapes_dict", {})
            names = ["query", "value", "key"]
            given = [shapes.get(f"{name}_shape") or shapes.get("value_shape") for name in names]
            if all(given):
                return [Input(name, tuple(shape), None) for name, shape in zip(names, given, strict=True)]
        shape = built_shape(first)
        if shape is None or nearest(first, {"StackedRNNCells"}):
            raise NotRun(f"what {type(first).__name__} {first.name!r} takes is not known")
        sizes = first.state_size if self.is_cell else []
        states = [(None, size) for size in ([sizes] if isinstance(sizes, int) else sizes)]
        return [self._input("", shape), *(Input("", state, None) for state in states)]

    @property
    def is_cell(self) -> bool:
        return nearest(self.chain[0], CELLS) is not None

    def _input(self, name: str, shape: Sequence[int | None], tensor: Tensor | None = None) -> Input:
        """Integers, within the smallest table, where that is its type or a table reads it."""
        tables = [slot.layer for slot in slots_of(self.chain) if nearest(slot.layer, {"Embedding"})]
        below = min((table.input_dim for table in tables), default=2)
        if tensor is None:
            whole = bool(tables) and tables[0] is self.chain[0]
        else:
            whole = "int" in str(tensor.dtype) or any(table.input is tensor for table in tables)
        return Input(name, tuple(shape), below if whole else None)

    @property
    def dtype(self) -> str:
        """The coarsest precision that a layer computes in."""
        used = {str(getattr(slot.layer, "compute_dtype", "float32")) for slot in slots_of(self.chain)}
        return next((dtype for dtype in ("bfloat16", "float16") if dtype in used), "float32")

    def __call__(self, arrays: Arrays) -> Arrays:
        """The outputs. Raises `NotRun`."""
        first, *others = self.chain
        with calling(), full_precision():
            if len(arrays) == 1:
                value = first(arrays[0])
            elif isinstance(getattr(first, "input", None), dict):
                value = first({i.name: x for i, x in zip(self.inputs, arrays, strict=True)})
            elif nearest(first, {"Model"}):
                value = first(arrays)
            elif self.is_cell:
                value = first(arrays[0], arrays[1:])
            else:
                value = first(**{i.name: x for i, x in zip(self.inputs, arrays, strict=True)})
            for layer in others:
                value = layer(value)
        return [array_of(x) for x in _leaves(value)]


def _leaves(value: object) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


@dataclass(frozen=True)
class Comparison:
    """What running both sides on the same inputs showed."""

    error: float  # largest relative difference of the outputs
    limit: float
    inputs: str  # their shapes
    shapes: str = ""  # of the outputs, where none of torch's is one of Keras's

    @property
    def agrees(self) -> bool:
        return self.error <= self.limit

    def __str__(self) -> str:
        if self.shapes:
            return f"{self.shapes} on inputs of {self.inputs}"
        return f"the outputs differ by {self.error:.2g} of the largest on inputs of {self.inputs}"


Arguments = tuple[tuple[object, ...], dict[str, object]]  # of a call of torch
Tried = tuple[Arguments, Arrays]  # and what Keras gets for it


@dataclass(frozen=True)
class Sides:
    """A torch module and a Keras target, to be run on `given` arguments of the module, or on drawn ones."""

    module: torch.nn.Module
    keras: Keras
    given: Arguments | None = None

    def compared(self) -> Comparison:
        """At two sizes of free axes, if inputs are drawn. Raises `NotRun` where one of the two does not run."""
        if self.given is not None:
            return self._closest(self._layouts_of(*self.given))
        reason: Exception = NotRun("")
        for free in FREE:
            try:
                found = self._closest(self._drawn(free))
            except NotRun as error:
                reason = error
                continue
            if found.agrees and any(None in one.shape[1:] for one in self.keras.inputs):
                with suppress(NotRun):
                    other = self._closest(self._drawn(free + 1))
                    return found if other.agrees else other
            return found
        raise reason

    def calls(self, modules: Sequence[torch.nn.Module]) -> list[tuple[torch.nn.Module, Arguments]]:
        """The `modules` within the torch module as they are called first, in that order, with their arguments. Raises
        `NotRun`."""
        found: dict[int, tuple[torch.nn.Module, Arguments]] = {}

        def noting(module: torch.nn.Module) -> RemovableHandle:
            def note(_: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
                found.setdefault(id(module), (module, (args, kwargs)))

            return module.register_forward_pre_hook(note, with_kwargs=True)

        hooks = [noting(module) for module in modules]
        try:
            self._run_once(found)
        finally:
            for hook in hooks:
                hook.remove()
        return list(found.values())

    def _run_once(self, found: dict[int, tuple[torch.nn.Module, Arguments]]) -> None:
        reason: Exception = NotRun("")
        tried = [self._layouts_of(*self.given)] if self.given else map(self._drawn, FREE)
        for (args, kwargs), _ in itertools.chain.from_iterable(tried):
            try:
                found.clear()
                torch = called(self.module, args, kwargs)
                torch(torch.examples)
                return
            except NotRun as error:
                reason = error
        raise reason

    def _drawn(self, free: int) -> Iterator[Tried]:
        rng = np.random.default_rng(SEED)
        arrays = [one.draw(rng, free) for one in self.keras.inputs]
        names = [one.name for one in self.keras.inputs]
        by_name = set(names) <= set(inspect.signature(self.module.forward).parameters)
        for layout in moving_layouts(arrays):
            moved = [
                np.ascontiguousarray(layout.to_torch(x)) if x.ndim >= layout.least else x for x in arrays
            ]
            yield (
                ((), dict(zip(names, moved, strict=True))) if by_name else (self._in_order(moved), {}),
                arrays,
            )

    def _in_order(self, arrays: Arrays) -> tuple[object, ...]:
        """As a module takes them: the two states of a cell are one argument."""
        if self.keras.is_cell and len(arrays) > 2:
            return arrays[0], tuple(arrays[1:])
        return tuple(arrays)

    def _layouts_of(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Iterator[Tried]:
        with calling():
            bound = inspect.signature(self.module.forward).bind(*args, **kwargs).arguments
        names = [one.name for one in self.keras.inputs]
        ours = [bound[name] for name in names] if set(names) <= set(bound) else [*args, *kwargs.values()]
        arrays = [array_of(x) for x in _leaves(ours) if hasattr(x, "shape")]
        if len(arrays) != len(names):
            raise NotRun(f"torch takes {len(arrays)} tensors, Keras {len(names)}")
        for layout in moving_layouts(arrays):
            yield (args, kwargs), [layout.to_keras(x) if x.ndim >= layout.least else x for x in arrays]

    def _closest(self, tried: Iterator[Tried]) -> Comparison:
        """In the order of axes in which the two are closest. Raises `NotRun` where they do not run in any."""
        best: Comparison | None = None
        reason: Exception = NotRun("there are no inputs")
        for (args, kwargs), arrays in tried:
            try:
                torch = called(self.module, args, kwargs)
                want, got = torch(torch.examples), self.keras(arrays)
            except NotRun as error:
                reason = error
                continue
            found = _compared(torch, got, want, arrays, limit_of(self.keras.dtype))
            best = found if best is None or found.error < best.error else best
            if best.agrees:
                return best
        if best is None:
            raise reason
        return best


def runnable(module: torch.nn.Module) -> torch.nn.Module:
    """The module, or a copy in float32 of one that is on another device or in half precision. Raises `NotRun` for one
    that cannot be copied."""
    tensors = [*module.parameters(), *module.buffers()]
    half = any(x.is_floating_point() and x.element_size() < 4 for x in tensors)
    if not half and all(x.device.type == "cpu" for x in tensors):
        return module
    with calling():
        moved = copy.deepcopy(module).cpu()
    return moved.float() if half else moved


def called(module: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> Torch:
    """The module called with arrays or tensors, in the precision of its parameters."""
    import torch

    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)

    def tensor(x: object) -> object:
        if isinstance(x, tuple):  # the states of a recurrent layer
            return tuple(map(tensor, x))
        x = torch.from_numpy(x) if isinstance(x, np.ndarray) else x
        return x.to("cpu", dtype) if isinstance(x, torch.Tensor) and x.is_floating_point() else x

    return Torch(module, tuple(map(tensor, args)), {name: tensor(x) for name, x in kwargs.items()})


def _compared(torch: Torch, got: Arrays, want: Arrays, given: Arrays, limit: float) -> Comparison:
    error, inputs = distance(got, want), ", ".join(str(x.shape) for x in given)
    if limit < error < NEAR:
        try:
            exact = torch.double()(cast(torch.examples, "float64"))
            limit = max(limit, ROUNDING_FACTOR * worst_error(want, exact))
        except (NotRun, SourceError):
            pass
    shapes = ""
    if math.isinf(error):
        theirs, ours = (" ".join(str(x.shape) for x in arrays) or "nothing" for arrays in (want, got))
        shapes = f"torch gives {theirs}, Keras {ours}"
    return Comparison(error, limit, inputs, shapes)


def distance(got: Arrays, want: Arrays) -> float:
    """How far Keras's outputs are from the nearest of torch's; infinitely where none has the shape."""
    return max((min(_errors(x, want), default=math.inf) for x in got), default=math.inf)


def _errors(got: np.ndarray, want: Arrays) -> Iterator[float]:
    for array in want:
        for form in _forms(array, got.ndim):
            if form.size == got.size > 0:
                yield relative_error(got, form.reshape(got.shape))


def _forms(array: np.ndarray, rank: int) -> Iterator[np.ndarray]:
    """What Keras may give in the place of one of torch's outputs: its axes in another order, or cut into more (heads);
    of the states of an RNN those of one layer, or of the two directions of the last one."""
    yield from (layout.to_keras(array) for layout in LAYOUTS if array.ndim >= layout.least)
    if array.ndim == rank + 1 == 3:
        yield from array
        if len(array) > 1:
            yield np.concatenate([array[-2], array[-1]], -1)
