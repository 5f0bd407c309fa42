"""The project's own fuzzer: its workers, and a few hundred graphs with fixed seeds."""

import os
import signal
import time
from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.fuzz.files import File
from benchmarks.fuzz.modules import case as module
from benchmarks.fuzz.workers import CRASHED, EQUAL, HUNG, REFUSED, Bounds, Outcome, Workers


@dataclass
class Toy:
    """A case that ends as its seed says."""

    seed: int
    groups = ("toy",)

    def run(self):
        if self.seed == 1:
            os.kill(os.getpid(), signal.SIGFPE)
        if self.seed == 2:
            time.sleep(60)
        if self.seed == 3:
            np.ones(1 << 33)
        return Outcome(EQUAL)


case = Toy  # what the workers look for


@pytest.fixture(scope="module")
def workers():
    with Workers(__name__, Bounds(seconds=1.0)) as pool:
        yield pool


@pytest.mark.slow
def test_a_case_takes_no_other_with_it(workers):
    ended = {seed: outcome.kind for seed, outcome, _ in workers.outcomes(range(6))}
    assert ended == {0: EQUAL, 1: CRASHED, 2: HUNG, 3: CRASHED, 4: EQUAL, 5: EQUAL}


def test_a_signal_is_named(workers):
    assert workers.run(1).text == "the process died: SIGFPE"


def test_memory_is_bounded(workers):
    assert "MemoryError" in workers.run(3).text


def test_broken_files():
    """Of every kind, in this process: equal, or refused by name in one line."""
    ended = {File(seed).shown(): File(seed).run() for seed in range(40)}
    assert {case: outcome for case, outcome in ended.items() if not outcome.good} == {}
    assert {outcome.kind for outcome in ended.values()} >= {EQUAL, REFUSED}


def test_random_modules():
    """Of images, sequences and tokens: equal, or refused by name in one line."""
    ended = {str(module(seed)): module(seed).run() for seed in (1, 4, 14000004, 14000008, 11000002, 11000019)}
    assert {case: outcome for case, outcome in ended.items() if not outcome.good} == {}
    assert EQUAL in {outcome.kind for outcome in ended.values()}
