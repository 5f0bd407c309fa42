"""What a departure at odd values is worth. At such values rounding may decide: it breaks ties, and large numbers make
it large. A departure counts where the source itself is sure of its answer, and a node is found that is wrong alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from bridge.report import LIMIT, ORT_KERAS, TORCH_KERAS, TORCH_ORT, Check
from bridge.verification.alone import excused
from bridge.verification.metrics import cast, worst_error
from bridge.verification.odd import NUDGED, Odd, nudged
from bridge.verification.outputs import FLOOR
from bridge.verification.reference import as_given
from bridge.verification.trials import Trial

if TYPE_CHECKING:
    from bridge.build import Built
    from bridge.frontend.source import Opened
    from bridge.plan import Plan

KERAS = (ORT_KERAS, TORCH_KERAS)
UNORDERED = frozenset({"TopK"})  # operators that torch leaves free in which of equal numbers comes first


COARSE = (
    1e-3  # a departure at tiny or large numbers that is smaller may be lost digits of intermediate values
)


class Pair(NamedTuple):
    """What was built, and from what."""

    plan: Plan
    built: Built


def settled(
    checks: Sequence[Check], tried: Sequence[Trial], opened: Opened, pair: Pair | None
) -> list[Check]:
    """`checks` without those at odd values that say nothing of the model, and with the limits that the source's own
    rounding sets at large and tiny ones."""
    if not passed(checks):
        return list(checks)
    left = [check for check in checks if not check.values]
    for trial in tried:
        if trial.odd is not None:
            at = trial.check("", 0.0).at
            left += _settled([check for check in checks if check.at == at], trial, opened, pair)
    return left


def _settled(checks: list[Check], trial: Trial, opened: Opened, pair: Pair | None) -> list[Check]:
    if trial.odd in NUDGED and not all(check.passed for check in checks):
        limit = max(FLOOR * _rounding(trial, opened), COARSE)
        checks = [replace(check, limit=max(check.limit, limit)) for check in checks]
    failed = {check.leg for check in checks if not check.passed}
    if TORCH_ORT in failed and _undecided(trial, opened):
        return []
    keras = [check for check in checks if check.leg in KERAS]
    if failed and failed <= set(KERAS) and pair and not any(check.failure for check in keras):
        limit = max(check.limit for check in keras)
        if excused(pair.plan, pair.built, trial, limit):
            return [check for check in checks if check.leg not in KERAS]
    return checks


def passed(checks: Sequence[Check]) -> bool:
    """Whether the checks at ordinary values pass."""
    return all(check.passed for check in checks if not check.values)


def _rounding(trial: Trial, opened: Opened) -> float:
    """By how much the source's outputs move when the last bit of its inputs does."""
    source = opened.torch or as_given(opened.given)[0]
    error = worst_error(source(nudged(trial.inputs)), trial.torch or trial.onnx)
    return error if math.isfinite(error) else 0.0


def _undecided(trial: Trial, opened: Opened) -> bool:
    """Whether torch itself leaves it open what comes out: an order of equal numbers, or what only rounding decides."""
    if trial.odd is Odd.TIES and any(node.op_type in UNORDERED for node in opened.model.graph):
        return True
    if opened.module is None:
        return False
    try:
        exact = opened.module.double()(cast(trial.inputs, "float64"))
    except Exception:  # it does not run in float64
        return False
    return worst_error(trial.torch or [], exact) > math.sqrt(LIMIT)
