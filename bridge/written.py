"""The number that was written before it was made 32 bits wide."""

from __future__ import annotations

from typing import Any

import numpy as np


def decimal(value: Any) -> float:
    """0.1 for 0.10000000149011612: the shortest decimal that float32 holds as `value`; a number that is none of
    float32's stays as it is."""
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return float(str(single)) if single == value else float(value)


def decimal_or_root(value: Any) -> float:
    """`decimal`, or the root of a whole number: 8 ** -0.5 for 0.3535533845424652."""
    with np.errstate(over="ignore"):
        if np.float32(value) != value:
            return float(value)
    root = float(value) ** -2 if value else 0
    if 1 < root < 1 << 16 and abs(root / round(root) - 1) < 1e-6:
        return float(np.copysign(round(root) ** -0.5, value))
    return decimal(value)
