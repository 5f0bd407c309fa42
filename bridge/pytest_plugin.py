"""For pytest: each test draws inputs by a seed of its own, kept where it fails; the first mismatch is printed.

The seed of a test is new at each run, so that a suite sees ever other inputs. That of a test that fails is kept in
pytest's cache until it passes; `--bridge-seed N` sets that of all.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Any

import pytest

KEPT = "bridge/seeds"  # in pytest's cache: of each test that failed
LARGEST = 1 << 31
SEEDS = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bridge")
    group.addoption(
        "--bridge-seed", type=int, default=None, help="of the inputs with which models are compared"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """With the seed of the test."""
    from bridge.testing import SEED

    asked, kept = item.config.getoption("bridge_seed"), _kept(item.config).get(item.nodeid)
    seed = (
        asked if asked is not None else kept if kept is not None else random.SystemRandom().randrange(LARGEST)
    )
    item.stash[SEEDS] = seed
    token = SEED.set(seed)
    try:
        return (yield)
    finally:
        SEED.reset(token)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """What departs first is said beside the traceback; the seed is kept of a test that compared models and failed."""
    made = yield
    if call.when != "call":
        return made
    error = call.excinfo.value if call.excinfo else None
    report: Any = getattr(error, "report", None)
    kept = _kept(item.config)
    if hasattr(report, "first_mismatch"):
        told = [report.verdict] if report.origin is None else [str(report.origin), *report.origin.told]
        seed = item.stash[SEEDS]
        made.sections.append(("bridge", "\n".join([*told, f"again with --bridge-seed {seed}"])))
        _keep(item.config, {**kept, item.nodeid: seed})
    elif item.nodeid in kept and error is None:
        _keep(item.config, {name: seed for name, seed in kept.items() if name != item.nodeid})
    return made


def _kept(config: pytest.Config) -> dict[str, int]:
    cache = getattr(config, "cache", None)  # which -p no:cacheprovider takes away
    return {} if cache is None else cache.get(KEPT, {})


def _keep(config: pytest.Config, seeds: dict[str, int]) -> None:
    cache = getattr(config, "cache", None)
    if cache is not None:
        cache.set(KEPT, seeds)
