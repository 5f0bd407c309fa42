"""How far two arrays are apart: the largest difference over the largest magnitude of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bridge.weights.tensors import BRAIN

Arrays = list[np.ndarray]
Attributes = dict[str, Any]  # of a node by name, as plain Python: numbers, texts and lists of either


def relative_error(got: np.ndarray, want: np.ndarray, against: np.ndarray | None = None) -> float:
    """Largest difference over the largest magnitude (of `against`, if given); infinite where shapes differ or one is
    not finite alone."""
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return float("inf")
    if not want.size:
        return 0.0
    if want.dtype.kind in "bui":
        return 0.0 if np.array_equal(got, want) else float("inf")
    if against is None and np.isfinite(want).all() and np.isfinite(got).all():
        # without copies of what may be large
        difference = np.asarray(np.subtract(got, want, dtype=np.float64))
        return float(np.abs(difference, out=difference).max() / max(float(np.abs(want).max()), 1e-30))
    finite = np.isfinite(want)
    if not np.array_equal(np.isfinite(got), finite) or not np.array_equal(
        got[~finite], want[~finite], equal_nan=True
    ):
        return float("inf")
    if not finite.any():
        return 0.0
    got, want = got[finite].astype(np.float64), want[finite].astype(np.float64)
    size = want if against is None else np.asarray(against)[np.isfinite(against)].astype(np.float64)
    return float(np.abs(got - want).max() / max(np.abs(size).max(initial=0.0), 1e-30))


def worst_error(
    got: Sequence[np.ndarray], want: Sequence[np.ndarray], against: Sequence[np.ndarray] | None = None
) -> float:
    if len(got) != len(want):
        return float("inf")
    rows = zip(got, want, [None] * len(want) if against is None else against, strict=True)
    return max((relative_error(*row) for row in rows), default=0.0)


def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two arrays hold the same, NaN being the same as NaN."""
    return (a == b) | (np.isnan(a) & np.isnan(b)) if a.dtype.kind == "f" else np.asarray(a == b)


def error_where(got: Arrays, want: Arrays, room: Arrays | None) -> float:
    """`worst_error` of the elements that count, whose `room` is 0; of all where another one is off by more than its
    room, which may be infinite. An output of which nothing counts may be of another length."""
    if room is not None and len(got) == len(want):
        counting = [i for i, x in enumerate(room) if x.shape == got[i].shape or not x.all()]
        got, want, room = ([arrays[i] for i in counting] for arrays in (got, want, room))
    if room is None or any([x.shape for x in side] != [x.shape for x in room] for side in (got, want)):
        return worst_error(got, want)
    if any(_beyond(*row) for row in zip(got, want, room, strict=True)):
        return worst_error(got, want)
    counts = [x == 0 for x in room]
    return worst_error(elements_at(got, counts), elements_at(want, counts))


def _beyond(got: np.ndarray, want: np.ndarray, room: np.ndarray) -> bool:
    return bool((distance(got, want) > room)[room > 0].any())


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far the elements of two arrays are apart; infinitely where one is not finite alone."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return np.where(same(a, b), 0.0, np.where(np.isnan(apart), np.inf, apart))


def elements_at(arrays: Arrays, places: Arrays | None) -> Arrays:
    """Of each array what stands at `places`; all of it where there are none, or none of its shape."""
    if places is None or [x.shape for x in arrays] != [x.shape for x in places]:
        return arrays
    return [array[where] for array, where in zip(arrays, places, strict=True)]


def cast(inputs: Arrays, dtype: str) -> Arrays:
    """The inputs of floating point in `dtype`."""
    return [x.astype(dtype) if x.dtype.kind == "f" or x.dtype == BRAIN else x for x in inputs]
