"""A weight remembers where it came from.

`Weight` is a recipe (`bridge.recipes`) with the values it draws from, usable wherever ONNX IR wants a tensor. Its
recipe is extended while the graph is simplified (a transposed initializer) and while layers are built
(`"o i h w -> h w i o"`). `WeightMap` is the finished table: one recipe for each variable of the Keras model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx_ir as ir

from bridge.errors import SourceError, WeightsError
from bridge.parted import parted, require_together
from bridge.recipes import (
    Arrays,
    Computed,
    Fill,
    Param,
    Recipe,
    Scale,
    Sum,
    concat,
    empty,
    narrow,
    reshape,
    transpose,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Source:
    """The named values weights draw from, and what torch says of them.

    `trainable` is False for a buffer and for `requires_grad=False`; a name it lacks (an ONNX file says nothing) is
    trainable. `parameters` are the names that torch knows as parameters, frozen or not.
    """

    values: Arrays = field(default_factory=dict)
    trainable: dict[str, bool] = field(default_factory=dict)
    parameters: set[str] = field(default_factory=set)
    aliases: dict[str, str] = field(default_factory=dict)  # a tied parameter's other names -> its first

    def enter(self, model: ir.Model) -> None:
        """Every initializer of `model` that `values` names becomes a `Weight`; other ones stay constants.

        Raises `SourceError` if a weight holds NaN.
        """
        self._refuse_nan()
        for graph in model.graphs():
            for name, value in graph.initializers.items():
                if name in self.values:
                    value.const_value = Weight.param(name, self)
        model.meta["source"] = self

    def _refuse_nan(self) -> None:
        """Raise `SourceError` naming the weights that hold NaN: no proof can be had of such a model."""
        counts = {
            name: int(np.isnan(v).sum()) for name, v in self.values.items() if v.dtype.kind not in "biuOSU"
        }
        bad = [f"{name} ({count} of {self.values[name].size})" for name, count in counts.items() if count]
        if bad:
            more = f" and {len(bad) - 3} more weights hold NaN" if len(bad) > 3 else " holds NaN"
            raise SourceError(
                f"{', '.join(bad[:3])}{more}; repair or train the model again before converting it"
            )


class Weight(ir.LazyTensor):
    """An ONNX IR tensor that is a recipe over named parameters; computed when looked at."""

    __slots__ = ("recipe", "source")

    def __init__(self, recipe: Recipe, source: Source, dtype: ir.DataType):
        self.recipe = recipe
        self.source = source
        super().__init__(
            lambda: ir.tensor(np.ascontiguousarray(self.numpy())),
            dtype,
            ir.Shape(recipe.shape),
            name=str(recipe),
        )

    @classmethod
    def param(cls, name: str, source: Source) -> Weight:
        name = source.aliases.get(name, name)
        value = source.values[name]
        return cls(Param(name, value.shape), source, ir.DataType.from_numpy(value.dtype))

    def numpy(self, dtype: str | None = None) -> np.ndarray:
        """The value; with `dtype`, worked out from the parameters in that precision."""
        if dtype is None:
            return np.asarray(self.recipe.push(self.source.values), self.dtype.numpy())
        return self.recipe.push({name: self.source.values[name].astype(dtype) for name in self.recipe.names})

    @property
    def dims(self) -> tuple[int, ...]:
        return self.recipe.shape

    @property
    def trainable(self) -> bool:
        """Whether its parameters are: all of them, or one of a sum. Buffers (of a spectral norm) do not count."""
        return self._trains(self.recipe)

    def _trains(self, recipe: Recipe) -> bool:
        match recipe:
            case Sum(left, right):
                return self._trains(left) or self._trains(right)
            case Param(name):
                return self.source.trainable.get(name, True)
        parameters = self.source.parameters
        counted = [part for part in recipe.sources if parameters.intersection(part.names)]
        return all(map(self._trains, counted or [part for part in recipe.sources if part.names]))

    @property
    def copies(self) -> int:
        """How many trainable parameters one element is the sum of: a step of SGD on each moves it that many times."""
        return self._copies(self.recipe)

    def _copies(self, recipe: Recipe) -> int:
        match recipe:
            case Sum(left, right):
                return self._copies(left) + self._copies(right)
            case Param():
                return int(self._trains(recipe))
        return max(map(self._copies, recipe.sources), default=0)

    @property
    def is_parameter(self) -> bool:
        return any(name in self.source.parameters for name in self.recipe.names)

    def _with(self, recipe: Recipe) -> Weight:
        return Weight(recipe, self.source, self.dtype)

    def transpose(self, *perm: int) -> Weight:
        return self._with(transpose(self.recipe, perm))

    def reshape(self, *shape: int) -> Weight:
        if -1 in shape:
            rest = math.prod(size for size in shape if size != -1)
            shape = tuple(math.prod(self.dims) // rest if size == -1 else size for size in shape)
        return self._with(reshape(self.recipe, shape))

    def narrow(self, axis: int, start: int, stop: int) -> Weight:
        """Rows `start:stop` along `axis`."""
        return self._with(narrow(self.recipe, axis % len(self.dims), start, stop))

    def select(self, axis: int, index: int) -> Weight:
        """One row; the axis disappears."""
        shape = self.dims[:axis] + self.dims[axis + 1 :]
        return self.narrow(axis, index, index + 1).reshape(*shape)

    def blocks(self, order: Sequence[int], axis: int = 0) -> Weight:
        """The axis cut into as many equal blocks as `order` has, joined again in that order."""
        size = self.dims[axis] // len(order)
        return Weight.concat([self.narrow(axis, i * size, (i + 1) * size) for i in order], axis)

    def rearrange(self, pattern: str) -> Weight:
        """Reorder axes as einops writes it: `"o i ... -> ... i o"`."""
        before, after = (side.split() for side in pattern.split("->"))
        dots = [f".{i}" for i in range(len(self.dims) - len(before) + 1)]

        def spell(side: list[str]) -> list[str]:
            return [name for word in side for name in (dots if word == "..." else [word])]

        axes = spell(before)
        return self.transpose(*(axes.index(name) for name in spell(after)))

    def scale(self, factor: float) -> Weight:
        return self if factor == 1 else self._with(Scale(self.recipe, factor))

    def __add__(self, other: Weight) -> Weight:
        return self._with(Sum(self.recipe, other.recipe))

    def fill(self, value: float, shape: Sequence[int]) -> Weight:
        """A constant of the same dtype, to be joined with this weight."""
        return self._with(Fill(value, tuple(shape)))

    @staticmethod
    def concat(parts: Sequence[Weight], axis: int = 0) -> Weight:
        return parts[0]._with(concat([part.recipe for part in parts], axis))


class Variable(Protocol):
    """What the map needs of a Keras variable."""

    path: str
    shape: tuple[int, ...]
    trainable: bool

    def assign(self, value: np.ndarray) -> Any: ...
    def __array__(self, dtype: np.dtype | None = None) -> np.ndarray: ...


@dataclass(frozen=True)
class Entry:
    """One Keras variable, the recipe that fills it, and where it is found in the model: the layer's name and the
    attributes below it (`lstm`, `forward_layer.cell.kernel`)."""

    variable: Variable
    weight: Weight
    layer: str = ""
    attribute: str = ""

    @property
    def recipe(self) -> Recipe:
        return self.weight.recipe

    def pull(self, into: Arrays) -> None:
        """Write the variable's value back into the parameters `into`."""
        self.recipe.pull(np.asarray(self.variable, self.weight.dtype.numpy()), into)


def _numbers(name: str, tensor: Any) -> np.ndarray:
    """The array of a torch tensor; of one in a coarser precision than numpy has, the same numbers in float32."""
    strided = str(tensor.layout) == "torch.strided"
    if not strided or tensor.is_meta or tensor.is_quantized or tensor.is_nested:
        raise WeightsError(
            f"{name} holds no plain numbers: give a tensor that is dense, in memory, not quantised"
        )
    coarse = tensor.is_floating_point() and tensor.element_size() < 4
    return np.asarray((tensor.float() if coarse else tensor).detach().cpu())


class WeightMap:
    """Which Keras variable is made from which torch parameters, and how; both ways.

    `source` holds every entry of the state_dict the conversion started from, converted or not, so that what no
    variable shows (an unused parameter, `num_batches_tracked`) comes back as it was.
    """

    def __init__(self, entries: Sequence[Entry], source: Source):
        self.entries = tuple(entries)
        self.source = source

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def one_way(self) -> tuple[str, ...]:
        """The parameters whose recipes cannot be run backwards."""
        return tuple(name for entry in self if not entry.recipe.invertible for name in entry.recipe.names)

    @cached_property
    def kept(self) -> frozenset[str]:
        """The entries of the state that variables alone do not give back: those that no recipe uses or uses in part,
        and those that are summed, scaled or computed with."""
        covered = {name: np.zeros(value.shape, bool) for name, value in self.source.values.items()}
        for entry in self:
            if not entry.recipe.contains(Sum, Scale, Computed):
                entry.recipe.adjoint(np.ones(entry.recipe.shape, bool), covered)
        return frozenset(n for n, seen in covered.items() if not seen.all() and n not in self.source.aliases)

    @cached_property
    def parted(self) -> dict[str, tuple[str, ...]]:
        """The parameters that several variables hold, each of which trains by itself, with the paths of those."""
        return parted(self)

    def pull(self) -> Arrays:
        """The state_dict as arrays: the source's values with every Keras variable written back into them."""
        if self.one_way:
            raise WeightsError(
                f"cannot go back to torch: {', '.join(self.one_way)} were folded into other weights"
            )
        values = self.source.values.items()
        state = {
            name: np.array(value) if name in self.kept else np.empty(value.shape, value.dtype)
            for name, value in values
        }
        for entry in self:
            entry.pull(state)
        require_together(self, state)
        for alias, name in self.source.aliases.items():
            state[alias] = state[name]
        return state

    def push(self, state: Mapping[str, np.ndarray]) -> None:
        """Fill every variable from arrays named as in the state_dict; all or nothing."""
        if self.one_way:
            raise WeightsError(
                f"cannot take other weights: {', '.join(self.one_way)} were folded; convert the module again"
            )
        wrong = list(self._misfits(state))
        if wrong:
            raise WeightsError("; ".join(wrong))
        for entry in self:
            array = empty(entry.recipe.shape, entry.weight.dtype.numpy())  # Keras may keep what it is given
            entry.recipe.write(state, array)
            entry.variable.assign(array)
        values = self.source.values
        values.update(
            {name: np.array(state[name], values[name].dtype) for name in self.kept if name in state}
        )

    def _misfits(self, state: Mapping[str, np.ndarray]) -> Iterator[str]:
        values, aliases = self.source.values, self.source.aliases
        yield from (f"{name} is missing" for name in values if name not in state and name not in aliases)
        yield from (f"{name} is not of this model" for name in state if name not in values)
        for name in (name for name in values if name in state):
            if tuple(state[name].shape) != values[name].shape:
                yield f"{name} has shape {tuple(state[name].shape)}, expected {values[name].shape}"
            elif not np.can_cast(state[name].dtype, values[name].dtype, "same_kind"):
                yield f"{name} is {state[name].dtype}, expected {values[name].dtype}"
            elif name in aliases and not np.array_equal(state[name], state.get(aliases[name], state[name])):
                yield f"{name} differs from {aliases[name]}, with which it is one weight in this model"

    def to_torch(self) -> dict[str, Any]:
        """A state_dict of torch tensors that `module.load_state_dict(strict=True)` takes."""
        import torch

        return {name: torch.from_numpy(np.asarray(value, order="C")) for name, value in self.pull().items()}

    def load_torch(self, state_dict: Mapping[str, Any]) -> None:
        """Fill the Keras model from a newer state_dict of the same network; changes nothing if it does not fit."""
        self.push({name: _numbers(name, value) for name, value in state_dict.items()})

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {
                "layer": e.layer,
                "attribute": e.attribute,
                "trainable": e.variable.trainable,
                "recipe": e.recipe.to_json(),
            }
            for e in self
        ]

    def __str__(self) -> str:
        return "\n".join(f"{entry.variable.path} <- {entry.recipe}" for entry in self)
