"""The algebra of axis orders, without graphs.

An order (`Perm`) says how a value's axes are stored: stored axis i is the value's axis perm[i]; None is as stated.
A `Mix` says the same of the elements along one axis that is a product of several: with sizes (C, H, W) and order
(1, 2, 0) they are stored height first, then width, then channels. Dims are integers or symbols.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from bridge.weights import Weight

Perm = tuple[int, ...] | None
Dim = Hashable
Block = tuple[list[int], list[int]]
Known = TypeVar("Known", Weight, np.ndarray)


@dataclass(frozen=True)
class Mix:
    """Another order of the elements along `axis`."""

    axis: int
    sizes: tuple[int, ...]
    order: tuple[int, ...]

    def along(self, axis: int) -> Mix:
        return replace(self, axis=axis)

    def apply(self, known: Known, axis: int) -> Known:
        """A weight or constant, with the elements along its `axis` in this order."""
        dims = known.dims if isinstance(known, Weight) else known.shape
        axis %= len(dims)
        count = len(self.sizes)
        split = (*dims[:axis], *self.sizes, *dims[axis + 1 :])
        perm = [*range(axis), *(axis + i for i in self.order), *range(axis + count, len(split))]
        if isinstance(known, Weight):
            return known.reshape(*split).transpose(*perm).reshape(*dims)
        return known.reshape(split).transpose(perm).reshape(dims)


def channels_last(rank: int) -> Perm:
    return (0, *range(2, rank), 1) if rank > 2 else None


def plain(perm: Sequence[int] | None) -> Perm:
    """`perm`, or None where it changes nothing."""
    return None if perm is None or list(perm) == list(range(len(perm))) else tuple(perm)


def blocks(before: Sequence[Dim], after: Sequence[Dim]) -> list[Block]:
    """How a reshape regroups axes: the axes before and after of each part that keeps to itself, parts in order.

    Where symbols hide how sizes multiply, everything between the axes that are equal on both ends is one part.
    """
    parts: list[Block] = []
    i = j = 0
    while i < len(before) and j < len(after):
        k, m = i + 1, j + 1
        while before[i:k] != after[j:m]:
            left, right = _product(before[i:k]), _product(after[j:m])
            if left is None or right is None:
                return [*parts, *_rest(before, after, i, j)]
            if left == right:
                break
            if left < right and k < len(before):
                k += 1
            elif left > right and m < len(after):
                m += 1
            else:
                return [*parts, *_rest(before, after, i, j)]
        parts.append(([*range(i, k)], [*range(j, m)]))
        i, j = k, m
    if parts:  # what is left has size one
        parts[-1] = (parts[-1][0] + [*range(i, len(before))], parts[-1][1] + [*range(j, len(after))])
    return parts


def _product(dims: Sequence[Dim]) -> int | None:
    return math.prod(dims) if all(isinstance(dim, int) for dim in dims) else None


def _rest(before: Sequence[Dim], after: Sequence[Dim], i: int, j: int) -> list[Block]:
    """One part, and single axes behind it that are equal."""
    ends = 0
    while ends < min(len(before) - i, len(after) - j) - 1 and before[-1 - ends] == after[-1 - ends]:
        ends += 1
    middle = ([*range(i, len(before) - ends)], [*range(j, len(after) - ends)])
    return [middle, *(([len(before) - e], [len(after) - e]) for e in range(ends, 0, -1))]


def reshaped(perm: Perm, before: Sequence[Dim], after: Sequence[Dim]) -> tuple[Perm, Mix | None] | None:
    """The order of the output when a tensor stored in the order `perm` is reshaped as it stands, and the mix of an
    axis whose elements that leaves in another order; None where the parts of an axis do not lie side by side."""
    if perm is None:
        return None, None
    stored = [axis for axis in perm if before[axis] != 1]
    parts, mix = [], None
    for old, new in blocks(before, after):
        places = [stored.index(axis) for axis in old if before[axis] != 1]
        if places and max(places) - min(places) != len(places) - 1:
            return None
        if places != sorted(places):
            wide = [axis for axis in new if after[axis] != 1]
            sizes = tuple(before[axis] for axis in old if before[axis] != 1)
            if mix or len(wide) != 1 or _product(sizes) is None:
                return None
            mix = Mix(wide[0], sizes, tuple(np.argsort(places).tolist()))
        parts.append((min(places, default=None), new))
    whole = sorted((part for part in parts if part[0] is not None), key=lambda part: part[0])
    empty = [part for part in parts if part[0] is None]
    order = [axis for _, new in whole for axis in new]
    for _, new in empty:  # axes of size one stand anywhere
        for axis in new:
            order.insert(min(axis, len(order)), axis)
    return plain(order), mix
