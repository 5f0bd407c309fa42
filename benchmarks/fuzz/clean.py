"""Random torch modules with weights as large as they are made, 30 times as large and a thirtieth: nothing is wrong with
them, so that each mismatch is a false alarm."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.fuzz import modules

SCALES = (1.0, 30.0, 1 / 30)  # of all weights, in turn


def case(seed: int) -> modules.Module:
    """The module of `seed`."""
    scale = SCALES[seed % len(SCALES)]
    return replace(modules.case(seed), scale=scale, dtype="float32", training=False)
