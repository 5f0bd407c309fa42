"""Faults put into a small network: found, and located at their stage and node."""

from __future__ import annotations

import functools
import random
from typing import Any

import pytest

from benchmarks.mutants import faults
from benchmarks.mutants.faults import BUILD, EXPORT, PASS, PLAN, Fault

pytest.importorskip("torch")


@functools.cache
def network():
    from benchmarks.mutants.__main__ import opened

    return opened("text_classifier")


def drawn(stage: str, kind: str) -> Fault:
    """The first of the kind that a seed draws."""
    found = (faults.drawn(stage, network(), random.Random(seed)) for seed in range(400))
    return next(one for one in found if one is not None and one.kind == kind)


def slow(stage: str, kind: str) -> Any:
    return pytest.param(stage, kind, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("stage", "kind"),
    [
        slow(EXPORT, "half"),
        slow(EXPORT, "dropout rate"),
        (PASS, "lost bias"),
        slow(PLAN, "lost bias"),
        slow(BUILD, "weight"),
        (BUILD, "frozen parameter"),
    ],
)
def test_a_fault_is_located(stage: str, kind: str) -> None:
    from benchmarks.mutants.__main__ import LOCATED, ended

    assert ended(network(), drawn(stage, kind))[0] == LOCATED
