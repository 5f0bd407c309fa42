"""How an array is made from named torch parameters, and taken back into them.

    push(pull(v)) == v                    for every recipe that can go back
    pull(push(s)) == s, bit for bit       an untouched weight returns untouched, sums included

`transpose`, `reshape`, `narrow` and `concat` extend a recipe and keep it in its plainest form, so that two ways to the
same array are one recipe.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bridge.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping, Sequence

Arrays = dict[str, np.ndarray]
LONG = 32  # sizes below are taken for those of a kernel's window
ROWS = 512  # of a block copied at once: how many elements lie side by side where it goes
BLOCK = 3 << 15  # its elements in all: the processor's second cache holds them
LINE = 64  # bytes of a cache line
AXIS_NAMES = {1: "o", 2: "o i", 3: "o i w", 4: "o i h w", 5: "o i d h w"}


def empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """`np.empty` that begins a cache line: jax takes such an array for its own, and copies every other."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def copy(value: np.ndarray, into: np.ndarray) -> None:
    """`into[...] = value`, in blocks where the two lie across one another: several times faster for large arrays.

    A block is first copied as `value` lies into a small room, and from there across, one place of a kernel's window
    at a time. The rows of the room lie a cache line further apart than they are long: at a power of two they would
    push one another out of the cache.
    """
    value, into = value[..., None], into[..., None]  # at least two axes
    across = _fastest(into, LONG)
    window = [axis for axis in range(into.ndim - 1) if abs(into.strides[axis]) < abs(into.strides[across])]
    places = list(np.ndindex(*(into.shape[axis] for axis in window)))
    if _fastest(value) == _fastest(into) or value.size <= LINE * LINE * len(places):
        into[...] = value
        return
    others = sorted({*range(into.ndim)} - {across, *window}, key=lambda axis: -abs(value.strides[axis]))
    order = (*window, across, *others)
    value, into = value.transpose(order), into.transpose(order)
    *sizes, height, width = value.shape[: len(window) + 2]
    inner = math.prod(value.shape[len(window) + 2 :])
    rows = min(ROWS, height)
    columns = max(1, BLOCK // (rows * inner * len(places)))
    room = np.empty((*sizes, rows, columns * inner + LINE // value.itemsize), value.dtype)
    for row in range(0, height, rows):
        for column in range(0, width, columns):
            part = *map(slice, sizes), slice(row, row + rows), slice(column, column + columns)
            block, target = value[part], into[part]
            high, wide = block.shape[len(window)], math.prod(block.shape[len(window) + 1 :])
            near = room[..., :high, :wide].reshape(block.shape, copy=False)
            near[...] = block
            for place in places:
                target[place] = near[place]


def _fastest(array: np.ndarray, least: int = 2) -> int:
    """The axis whose neighbours lie closest in memory, of those with at least `least` of them, or else the most."""
    least = min(least, max(array.shape))
    axes = [axis for axis, size in enumerate(array.shape) if size >= least]
    return min(axes, key=lambda axis: abs(array.strides[axis]))


class Recipe(ABC):
    """How one array is made from named parameters. Immutable, hashable; two equal recipes are one weight."""

    if TYPE_CHECKING:

        @property
        def shape(self) -> tuple[int, ...]: ...

        @property
        def sources(self) -> tuple[Recipe, ...]: ...

    kinds: ClassVar[dict[str, type[Recipe]]] = {}

    def __init_subclass__(cls) -> None:
        Recipe.kinds[cls.__name__.lower()] = cls

    @abstractmethod
    def push(self, source: Mapping[str, np.ndarray]) -> np.ndarray:
        """The array, from the parameters in `source`. May be a view of them."""

    def write(self, source: Mapping[str, np.ndarray], into: np.ndarray) -> None:
        """The array, into one that is given."""
        copy(self.push(source), into)

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
            copy(value, target)

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
    def depth(self) -> int:
        """How many recipes stand above one another."""
        return 1 + max((source.depth for source in self.sources), default=0)

    def contains(self, *kinds: type[Recipe]) -> bool:
        """Whether this recipe or one below it is of one of `kinds`."""
        return isinstance(self, kinds) or any(source.contains(*kinds) for source in self.sources)

    @abstractmethod
    def to_json(self) -> list[Any]:
        """`[kind, arguments…]`, read back by `Recipe.from_json`."""

    @staticmethod
    def from_json(data: Sequence[Any]) -> Recipe:
        kind, *arguments = data
        return Recipe.kinds[kind].parse(*arguments)

    @classmethod
    @abstractmethod
    def parse(cls, *arguments: Any) -> Recipe: ...


@dataclass(frozen=True)
class Param(Recipe):
    """A torch parameter or buffer (or an ONNX initializer), by name."""

    name: str
    shape: tuple[int, ...]
    sources = ()

    @property
    def parameters(self) -> tuple[Param, ...]:
        return (self,)

    def push(self, source):
        return source[self.name]

    def view(self, into):
        return into[self.name]

    def put(self, value, into):
        into[self.name] = value

    def add(self, gradient, into):
        into[self.name] = into[self.name] + gradient

    def __str__(self) -> str:
        return self.name

    def to_json(self):
        return ["param", self.name, list(self.shape)]

    @classmethod
    def parse(cls, name, shape):
        return cls(name, tuple(shape))


@dataclass(frozen=True)
class Fill(Recipe):
    """A constant that no parameter gives, such as the zeros of a missing bias. Goes back only unchanged."""

    value: float
    shape: tuple[int, ...]
    sources = ()

    def push(self, source):
        return np.full(self.shape, self.value)

    def put(self, value, into):
        if not np.array_equal(value, self.push(into)):
            raise WeightsError(f"a constant {self.value} that no parameter holds was changed")

    def add(self, gradient, into):
        """A constant has no gradient to give."""

    def __str__(self) -> str:
        return f"{self.value:g}"

    def to_json(self):
        return ["fill", self.value, list(self.shape)]

    @classmethod
    def parse(cls, value, shape):
        return cls(value, tuple(shape))


@dataclass(frozen=True)
class Transpose(Recipe):
    source: Recipe
    perm: tuple[int, ...]

    @cached_property
    def sources(self):
        return (self.source,)

    @cached_property
    def shape(self):
        return tuple(self.source.shape[axis] for axis in self.perm)

    def push(self, source):
        return self.source.push(source).transpose(self.perm)

    def write(self, source, into):
        self.source.write(source, into.transpose(np.argsort(self.perm)))

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

    def to_json(self):
        return ["transpose", self.source.to_json(), list(self.perm)]

    @classmethod
    def parse(cls, source, perm):
        return cls(Recipe.from_json(source), tuple(perm))


@dataclass(frozen=True)
class Reshape(Recipe):
    source: Recipe
    shape: tuple[int, ...]

    @cached_property
    def sources(self):
        return (self.source,)

    def push(self, source):
        return self.source.push(source).reshape(self.shape)

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

    def to_json(self):
        return ["reshape", self.source.to_json(), list(self.shape)]

    @classmethod
    def parse(cls, source, shape):
        return cls(Recipe.from_json(source), tuple(shape))


@dataclass(frozen=True)
class Narrow(Recipe):
    """Rows `start:stop` along one axis."""

    source: Recipe
    axis: int
    start: int
    stop: int

    @cached_property
    def sources(self):
        return (self.source,)

    @cached_property
    def shape(self):
        shape = list(self.source.shape)
        shape[self.axis] = self.stop - self.start
        return tuple(shape)

    @property
    def key(self) -> tuple[slice, ...]:
        return (slice(None),) * self.axis + (slice(self.start, self.stop),)

    def push(self, source):
        return self.source.push(source)[self.key]

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

    def to_json(self):
        return ["narrow", self.source.to_json(), self.axis, self.start, self.stop]

    @classmethod
    def parse(cls, source, axis, start, stop):
        return cls(Recipe.from_json(source), axis, start, stop)


@dataclass(frozen=True)
class Concat(Recipe):
    sources: tuple[Recipe, ...]
    axis: int

    @cached_property
    def shape(self):
        shape = list(self.sources[0].shape)
        shape[self.axis] = sum(part.shape[self.axis] for part in self.sources)
        return tuple(shape)

    def push(self, source):
        return np.concatenate([part.push(source) for part in self.sources], self.axis)

    def write(self, source, into):
        for part, piece in self._pieces(into):
            part.write(source, piece)

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
        return f"[{', '.join(map(str, self.sources))}]"

    def to_json(self):
        return ["concat", [part.to_json() for part in self.sources], self.axis]

    @classmethod
    def parse(cls, sources, axis):
        return cls(tuple(map(Recipe.from_json, sources)), axis)


@dataclass(frozen=True)
class Sum(Recipe):
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

    def push(self, source):
        return self.left.push(source) + self.right.push(source)

    def put(self, value, into):
        left, right = self.left.push(into), self.right.push(into)
        self.left.pull(np.where(left + right == value, left, value - right).astype(left.dtype), into)

    def add(self, gradient, into):
        self.left.adjoint(gradient, into)
        self.right.adjoint(gradient, into)

    def __str__(self) -> str:
        return f"{self.left} + {self.right}"

    def to_json(self):
        return ["sum", self.left.to_json(), self.right.to_json()]

    @classmethod
    def parse(cls, left, right):
        return cls(Recipe.from_json(left), Recipe.from_json(right))


@dataclass(frozen=True)
class Scale(Recipe):
    """`factor * source`; the factor is a constant of the graph and not zero."""

    source: Recipe
    factor: float

    @cached_property
    def sources(self):
        return (self.source,)

    @cached_property
    def shape(self):
        return self.source.shape

    def push(self, source):
        value = self.source.push(source)
        return (value * self.factor).astype(value.dtype)

    def put(self, value, into):
        old = self.source.push(into)
        self.source.pull(np.where(self.push(into) == value, old, value / self.factor).astype(old.dtype), into)

    def add(self, gradient, into):
        self.source.adjoint(gradient * self.factor, into)

    def __str__(self) -> str:
        return f"{self.factor:g} * {self.source}"

    def to_json(self):
        return ["scale", self.source.to_json(), self.factor]

    @classmethod
    def parse(cls, source, factor):
        return cls(Recipe.from_json(source), factor)


@dataclass(frozen=True, eq=False)
class Computed(Recipe):
    """A value that other parameters amount to, by a formula that is not kept: one-way."""

    value: np.ndarray = field(repr=False)
    sources: tuple[Recipe, ...]
    formula: str
    invertible = False

    @cached_property
    def shape(self):
        return self.value.shape

    def push(self, source):
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
    def parse(cls, formula, sources, shape):
        return cls(np.broadcast_to(np.nan, shape), tuple(map(Recipe.from_json, sources)), formula)


def transpose(source: Recipe, perm: Sequence[int]) -> Recipe:
    perm = tuple(int(axis) for axis in perm)
    if isinstance(source, Transpose):
        perm = tuple(source.perm[axis] for axis in perm)
        source = source.source
    return source if perm == tuple(range(len(perm))) else Transpose(source, perm)


def reshape(source: Recipe, shape: Sequence[int]) -> Recipe:
    shape = tuple(int(size) for size in shape)
    if isinstance(source, Reshape):
        source = source.source
    return source if shape == source.shape else Reshape(source, shape)


def narrow(source: Recipe, axis: int, start: int, stop: int) -> Recipe:
    """Rows `start:stop`, taken as close to the parameter as the recipe allows."""
    if (start, stop) == (0, source.shape[axis]):
        return source
    match source:
        case Narrow(inner, inner_axis, offset, _) if inner_axis == axis:
            return Narrow(inner, axis, offset + start, offset + stop)
        case Transpose(inner, perm):
            return Transpose(narrow(inner, perm[axis], start, stop), perm)
        case Sum(left, right):
            return Sum(narrow(left, axis, start, stop), narrow(right, axis, start, stop))
        case Fill(value, _):
            return Fill(value, Narrow(source, axis, start, stop).shape)
        case Concat(parts, joined) if joined != axis:
            return concat([narrow(part, axis, start, stop) for part in parts], joined)
        case Concat(parts, _):
            taken, offset = [], 0
            for part in parts:
                size = part.shape[axis]
                low, high = max(start - offset, 0), min(stop - offset, size)
                if low < high:
                    taken.append(narrow(part, axis, low, high))
                offset += size
            return concat(taken, axis)
        case Reshape(inner, shape):
            kept = [k for k in range(len(inner.shape)) if inner.shape[: k + 1] == _leading(shape, axis)]
            if kept:
                taken_shape = (*shape[:axis], stop - start, *shape[axis + 1 :])
                return reshape(narrow(inner, kept[0], start, stop), taken_shape)
    return Narrow(source, axis, start, stop)


def _leading(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """The sizes up to and with `axis`, without the ones that Unsqueeze put before it."""
    return (*(size for size in shape[:axis] if size != 1), shape[axis])


def concat(parts: Sequence[Recipe], axis: int) -> Recipe:
    """Parts one after the other; neighbouring rows of one source become one part again."""
    joined: list[Recipe] = []
    flat = (
        p
        for part in parts
        for p in (part.sources if isinstance(part, Concat) and part.axis == axis else (part,))
    )
    for part in flat:
        last = joined[-1] if joined else None
        match last, part:
            case Narrow(a, i, start, middle), Narrow(b, j, again, stop) if (a, i, middle) == (
                b,
                j,
                again,
            ) and i == axis:
                joined[-1] = narrow(a, axis, start, stop)
            case Transpose(a, p), Transpose(b, q) if p == q:
                inner = concat([a, b], p[axis])
                if isinstance(inner, Concat):
                    joined.append(part)
                else:
                    joined[-1] = transpose(inner, p)
            case _:
                joined.append(part)
    return joined[0] if len(joined) == 1 else Concat(tuple(joined), axis)


MAX_DEPTH = 200  # of recipes that a file may hold


def require_sound(recipe: Recipe, shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise `ValueError` unless `recipe`, which a file gave, draws from arrays of `shapes` and fits together."""
    room = 2 * math.prod(recipe.shape) + sum(math.prod(shape) for shape in shapes.values())
    waiting = [recipe]
    while waiting:
        part = waiting.pop()
        if not _is_sound(part, shapes) or math.prod(part.shape) > room:
            raise ValueError("a recipe does not fit the weights that it names")
        waiting.extend(part.sources)
    if recipe.depth > MAX_DEPTH or not recipe.names:
        raise ValueError("a recipe is of no use")


def _is_sound(part: Recipe, shapes: Mapping[str, Sequence[int]]) -> bool:
    if not all(isinstance(size, int) and size >= 0 for size in part.shape):
        return False
    match part:
        case Param(name, shape):
            return tuple(shapes[name]) == shape
        case Fill(value) | Scale(_, value):
            return isinstance(value, int | float)
        case Transpose(source, perm):
            return sorted(perm) == list(range(len(source.shape)))
        case Reshape(source, shape):
            return math.prod(shape) == math.prod(source.shape)
        case Narrow(source, axis, start, stop):
            return 0 <= axis < len(source.shape) and 0 <= start <= stop <= source.shape[axis]
        case Concat(sources, axis):
            others = {source.shape[:axis] + source.shape[axis + 1 :] for source in sources}
            return 0 <= axis < len(part.shape) and len(others) == 1
        case Sum(left, right):
            return left.shape == right.shape
    return True
