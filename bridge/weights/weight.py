"""`Weight`: a tensor of named torch parameters that remembers how it was made of them.

It is a recipe (`bridge.weights.recipes`) with the values it draws from, usable wherever ONNX IR wants a tensor. The
recipe is extended while the graph is simplified (a transposed initializer) and while layers are built
(`"o i h w -> h w i o"`).
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bridge.errors import SourceError
from bridge.weights.algebra import concat, narrow, reshape, transpose
from bridge.weights.memory import aligned_empty, placeholder
from bridge.weights.normed import SpectralNorm, WeightNorm
from bridge.weights.recipes import Fill, Param, Recipe, Scale, Sum

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set


@dataclass(frozen=True)
class State:
    """The named values weights draw from, and what torch says of them.

    `trainable` is False for a buffer, for `requires_grad=False` and for what torch gives no gradient (`detached`); a
    name it lacks (an ONNX file says nothing) is trainable. `parameters` are the names that torch knows as parameters,
    frozen or not.
    """

    values: dict[str, np.ndarray] = field(default_factory=dict)
    trainable: dict[str, bool] = field(default_factory=dict)
    parameters: set[str] = field(default_factory=set)
    aliases: dict[str, str] = field(default_factory=dict)  # a tied parameter's other names -> its first
    detached: list[str] = field(default_factory=list)  # parameters that are used, and get no gradient
    read: set[str] = field(default_factory=set)  # what the graph computes with, under their first names

    def enter(self, model: ir.Model) -> None:
        """Every initializer of `model` that `values` names becomes a `Weight`; other ones stay constants.

        Raises `SourceError` if a weight holds NaN.
        """
        self._refuse_nan()
        for graph in model.graphs():
            for name, value in graph.initializers.items():
                if name in self.values:
                    value.const_value = Weight.param(name, self)
                if name in self.values and (value.uses() or value.is_graph_output()):
                    self.read.add(self.aliases.get(name, name))
        model.meta["state"] = self

    def only(self, names: Set[str]) -> State:
        """What of the state is called `names`, or is one with what is."""
        aliases = {alias: name for alias, name in self.aliases.items() if name in names}
        values = {name: self.values[name] for name in sorted({*names, *aliases})}
        return replace(self, values=values, aliases=aliases)

    def settled(self, kept: Set[str]) -> State:
        """The same, with a copy of the values that are `kept`, and of the others what shape and type they have."""
        values = {
            name: np.array(value) if name in kept else placeholder(value.shape, value.dtype)
            for name, value in self.values.items()
        }
        return replace(self, values=values)

    def _refuse_nan(self) -> None:
        """Raise `SourceError` naming the weights that hold NaN: no proof can be had of such a model."""
        with np.errstate(invalid="ignore"):  # of a NaN that signals
            counts = {
                name: int(np.isnan(v).sum())
                for name, v in self.values.items()
                if v.dtype.kind not in "biuOSU"
            }
        bad = [f"{name} ({count} of {self.values[name].size})" for name, count in counts.items() if count]
        if bad:
            more = f" and {len(bad) - 3} more weights hold NaN" if len(bad) > 3 else " holds NaN"
            raise SourceError(
                f"{', '.join(bad[:3])}{more}; repair or train the model again before converting it"
            )


class Weight(ir.LazyTensor):
    """An ONNX IR tensor that is a recipe over named parameters; computed when looked at, and held only as long as
    somebody looks."""

    __slots__ = ("_seen", "recipe", "state")

    def __init__(self, recipe: Recipe, state: State, dtype: ir.DataType):
        self.recipe = recipe
        self.state = state
        self._seen: weakref.ref[np.ndarray] | None = None
        super().__init__(
            lambda: ir.tensor(self.numpy()),
            dtype,
            ir.Shape(recipe.shape),
            name=str(recipe),
        )

    @classmethod
    def param(cls, name: str, state: State) -> Weight:
        name = state.aliases.get(name, name)
        value = state.values[name]
        return cls(Param(name, value.shape), state, ir.DataType.from_numpy(value.dtype))

    def numpy(self, dtype: str | None = None) -> np.ndarray:
        """The value, the same array as long as anybody has it; with `dtype`, worked out from the parameters in that
        precision."""
        if dtype is not None:
            return self.recipe.push(
                {name: self.state.values[name].astype(dtype) for name in self.recipe.names}
            )
        held = None if self._seen is None else self._seen()
        if held is None:
            held = np.asarray(self.recipe.push(self.state.values), self.dtype.numpy(), order="C")
            self._seen = weakref.ref(held)
        return held

    def view(self) -> np.ndarray | None:
        """The value where it lies in its parameter, or None if it does not."""
        return self.recipe.view(self.state.values)

    def copy(self, values: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """The value, or what it is of other `values`, in memory of its own: Keras may keep what it is given."""
        made = aligned_empty(self.dims, self.dtype.numpy())
        self.recipe.write(self.state.values if values is None else values, made)
        return made

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
                return self.state.trainable.get(name, True)
        parameters = self.state.parameters
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
        return any(name in self.state.parameters for name in self.recipe.names)

    def of(self, state: State) -> Weight:
        """The same recipe over the values of another state."""
        return Weight(self.recipe, state, self.dtype)

    def _with(self, recipe: Recipe) -> Weight:
        return Weight(recipe, self.state, self.dtype)

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
        if isinstance(other.recipe, Fill) and not other.recipe.value:
            return self
        return self._with(Sum(self.recipe, other.recipe))

    def along(self, direction: Weight) -> Weight:
        """The weight that is as long as this one says, and has that direction."""
        return self._with(WeightNorm(self.recipe, direction.recipe))

    def spectral_norm(self, left: Weight, right: Weight, axis: int) -> Weight:
        """This matrix over `left` W `right`."""
        return self._with(SpectralNorm(self.recipe, left.recipe, right.recipe, axis))

    def fill(self, value: float, shape: Sequence[int]) -> Weight:
        """A constant of the same dtype, to be joined with this weight."""
        return self._with(Fill(value, tuple(shape)))

    @staticmethod
    def concat(parts: Sequence[Weight], axis: int = 0) -> Weight:
        return parts[0]._with(concat([part.recipe for part in parts], axis))
