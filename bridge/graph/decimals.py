"""The decimal (0.1) or fraction (1/6) that a float32 or float64 was rounded from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

DIGITS = 7  # as many as float32 tells apart: a decimal that has fewer was written as one
MAX_DENOMINATOR = 100  # denominators of what was written as a fraction
SELU = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946  # its alpha and scale
NAMED = (
    math.pi, 2 * math.pi, math.pi / 2, math.e, math.log(2), 1 / math.log(2), math.log(10), 1 / math.log(10),
    10 / math.log(10), math.sqrt(2 / math.pi), *SELU,
)  # fmt: skip


def _single(value: float | np.generic) -> np.float32 | None:
    """`value` as one of float32's numbers, or None if it is none of them."""
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return single if float(single) == float(value) else None  # numpy would compare in single precision


def decimal(value: float | np.generic) -> float:
    """0.1 for 0.10000000149011612: the shortest decimal that float32 holds as `value`; a number that is none of
    float32's, and a power of two, stays as it is."""
    single = _single(value)
    exact = single is None or abs(np.frexp(single)[0]) == 0.5
    return float(value) if exact else float(str(single))


def fraction(value: float | np.generic) -> Fraction:
    """1/9 for 0.1111111119389534: among the fractions that are `value` when made as wide as it is, 32 bits if it is
    one of float32's, one whose denominator is small."""
    exact, wide = Fraction(float(value)), np.float64 if _single(value) is None else np.float32
    guesses = (exact.limit_denominator(1 << bits) for bits in range(64))
    return next((guess for guess in guesses if float(wide(float(guess))) == float(value)), exact)


def number(value: float | np.generic) -> float:
    """What was written where one of float32's numbers stands: a short decimal, else a constant that has a name, a
    fraction of small numbers, a root (8 ** -0.5 for 0.3535533845424652), else its shortest decimal."""
    single, shortest = _single(value), decimal(value)
    if single is None or shortest == float(value) or len(str(single).strip("-0.").replace(".", "")) < DIGITS:
        return shortest
    guesses = (*NAMED, *_fractions(float(value)), *_roots(float(value)))
    return next((guess for guess in guesses if np.float32(guess) == single), shortest)


def _fractions(value: float) -> Iterator[float]:
    yield float(Fraction(value).limit_denominator(MAX_DENOMINATOR))


def _roots(value: float) -> Iterator[float]:
    square = value * value
    for power, whole in ((0.5, round(square)), (-0.5, round(1 / square) if square > 1e-5 else 0)):
        if 1 < whole < 1 << 16:
            yield float(np.copysign(whole**power, value))
