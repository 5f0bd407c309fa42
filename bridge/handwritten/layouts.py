"""The orders of axes that torch's tensors may have beside Keras's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Move = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Layout:
    """An order of axes that torch has where Keras has its own."""

    name: str
    least: int  # axes of an array that it moves
    to_torch: Move
    to_keras: Move


def _swapped(x: np.ndarray) -> np.ndarray:
    return x.swapaxes(0, 1)


LAYOUTS = (
    Layout("as they are", 0, lambda x: x, lambda x: x),
    Layout("channels first", 3, lambda x: np.moveaxis(x, -1, 1), lambda x: np.moveaxis(x, 1, -1)),
    Layout("time first", 2, _swapped, _swapped),
)


def moving_layouts(arrays: Sequence[np.ndarray]) -> list[Layout]:
    """The layouts that move an axis of one of them."""
    return [layout for layout in LAYOUTS if any(x.ndim >= layout.least for x in arrays)]
