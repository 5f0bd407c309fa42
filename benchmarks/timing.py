"""Alternating timing: every rival runs once in each round, and medians are compared."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

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


def medians(rivals: dict[str, Callable[[], object]], rounds: int = 30, warm: int = 3) -> dict[str, float]:
    """Seconds of each rival: the median over `rounds`, in which they take turns (in turn also at being first)."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    names = list(rivals)
    for number in range(rounds + warm):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.perf_counter()
            rivals[name]()
            if number >= warm:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}
