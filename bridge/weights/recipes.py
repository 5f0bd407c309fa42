"""How an array is made from named torch parameters, and taken back into them.

    push(pull(v)) == v                    for every recipe that can go back
    pull(push(s)) == s, bit for bit       an untouched weight returns untouched, sums included

`bridge.weights.algebra` extends a recipe and keeps it in its plainest form. A recipe is saved as `[kind, arguments…]`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import starmap
from operator import call
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from bridge.errors import WeightsError
from bridge.weights.memory import copy_in_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence

AXIS_NAMES = {1: "o", 2: "o i", 3: "o i w", 4: "o i h w", 5: "o i d h w"}


Written: TypeAlias = "list[Written] | str | float | bool | None"  # in types of JSON


@dataclass(frozen=True, eq=False)
class Recipe(ABC):
    """How one array is made from named parameters. Immutable, hashable; two equal recipes are one weight."""

    if TYPE_CHECKING:

        @property
        def shape(self) -> tuple[int, ...]: ...

        @property
        def sources(self) -> tuple[Recipe, ...]: ...

    kind: ClassVar[str]  # the word for it in files
    kinds: ClassVar[dict[str, type[Recipe]]] = {}

    def __init_subclass__(cls, kind: str | None = None) -> None:
        if kind is not None:
            cls.kind, Recipe.kinds[kind] = kind, cls

    @abstractmethod
    def push(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """The array, from the parameters in `state`. May be a view of them."""

    def write(self, state: Mapping[str, np.ndarray], into: np.ndarray) -> None:
        """The array, into one that is given."""
        copy_in_blocks(self.push(state), into)

    @abstractmethod
    def put(self, value: np.ndarray, into: MutableMapping[str, np.ndarray]) -> None:
        """Write `value` back where no writable view of the parameters exists."""

    def view(self, into: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """A writable view of the parameters in this recipe's layout, or None."""
        return None

    def pull(self, value: np.ndarray, into: MutableMapping[str, np.ndarray]) -> None:
        """Write `value` back into the parameters `into`, which hold their values from before."""
        target = self.view(into)
        if target is None:
            self.put(value, into)
        else:
            copy_in_blocks(value, target)

    def adjoint(self, gradient: np.ndarray, into: MutableMapping[str, np.ndarray]) -> None:
        """Add a gradient with respect to this array to the gradients `into` of the parameters (the chain rule)."""
        target = self.view(into)
        if target is None:
            self.add(gradient, into)
        else:
            target += gradient

    @abstractmethod
    def add(self, gradient: np.ndarray, into: MutableMapping[str, np.ndarray]) -> None:
        """`adjoint` where no writable view of the parameters exists."""

    @cached_property
    def parameters(self) -> tuple[Param, ...]:
        """Those that this recipe draws from, each once, in order."""
        return tuple(dict.fromkeys(param for source in self.sources for param in source.parameters))

    @property
    def names(self) -> tuple[str, ...]:
        """Of its parameters."""
        return tuple(parameter.name for parameter in self.parameters)

    @cached_property
    def invertible(self) -> bool:
        return all(source.invertible for source in self.sources)

    @cached_property
    def linear(self) -> bool:
        """Whether `adjoint` says all of its gradient."""
        return all(source.linear for source in self.sources)

    @cached_property
    def moves(self) -> bool:
        """Whether it holds all numbers of its parameters, in other places, as they are."""
        return self.linear and not self.contains(Narrow, Sum, Scale)

    @cached_property
    def depth(self) -> int:
        """How many recipes stand above one another."""
        return 1 + max((source.depth for source in self.sources), default=0)

    def contains(self, *kinds: type[object]) -> bool:
        """Whether this recipe or one below it is of one of `kinds`."""
        return isinstance(self, kinds) or any(source.contains(*kinds) for source in self.sources)

    def to_json(self) -> list[Written]:
        """`[kind, arguments…]`, read back by `Recipe.from_json`."""
        values = [getattr(self, part.name) for part in fields(self)]
        return [self.kind, *map(_written, values)]

    @staticmethod
    def from_json(data: Sequence[Any]) -> Recipe:
        kind, *arguments = data
        return Recipe.kinds[kind].parse(arguments)

    @classmethod
    def parse(cls, arguments: Sequence[Any]) -> Recipe:
        """From the arguments in a file."""
        readers = [READ.get(str(part.type), _as_is) for part in fields(cls)]
        return cls(*starmap(call, zip(readers, arguments, strict=True)))


def _written(value: Any) -> Written:
    if isinstance(value, Recipe):
        return value.to_json()
    return list(map(_written, value)) if isinstance(value, tuple) else value


def _as_is(value: object) -> object:
    return value


# By the type of a field; numbers and texts are in JSON as they are
READ: dict[str, Callable[[Any], object]] = {
    "Recipe": Recipe.from_json,
    "tuple[Recipe, ...]": lambda recipes: tuple(map(Recipe.from_json, recipes)),
    "tuple[int, ...]": tuple,
}


@dataclass(frozen=True, eq=False)
class OfOne(Recipe):
    """Made of one other array."""

    source: Recipe

    @cached_property
    def sources(self):
        return (self.source,)


@dataclass(frozen=True)
class Param(Recipe, kind="param"):
    """A torch parameter or buffer (or an ONNX initializer), by name."""

    name: str
    shape: tuple[int, ...]
    sources = ()

    @property
    def parameters(self) -> tuple[Param, ...]:
        return (self,)

    def push(self, state):
        return state[self.name]

    def view(self, into):
        return into[self.name]

    def put(self, value, into):
        into[self.name] = value

    def add(self, gradient, into):
        into[self.name] = into[self.name] + gradient

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Fill(Recipe, kind="fill"):
    """A constant that no parameter gives, such as the zeros of a missing bias. Goes back only unchanged."""

    value: float
    shape: tuple[int, ...]
    sources = ()

    def push(self, state):
        return np.full(self.shape, self.value)

    def put(self, value, into):
        if not np.array_equal(value, self.push(into)):
            raise WeightsError(f"a constant {self.value} that no parameter holds was changed")

    def add(self, gradient, into):
        """A constant has no gradient to give."""

    def __str__(self) -> str:
        return f"{self.value:g}"


@dataclass(frozen=True)
class Transpose(OfOne, kind="transpose"):
    perm: tuple[int, ...]

    @cached_property
    def shape(self):
        return tuple(self.source.shape[axis] for axis in self.perm)

    def push(self, state):
        return self.source.push(state).transpose(self.perm)

    def write(self, state, into):
        self.source.write(state, into.transpose(np.argsort(self.perm)))

    def view(self, into):
        view = self.source.view(into)
        return None if view is None else view.transpose(self.perm)

    def put(self, value, into):
        self.source.pull(value.transpose(np.argsort(self.perm)), into)

    def add(self, gradient, into):
        self.source.adjoint(gradient.transpose(np.argsort(self.perm)), into)

    def __str__(self) -> str:
        names = AXIS_NAMES.get(len(self.perm), " ".join(map(str, self.perm))).split()
        return f"{self.source}: {' '.join(names)} -> {' '.join(names[axis] for axis in self.perm)}"


@dataclass(frozen=True)
class Reshape(OfOne, kind="reshape"):
    shape: tuple[int, ...]

    def push(self, state):
        return self.source.push(state).reshape(self.shape)

    def view(self, into):
        view = self.source.view(into)
        if view is None:
            return None
        try:
            return view.reshape(self.shape, copy=False)
        except ValueError:
            return None

    def put(self, value, into):
        self.source.pull(value.reshape(self.source.shape), into)

    def add(self, gradient, into):
        self.source.adjoint(gradient.reshape(self.source.shape), into)

    def __str__(self) -> str:
        return f"{self.source} as {list(self.shape)}"


@dataclass(frozen=True)
class Narrow(OfOne, kind="narrow"):
    """Rows `start:stop` along one axis."""

    axis: int
    start: int
    stop: int

    @cached_property
    def shape(self):
        shape = list(self.source.shape)
        shape[self.axis] = self.stop - self.start
        return tuple(shape)

    @property
    def key(self) -> tuple[slice, ...]:
        return (slice(None),) * self.axis + (slice(self.start, self.stop),)

    def push(self, state):
        return self.source.push(state)[self.key]

    def view(self, into):
        view = self.source.view(into)
        return None if view is None else view[self.key]

    def put(self, value, into):
        whole = np.array(self.source.push(into))
        whole[self.key] = value
        self.source.pull(whole, into)

    def add(self, gradient, into):
        whole = np.zeros(self.source.shape, gradient.dtype)
        whole[self.key] = gradient
        self.source.adjoint(whole, into)

    def __str__(self) -> str:
        return f"{self.source}[{':, ' * self.axis}{self.start}:{self.stop}]"


@dataclass(frozen=True)
class Concat(Recipe, kind="concat"):
    sources: tuple[Recipe, ...]
    axis: int

    @cached_property
    def shape(self):
        shape = list(self.sources[0].shape)
        shape[self.axis] = sum(part.shape[self.axis] for part in self.sources)
        return tuple(shape)

    def push(self, state):
        return np.concatenate([part.push(state) for part in self.sources], self.axis)

    def write(self, state, into):
        for part, piece in self._pieces(into):
            part.write(state, piece)

    def _pieces(self, value: np.ndarray) -> Iterator[tuple[Recipe, np.ndarray]]:
        ends = np.cumsum([part.shape[self.axis] for part in self.sources])[:-1]
        return zip(self.sources, np.split(value, ends, self.axis), strict=True)

    def put(self, value, into):
        for part, piece in self._pieces(value):
            part.pull(piece, into)

    def add(self, gradient, into):
        for part, piece in self._pieces(gradient):
            part.adjoint(piece, into)

    def __str__(self) -> str:
        parts = [part for part in self.sources if isinstance(part, Narrow) and part.axis == self.axis]
        if len(parts) == len(self.sources) and len({part.source for part in parts}) == 1:  # gates, reordered
            rows = ", ".join(f"{part.start}:{part.stop}" for part in parts)
            return f"{parts[0].source}[{':, ' * self.axis}r_[{rows}]]"
        return f"[{', '.join(map(str, self.sources))}]"


@dataclass(frozen=True)
class Sum(Recipe, kind="sum"):
    """`left + right`, such as torch's two biases. Going back, `right` keeps its value and `left` takes the change;
    elements whose sum is unchanged keep both, bit for bit."""

    left: Recipe
    right: Recipe

    @cached_property
    def sources(self):
        return (self.left, self.right)

    @cached_property
    def shape(self):
        return self.left.shape

    @cached_property
    def invertible(self):
        return self.left.invertible

    def push(self, state):
        return self.left.push(state) + self.right.push(state)

    def put(self, value, into):
        left, right = self.left.push(into), self.right.push(into)
        kept = (left + right).astype(value.dtype) == value
        self.left.pull(np.where(kept, left, value - right).astype(left.dtype), into)

    def add(self, gradient, into):
        self.left.adjoint(gradient, into)
        self.right.adjoint(gradient, into)

    def __str__(self) -> str:
        return f"{self.left} + {self.right}"


@dataclass(frozen=True)
class Scale(OfOne, kind="scale"):
    """`factor * source`; the factor is a constant of the graph and not zero."""

    factor: float

    @cached_property
    def shape(self):
        return self.source.shape

    def push(self, state):
        value = self.source.push(state)
        return (value * self.factor).astype(value.dtype)

    def put(self, value, into):
        old = self.source.push(into)
        self.source.pull(np.where(self.push(into) == value, old, value / self.factor).astype(old.dtype), into)

    def add(self, gradient, into):
        self.source.adjoint(gradient * self.factor, into)

    def __str__(self) -> str:
        return f"{self.factor:g} * {self.source}"


@dataclass(frozen=True, eq=False)
class Computed(Recipe, kind="computed"):
    """A value that other parameters amount to, by a formula that is not kept: one-way."""

    value: np.ndarray = field(repr=False)
    sources: tuple[Recipe, ...]
    formula: str
    invertible = linear = False

    @cached_property
    def shape(self):
        return self.value.shape

    def push(self, state):
        return self.value

    def put(self, value, into):
        raise WeightsError(f"{self} is computed from {', '.join(self.names)} and cannot go back")

    def add(self, gradient, into):
        """The formula is not kept, so the gradient cannot be followed further."""

    def __str__(self) -> str:
        return f"{self.formula}({', '.join(map(str, self.sources))})"

    def to_json(self):
        return ["computed", self.formula, [source.to_json() for source in self.sources], list(self.shape)]

    @classmethod
    def parse(cls, arguments):
        formula, sources, shape = arguments
        return cls(np.broadcast_to(np.nan, shape), tuple(map(Recipe.from_json, sources)), formula)
