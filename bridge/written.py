"""The number that was written before it was made 32 or 64 bits wide."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np


def _single(value: Any) -> np.float32 | None:
    """`value` as one of float32's numbers, or None if it is none of them."""
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return single if float(single) == float(value) else None  # numpy would compare in single precision


def decimal(value: Any) -> float:
    """0.1 for 0.10000000149011612: the shortest decimal that float32 holds as `value`; a number that is none of
    float32's, and a power of two, stays as it is."""
    single = _single(value)
    exact = single is None or abs(np.frexp(single)[0]) == 0.5
    return float(value) if exact else float(str(single))


def fraction(value: Any) -> Fraction:
    """1/9 for 0.1111111119389534: among the fractions that are `value` when made as wide as it is, 32 bits if it is
    one of float32's, one whose denominator is small."""
    exact, wide = Fraction(float(value)), np.float64 if _single(value) is None else np.float32
    guesses = (exact.limit_denominator(1 << bits) for bits in range(64))
    return next((guess for guess in guesses if float(wide(float(guess))) == float(value)), exact)


def decimal_or_root(value: Any) -> float:
    """`decimal`, or the root of a whole number: 8 ** -0.5 for 0.3535533845424652."""
    root = float(value) ** -2 if value else 0
    if _single(value) is not None and 1 < root < 1 << 16 and abs(root / round(root) - 1) < 1e-6:
        return float(np.copysign(round(root) ** -0.5, value))
    return decimal(value)
