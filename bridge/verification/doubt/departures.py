"""Failed comparisons, judged: one counts where the source itself is sure of its answer (`sure.py`), and, at odd values,
where a node is found that is wrong alone (`alone.py`). Rounding breaks ties, large numbers make it large, and what NaN
gives may be defined by nobody."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bridge.errors import NotRun, SourceError
from bridge.verification.checks import LIMIT, ORT_KERAS, TORCH_KERAS, TORCH_ORT, Check, limit_of
from bridge.verification.doubt.alone import excused
from bridge.verification.doubt.sure import Alone, elements_sure
from bridge.verification.inputs.odd import Odd
from bridge.verification.metrics import cast, worst_error
from bridge.verification.outputs import checks
from bridge.verification.trials import Run, Trial, as_long_as_the_graph

if TYPE_CHECKING:
    from bridge.build.assembly import Built
    from bridge.frontend.source import Source
    from bridge.ops.contract import Plan
    from bridge.verification.runners import OnnxRuntime

KERAS = (ORT_KERAS, TORCH_KERAS)
RAISED = 2  # times the limit, where float64 has to show an output of which nothing is sure
UNORDERED = frozenset({"TopK"})  # operators that torch leaves free in which of equal numbers comes first


@dataclass(frozen=True)
class Compared:
    """What is compared with a source: a `keras_call`, the simplified graph where onnxruntime runs it, and what was
    built from what where that is known."""

    call: Run
    simple: OnnxRuntime | None = None
    plan: Plan | None = None
    built: Built | None = None


def judge_departures(
    found: Sequence[Check], tried: Sequence[Trial], opened: Source, compared: Compared
) -> list[Check]:
    """`found` without what says nothing of the model, and with the limits that the source's own rounding sets. What
    comes after the first that fails for good is left as it is."""
    left: list[Check] = []
    source = Alone(opened)
    for trial in tried:
        at = trial.check("", 0.0).at
        mine = [check for check in found if check.at == at]
        if _passed(left):
            mine = _settled(mine, trial, source, compared, trial is tried[0])
        left += mine
    return left


def _settled(found: list[Check], trial: Trial, source: Alone, compared: Compared, first: bool) -> list[Check]:
    if _passed(found) or any(check.failure for check in found):
        return found
    found = _where_sure(found, trial, source, compared, first)
    if trial.odd is None:
        return found
    failed = {check.leg for check in found if not check.passed}
    if TORCH_ORT in failed and _undecided(trial, source):
        return []
    keras = [check for check in found if check.leg in KERAS]
    if failed and failed <= set(KERAS) and compared.plan is not None and compared.built is not None:
        limit = max(check.limit for check in keras)
        if excused(compared.plan, compared.built, trial, limit):
            return [check for check in found if check.leg not in KERAS]
    return found


def _where_sure(
    found: list[Check], trial: Trial, source: Alone, compared: Compared, first: bool
) -> list[Check]:
    """`found`, compared again where the source is sure; of the `first` inputs that has to be something of every
    output, or torch and Keras agree, and float64 has to show the rest: onnxruntime alone is off there. At ordinary
    values the limit is raised only where float64 then shows what rounding hides."""
    known = elements_sure(source, trial)
    if known is None:
        return found
    unsure = first and any(x.size and not x.any() for x in known.decided)
    if unsure and not (known.in_float64 and any(c.leg == TORCH_KERAS and c.passed for c in found)):
        return found
    room = known.room if trial.room is None else list(map(np.maximum, known.room, trial.room))
    again = checks(compared.call, [replace(trial, room=room)], compared.simple)
    allowed = known.limit if known.in_float64 or trial.odd is not None else 0.0
    allowed = max(allowed, RAISED * limit_of(trial.dtype)) if unsure else allowed
    return [replace(check, limit=max(check.limit, allowed)) for check in again]


def ordinary_checks_pass(checks: Sequence[Check]) -> bool:
    """Whether the checks at ordinary values pass."""
    return _passed([check for check in checks if not check.values])


def _passed(checks: Sequence[Check]) -> bool:
    return all(check.passed for check in checks)


def _undecided(trial: Trial, source: Alone) -> bool:
    """Whether torch itself leaves it open what comes out: an order of equal numbers, or what only rounding decides."""
    if trial.odd is Odd.TIES and any(node.op_type in UNORDERED for node in source.opened.model.graph):
        return True
    if source.opened.module is None:
        return False
    try:
        exact, _ = as_long_as_the_graph(source.double(cast(trial.inputs, "float64")), trial.onnx)
    except (SourceError, NotRun):  # it does not run in float64
        return False
    return worst_error(trial.torch or [], exact) > math.sqrt(LIMIT)
