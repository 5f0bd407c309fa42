"""`WeightNorm`: a weight that torch keeps as its length and its direction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bridge.weights.recipes import Recipe


@dataclass(frozen=True)
class WeightNorm(Recipe, kind="weight_norm"):
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
        whole = np.sqrt(np.square(value).sum(self.axes, keepdims=True))
        return whole.reshape(self.length.shape)

    def push(self, state):
        direction = self.direction.push(state)
        with np.errstate(invalid="ignore", divide="ignore"):
            return direction * (self.length.push(state) / self._length(direction))

    def put(self, value, into):
        length, direction = self.length.push(into), self.direction.push(into)
        new = self._length(value)
        changed = (value != self.push(into)).any(self.axes, keepdims=True).reshape(new.shape)
        self.length.pull(np.where(changed, new, length).astype(length.dtype), into)
        taken = changed & (new > 0)  # nothing has no direction
        self.direction.pull(np.where(taken, value, direction).astype(direction.dtype), into)

    def add(self, gradient, into):
        """The gradient hangs on the values of both, which are not here."""

    def __str__(self) -> str:
        return f"{self.length} * {self.direction} / |{self.direction}|"
