"""`Entry`: one Keras variable, and the recipe that fills it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.weights.recipes import Recipe, Written
    from bridge.weights.weight import Weight


class Variable(Protocol):
    """What the map needs of a Keras variable."""

    @property
    def path(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def trainable(self) -> bool: ...
    def assign(self, value: np.ndarray) -> object: ...
    def __array__(self, dtype: np.dtype | None = None) -> np.ndarray: ...


class Row(TypedDict):
    """An entry in types of JSON."""

    layer: str
    attribute: str
    trainable: bool
    recipe: list[Written]


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

    def fill(self, values: Mapping[str, np.ndarray] | None = None) -> None:
        """Give the variable what the recipe makes of the weight's own values, or of others."""
        from bridge.keras_memory import handed_over  # Keras is loaded by those who have a variable

        self.variable.assign(handed_over(self.weight.copy(values)))

    @property
    def held(self) -> np.ndarray:
        """The variable's value, where it lies if that is possible, in the type of the weight."""
        from bridge.keras_memory import numbers

        return np.asarray(numbers(self.variable), self.weight.dtype.numpy())

    def pull(self, into: dict[str, np.ndarray]) -> None:
        """Write the variable's value back into the parameters `into`."""
        self.recipe.pull(self.held, into)
