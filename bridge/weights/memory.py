"""Arrays in memory: where a new one begins, what becomes of the room of old ones, and a copy across the order in which
another lies, in blocks that fit the processor's caches."""

from __future__ import annotations

import ctypes
import math
import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOW_SIZES = 32  # sizes below are taken for those of a kernel's window
ROWS = 512  # of a block copied at once: how many elements lie side by side where it goes
BLOCK = 3 << 15  # its elements in all: the processor's second cache holds them
PORTION = 1 << 20  # bytes compared at once
LINE = 64  # bytes of a cache line


def aligned_empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """`np.empty` that begins a cache line: jax takes such an array for its own, and copies every other."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def placeholder(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """An array that takes no room, for its shape and type: that of a value which is held elsewhere."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays of one shape and type are the same, NaN and the sign of zeros too, whatever the orders in
    which they lie; compared in portions."""
    one, other = (array.reshape(1) if array.ndim == 0 else array for array in (one, other))
    rows = max(1, PORTION * len(one) // max(one.nbytes, 1))
    portions = (slice(start, start + rows) for start in range(0, len(one), rows))
    return all(one[portion].tobytes() == other[portion].tobytes() for portion in portions)


def copy_in_blocks(value: np.ndarray, into: np.ndarray) -> None:
    """`into[...] = value`, in blocks where the two lie across one another: several times faster for large arrays.

    A block is first copied as `value` lies into a small room, and from there across, one place of a kernel's window
    at a time. The rows of the room lie a cache line further apart than they are long: at a power of two they would
    push one another out of the cache.
    """
    value, into = value[..., None], into[..., None]  # at least two axes
    across = _fastest(into, WINDOW_SIZES)
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


def give_back_freed() -> None:
    """What was freed goes back to the system, where glibc would keep it: it holds on to what lies between smaller
    things that stay."""
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
