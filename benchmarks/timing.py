"""Alternating timing: every rival runs once in each round, in an order drawn anew."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from random import Random

Clock = Callable[[], float]
THREADS = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}


def one_thread() -> None:
    """Call before any framework is imported."""
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)


def alternate(
    rivals: dict[str, Callable[[], object]], rounds: int = 30, warm: int = 3, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds by `clock` of each rival in each of `rounds`. None always runs after the same other, in its cache."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    names, random = list(rivals), Random(0)
    for number in range(rounds + warm):
        random.shuffle(names)
        for name in names:
            start = clock()
            rivals[name]()
            if number >= warm:
                times[name].append(clock() - start)
    return times


def medians(
    rivals: dict[str, Callable[[], object]], rounds: int = 30, warm: int = 3, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Seconds by `clock` of each rival: the median over `rounds`."""
    return {name: statistics.median(times) for name, times in alternate(rivals, rounds, warm, clock).items()}
