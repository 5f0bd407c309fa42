"""The algebra of axis orders, without graphs.

An order (`Perm`) says how a value's axes are stored: stored axis i is the value's axis perm[i]; None is as stated.
A `FactorOrder` says the same of the elements along one axis that is a product of several: with sizes (C, H, W) and
order (1, 2, 0) they are stored height first, then width, then channels. Dims are integers or symbols.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

Perm = tuple[int, ...] | None
Size = Hashable  # a number, or whatever tells an unknown size from others
Block = tuple[list[int], list[int]]
MAX_RANK = 64  # of numpy's arrays
Known = TypeVar("Known")  # weights and arrays, which spell shape, reshape and transpose alike


@dataclass(frozen=True)
class FactorOrder:
    """Another order of the elements along `axis`."""

    axis: int
    sizes: tuple[int, ...]
    order: tuple[int, ...]

    def along(self, axis: int) -> FactorOrder:
        return replace(self, axis=axis)

    def apply(self, known: Known, axis: int) -> Known:
        """A weight or constant, with the elements along its `axis` in this order."""
        value: Any = known
        dims: tuple[int, ...] = tuple(value.shape)
        axis %= len(dims)
        count: int = len(self.sizes)
        split: tuple[int, ...] = (*dims[:axis], *self.sizes, *dims[axis + 1 :])
        perm = [*range(axis), *(axis + i for i in self.order), *range(axis + count, len(split))]
        return value.reshape(*split).transpose(*perm).reshape(*dims)


def channels_behind(rank: int) -> Perm:
    return (0, *range(2, rank), 1) if rank > 2 else None


def plain(perm: Sequence[int] | None) -> Perm:
    """`perm`, or None where it changes nothing."""
    return None if perm is None or list(perm) == list(range(len(perm))) else tuple(perm)


def elements_move(dims: Sequence[Size], have: Perm, want: Perm) -> bool:
    """Whether the elements of a tensor with these dims, stored in the order `have`, move for the order `want`."""
    wide = [axis for axis in have or range(len(dims)) if dims[axis] != 1]
    return wide != [axis for axis in want or range(len(dims)) if dims[axis] != 1]


def blocks(before: Sequence[Size], after: Sequence[Size]) -> list[Block]:
    """How a reshape regroups axes: the axes before and after of each part that keeps to itself, parts in order.

    Where symbols hide how sizes multiply, what lies between the parts found from both ends is one part.
    """
    heads = _matched(before, after)
    i, j = (sum(part[side] for part in heads) for side in (0, 1))
    tails = _matched(before[i:][::-1], after[j:][::-1])[::-1]
    k, m = (len(dims) - sum(part[side] for part in tails) for side, dims in ((0, before), (1, after)))
    middle = [(k - i, m - j)] if k > i and m > j else []
    counts = heads + middle + tails
    if not middle and (k > i or m > j) and counts:  # what is left on one side has size one
        place = max(len(heads) - 1, 0)
        counts[place] = (counts[place][0] + k - i, counts[place][1] + m - j)
    parts, i, j = [], 0, 0
    for wide, long in counts:
        parts.append(([*range(i, i + wide)], [*range(j, j + long)]))
        i, j = i + wide, j + long
    return parts


def _matched(before: Sequence[Size], after: Sequence[Size]) -> list[tuple[int, int]]:
    """How many axes each part has before and after, from the front, as far as equal sizes show it."""
    parts: list[tuple[int, int]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        k, m = i + 1, j + 1
        while before[i:k] != after[j:m]:
            left, right = _product(before[i:k]), _product(after[j:m])
            if left is None or right is None:
                return parts
            if left == right:
                break
            k, m = (k + 1, m) if left < right else (k, m + 1)
            if k > len(before) or m > len(after):
                return parts
        parts.append((k - i, m - j))
        i, j = k, m
    return parts


def _product(dims: Sequence[Size]) -> int | None:
    known = [dim for dim in dims if isinstance(dim, int)]
    return math.prod(known) if len(known) == len(dims) else None


def reshaped(
    perm: Perm, before: Sequence[Size], after: Sequence[Size]
) -> tuple[Perm, FactorOrder | None] | None:
    """The order of the output when a tensor stored in the order `perm` is reshaped as it stands, and the mix of an
    axis whose elements that leaves in another order; None where the parts of an axis do not lie side by side."""
    if perm is None:
        return None, None
    stored = [axis for axis in perm if before[axis] != 1]
    whole: list[tuple[int, list[int]]] = []
    empty: list[list[int]] = []
    mix = None
    for old, new in blocks(before, after):
        places = [stored.index(axis) for axis in old if before[axis] != 1]
        if places and max(places) - min(places) != len(places) - 1:
            return None
        if places != sorted(places):
            wide = [axis for axis in new if after[axis] != 1]
            sizes: tuple[Any, ...] = tuple(before[axis] for axis in old if before[axis] != 1)
            if mix or len(wide) != 1 or _product(sizes) is None:
                return None
            mix = FactorOrder(wide[0], sizes, tuple(np.argsort(places).tolist()))
        if places:
            whole.append((min(places), new))
        else:
            empty.append(new)
    order = [axis for _, new in sorted(whole) for axis in new]
    for new in empty:  # axes of size one stand anywhere
        for axis in new:
            order.insert(min(axis, len(order)), axis)
    return plain(order), mix
