"""Weights that torch computes of parameters which it trains: `WeightNorm`, of a length and a direction, and
`SpectralNorm`.

A layer of Keras trains the weight itself. Going back, what is unchanged keeps its parameters bit for bit; of what was
trained the parameters are those that give it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bridge.errors import WeightsError
from bridge.weights.recipes import Recipe


@dataclass(frozen=True, eq=False)
class Normed(Recipe):
    """No linear recipe."""

    linear = False

    def add(self, gradient, into):
        """The gradient hangs on the values of all, which are not here."""


def _wide(array: np.ndarray) -> np.ndarray:
    """In a precision in which squares and sums lose nothing that a half has, as torch computes them."""
    return array if array.dtype.itemsize >= np.dtype(np.float32).itemsize else array.astype(np.float32)


@dataclass(frozen=True)
class WeightNorm(Normed, kind="weight_norm"):
    """`length * direction / |direction|`, the length taken over the axes along which `length` is 1 long. Going back,
    what is unchanged keeps both, bit for bit; of anything else the direction is the new value."""

    length: Recipe
    direction: Recipe

    @cached_property
    def sources(self):
        return (self.length, self.direction)

    @cached_property
    def shape(self):
        return self.direction.shape

    @property
    def axes(self) -> tuple[int, ...] | None:
        """Over which the length is taken; None for all."""
        return tuple(axis for axis, size in enumerate(self.length.shape) if size == 1) or None

    def _length(self, value: np.ndarray) -> np.ndarray:
        whole = np.sqrt(np.square(_wide(value)).sum(self.axes, keepdims=True))
        return whole.reshape(self.length.shape)

    def push(self, state):
        direction = self.direction.push(state)
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = self.length.push(state) / self._length(direction)
            return (_wide(direction) * scale).astype(direction.dtype)

    def put(self, value, into):
        length, direction = self.length.push(into), self.direction.push(into)
        new = self._length(value)
        changed = (value != self.push(into)).any(self.axes, keepdims=True).reshape(new.shape)
        self.length.pull(np.where(changed, new, length).astype(length.dtype), into)
        taken = changed & (new > 0)  # nothing has no direction
        self.direction.pull(np.where(taken, value, direction).astype(direction.dtype), into)

    def __str__(self) -> str:
        return f"{self.length} * {self.direction} / |{self.direction}|"


@dataclass(frozen=True)
class SpectralNorm(Normed, kind="spectral_norm"):
    """`matrix` over left W right, W being the matrix with `axis` before the others, which are one. Going back, the
    matrix is the weight, and `left` is W right (torch's power iteration has it next), as long as makes that product 1:
    the iteration gives it its own length again."""

    matrix: Recipe
    left: Recipe
    right: Recipe
    axis: int

    @cached_property
    def sources(self):
        return (self.matrix, self.left, self.right)

    @cached_property
    def shape(self):
        return self.matrix.shape

    def push(self, state):
        matrix = self.matrix.push(state)
        with np.errstate(all="ignore"):
            return (_wide(matrix) / self._sigma(matrix, state)).astype(matrix.dtype)

    def _sigma(self, matrix, state):
        return _wide(self.left.push(state)) @ self._turned(_wide(matrix), state)

    def _turned(self, matrix, state):
        """W right."""
        rows = np.moveaxis(matrix, self.axis, 0).reshape(matrix.shape[self.axis], -1)
        return rows @ _wide(self.right.push(state))

    def put(self, value, into):
        if np.array_equal(self.push(into), value, equal_nan=True):
            return
        turned = self._turned(value.astype(np.float64), into)
        if not turned.any():
            raise WeightsError(
                f"{self} cannot be what {', '.join(self.names)} give: it has lost its first direction"
            )
        self.matrix.pull(value, into)
        self.left.pull((turned / (turned @ turned)).astype(value.dtype), into)

    def __str__(self) -> str:
        return f"{self.matrix} / ({self.left} {self.matrix} {self.right})"
