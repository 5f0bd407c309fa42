"""The normal forms of recipes: two ways to the same array are one recipe.

`transpose`, `reshape`, `narrow` and `concat` extend a recipe and keep it in its plainest form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.weights.recipes import Concat, Fill, Narrow, Recipe, Reshape, Sum, Transpose

if TYPE_CHECKING:
    from collections.abc import Sequence


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
            case Fill(a, shape), Fill(b, more) if a == b:
                joined[-1] = Fill(a, (*shape[:axis], shape[axis] + more[axis], *shape[axis + 1 :]))
            case Transpose(a, p), Transpose(b, q) if p == q:
                inner = concat([a, b], p[axis])
                if isinstance(inner, Concat):
                    joined.append(part)
                else:
                    joined[-1] = transpose(inner, p)
            case _:
                joined.append(part)
    return joined[0] if len(joined) == 1 else Concat(tuple(joined), axis)
