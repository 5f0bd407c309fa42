"""Values that random numbers seldom meet, and at which libraries differ: ties, halves, zeros of both signs, constants,
large and tiny numbers, NaN and infinities, masks all on and all off, sequences shorter than their axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum

import numpy as np

from bridge.verification.inputs.sizes import Sizes, evaluate
from bridge.verification.inputs.values import Slot
from bridge.verification.metrics import Arrays


class Odd(Enum):
    """A kind of such values, by what a report calls it."""

    TIES = "constants, ties and halves"
    TINY = "zeros and tiny numbers"
    LARGE = "large numbers"
    ENDLESS = "NaN and infinities"
    ON = "masks all on"
    OFF = "masks all off"
    SHORT = "short sequences"


STEPPED = np.array([0.0, -0.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 1.0, -1.0])  # rounded every way
ELSEWHERE = (
    (1, 0),
    (-1, 0),
    (10, 0),
    (1, 2),
    (1, -2),
    (0.1, 0),
    (100, 0),
    (-10, 0),
    (1, 20),
    (1, -20),
    (0, 0),
)
NUDGED = (Odd.TINY, Odd.LARGE)  # where rounding of the inputs may count, and no answer hangs on the last bit
SCALES = {Odd.TINY: 1e-3, Odd.LARGE: 1e3}
HALF_SCALE = 16.0  # for LARGE in float16


def odd_draws(
    slots: Sequence[Slot], sizes: Sizes, drawn: Arrays, rng: np.random.Generator
) -> Iterator[tuple[Odd, Arrays]]:
    """Of every kind that makes a difference, inputs like `drawn`."""
    for kind in Odd:
        arrays = [_odd(kind, slot, sizes, array, rng) for slot, array in zip(slots, drawn, strict=True)]
        if any(new is not old for new, old in zip(arrays, drawn, strict=True)):
            yield kind, arrays


def _odd(kind: Odd, slot: Slot, sizes: Sizes, drawn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Values of this kind for `slot`; `drawn` itself where it has none."""
    if kind is Odd.SHORT and slot.longest is not None:
        return slot.lengths(drawn.shape, max(evaluate(slot.longest, sizes) - 1, 1), rng, full=False)
    if kind in (Odd.ON, Odd.OFF) and slot.mask:
        return np.full_like(drawn, kind is Odd.ON)
    if drawn.dtype.kind != "f" or not drawn.size:
        return drawn
    if kind is Odd.TIES:
        return _ties(drawn)
    if kind is Odd.ENDLESS:
        return _endless(drawn)
    if kind not in SCALES:
        return drawn
    scale = HALF_SCALE if kind is Odd.LARGE and drawn.dtype == np.float16 else SCALES[kind]
    scaled = (drawn * scale).astype(drawn.dtype)
    if kind is Odd.TINY:
        scaled.reshape(-1)[::3] = 0.0
        if drawn.min() < 0:
            scaled.reshape(-1)[1::6] = -0.0
    return scaled


def _ties(drawn: np.ndarray) -> np.ndarray:
    """A quarter of it the largest and the smallest number in turn, a quarter constant, a quarter halves with ties and
    zeros of both signs, the rest as drawn; negative only where `drawn` is."""
    flat = drawn.reshape(-1).copy()
    part = max(flat.size // 4, 1)
    steps = STEPPED if drawn.min() < 0 else np.abs(STEPPED)
    flat[:part:2], flat[1:part:2] = steps.max(), steps.min()
    flat[part : 2 * part] = 0.5
    flat[2 * part : 3 * part] = np.resize(steps, len(flat[2 * part : 3 * part]))
    return flat.reshape(drawn.shape)


def _endless(drawn: np.ndarray) -> np.ndarray:
    """NaN, infinity and its negative, each in another part of what was drawn."""
    flat = drawn.reshape(-1).copy()
    third = max(flat.size // 3, 1)
    for place, value in zip(range(0, flat.size, third), (np.nan, np.inf, -np.inf), strict=False):
        flat[place] = value
    return flat.reshape(drawn.shape)


def elsewhere(inputs: Arrays, number: int) -> Arrays:
    """The inputs, of which those of finite numbers are scaled and moved by their largest magnitude, each `number`
    otherwise; negative only where they are."""
    return [_moved(x, *ELSEWHERE[number % len(ELSEWHERE)]) for x in inputs]


def _moved(x: np.ndarray, factor: float, shift: float) -> np.ndarray:
    if x.dtype.kind != "f" or not x.size or not np.isfinite(x).all():
        return x
    moved = factor * x + shift * np.abs(x).max()
    return np.asarray(moved if x.min() < 0 else np.abs(moved), x.dtype)


def nudged(inputs: Arrays) -> Arrays:
    """The inputs, every number moved by its last bit."""
    return [
        np.asarray(x * (1 + np.finfo(x.dtype).eps), x.dtype) if x.dtype.kind == "f" else x for x in inputs
    ]
