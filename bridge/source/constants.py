"""Arrays as one would write them: a number, a formula of numpy's, a short table."""

from __future__ import annotations

from typing import Any

import numpy as np

from bridge.source.expressions import Expression, Literal, Node, call

FEW, LONGEST = 24, 80  # numbers that are written out, and characters of them


def number(value: np.generic | np.ndarray) -> Literal:
    """The one number of an array, in the fewest digits that give it again in its precision."""
    item = value.item()
    if isinstance(item, float) and np.isfinite(item):
        item = float(str(np.asarray(value)[()]))
    return Literal(item)


def written(array: np.ndarray) -> Expression | None:
    """The array as an expression; None where it has more numbers than one would write."""
    dtype = Literal(array.dtype.name)
    flat = array.ravel()
    if array.ndim == 0:
        return Node("array", dtype.value, (number(array),))
    if array.size > 1 and array.size > FEW // 4 and (made := _formula(array, flat, dtype)) is not None:
        return made
    if array.size > FEW or array.size == 0 or len(str(array.tolist())) > LONGEST:
        return call("np.zeros", Literal(array.shape), dtype) if array.size == 0 else None
    return Node("array", dtype.value, (_listed(array),))


def _formula(array: np.ndarray, flat: np.ndarray, dtype: Literal) -> Expression | None:
    if (flat == flat[0]).all():
        if flat[0] in (0, 1):
            return call("np.ones" if flat[0] else "np.zeros", Literal(array.shape), dtype)
        return call("np.full", Literal(array.shape), number(flat[0]), dtype)
    if np.issubdtype(array.dtype, np.integer):
        start, step = int(flat[0]), int(flat[1]) - int(flat[0])
        if step and np.array_equal(flat, start + step * np.arange(flat.size)):
            return _counted(array, start, step, dtype)
        turned = np.arange(flat.size)
        if array.ndim == 1 and np.array_equal(flat, np.roll(turned, -start)):
            return call("np.roll", call("np.arange", Literal(flat.size), dtype=dtype), Literal(-start))
        if start == 0 and step > 1 and flat.size % step == 0:
            return _shuffled(array, flat, (flat.size // step, step), dtype)
    return None


def _shuffled(
    array: np.ndarray, flat: np.ndarray, sides: tuple[int, int], dtype: Literal
) -> Expression | None:
    """Numbers that count down the columns of a table."""
    if not np.array_equal(flat, np.arange(flat.size).reshape(sides).ravel("F")) or array.ndim > 1:
        return None
    table = call("np.reshape", call("np.arange", Literal(flat.size), dtype=dtype), Literal(sides))
    return call("np.ravel", table, order=Literal("F"))


def _counted(array: np.ndarray, start: int, step: int, dtype: Literal) -> Expression:
    limits = (start, start + step * array.size, step)
    given = limits[1:2] if limits[0::2] == (0, 1) else limits[:2] if step == 1 else limits
    line = call("np.arange", *map(Literal, given), dtype=dtype)
    return line if array.ndim == 1 else call("np.reshape", line, Literal(array.shape))


def _listed(array: np.ndarray) -> Any:
    if array.ndim == 0:
        return number(array)
    return Node("list", "", tuple(_listed(part) for part in array))
