"""Whether a recipe that a file gave fits together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bridge.weights.normed import SpectralNorm, WeightNorm
from bridge.weights.recipes import Concat, Fill, Narrow, Param, Recipe, Reshape, Scale, Sum, Transpose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        case WeightNorm(length, direction):
            sizes = zip(length.shape, direction.shape, strict=False)
            whole = len(length.shape) in (0, len(direction.shape))
            return whole and all(size in (1, of) for size, of in sizes)
        case SpectralNorm(matrix, left, right, axis):
            rows = matrix.shape[axis] if 0 <= axis < len(matrix.shape) else None
            return (rows,) == left.shape and math.prod(matrix.shape) == math.prod(left.shape) * math.prod(
                right.shape
            )
    return True
