"""Where a conversion departs from its source first: the leg, and the step or the node."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bridge.build.builder import build
from bridge.errors import BridgeError, NotRun, UnsupportedError
from bridge.keras_compat import lacks_kernel
from bridge.passes import simplify
from bridge.plan.planner import plan
from bridge.verification.bisect.branches import as_taken
from bridge.verification.bisect.export import first_in_export
from bridge.verification.bisect.nodes import first_in_keras, unrun_in_keras
from bridge.verification.bisect.origin import Located, Origin
from bridge.verification.bisect.passes import departure
from bridge.verification.bisect.training import first_in_training
from bridge.verification.bisect.why import sensitivity
from bridge.verification.checks import LEGS, SIMPLIFIED, TORCH_ORT, Check
from bridge.verification.doubt.departures import KERAS, Compared
from bridge.verification.metrics import worst_error
from bridge.verification.nodes import first_unrun
from bridge.verification.reference.as_given import Runner
from bridge.verification.runners import OnnxRuntime
from bridge.verification.trials import Trial

if TYPE_CHECKING:
    from bridge.build.assembly import Built
    from bridge.frontend.source import Source
    from bridge.ops.contract import Plan

    Made = tuple[Plan, Built]
    Look = Callable[[Source, Made | None], tuple[str, Located | None]]


def first_mismatch(
    checks: Sequence[Check], opened: Source, compared: Compared, tried: list[Trial], reference: Runner
) -> tuple[str, Located | None]:
    """The leg that failed first, and the step or node that departs on it where onnxruntime runs the graph; the step
    after which it does not, though it runs the source. With the node, where one is found."""
    failed, leg = first_failed(checks), failed_leg(checks)
    if failed.leg not in LEGS:
        back = None if compared.built is None else first_in_training([failed], opened, compared.built)
        return leg + (f"; first at {back.origin}" if back else ""), back
    trial = next((trial for trial in tried if trial.check(failed.leg, 0.0).at == failed.at), tried[0])
    unrun = compared.simple is None and isinstance(reference, OnnxRuntime)  # which may be what a pass did

    def look(source: Source, made: Made | None) -> tuple[str, Located | None]:
        if failed.leg == SIMPLIFIED or unrun and failed.leg != TORCH_ORT:
            step = departure(source.given, source.model, trial, failed.limit)
            if step is not None and step.failure in leg:  # which is said already
                step = replace(step, failure="")
            return leg + (f": {step}" if step else ""), step.located if step else None
        if failed.leg == TORCH_ORT:
            return "; ".join((leg, *source.departs)), first_in_export(source, trial, failed.limit)
        found = _in_keras(made, trial, failed)
        return leg + (f"; {_first(found.origin)}" if found else ""), found

    made = None if compared.plan is None or compared.built is None else (compared.plan, compared.built)
    text, found = _also_in_branches(look, opened, made, trial)
    if found is not None:
        moves = sensitivity(opened.torch or reference, trial)
        found = replace(found, origin=replace(found.origin, sensitivity=moves))
    return text, found


def first_in_float64(
    double: Source, planned: Plan, built: Built, trial: Trial, limit: float
) -> Located | None:
    """The call of torch, the pass or the node that departs in float64, of a source there and what was made of it."""

    def look(source: Source, made: Made | None) -> tuple[str, Located | None]:
        unknown = trial.onnx is trial.torch  # what the graph gives, where it does not run as a whole
        if trial.torch is not None and (unknown or worst_error(trial.onnx, trial.torch) > limit):
            found = first_in_export(source, trial, limit)
            if found is not None or not unknown:
                return "", found
        step = departure(source.given, source.model, trial, limit)
        return "", step.located if step else first_in_keras(*(made or (planned, built)), trial, limit)

    try:
        return _also_in_branches(look, double, (planned, built), trial)[1]
    except (BridgeError, NotRun):  # the graph does not run node by node
        return None


def _also_in_branches(
    look: Look, opened: Source, made: Made | None, trial: Trial
) -> tuple[str, Located | None]:
    """What `look` finds; where that is nothing, or an If, what it finds with the branches in their place that run."""
    text, found = look(opened, made)
    if found is not None and found.origin.op != "If":
        return text, found
    try:
        taken = as_taken(opened, trial)
        if taken is None:
            return text, found
        planned = plan(simplify(taken.model))
        again, inner = look(taken, (planned, build(planned)))
    except (BridgeError, NotRun):
        return text, found
    return (again, inner) if inner is not None else (text, found)


def _in_keras(made: Made | None, trial: Trial, failed: Check) -> Located | None:
    """The first node whose value departs, or does not run, where nodes can be compared."""
    if made is None:
        return None
    if failed.failure:
        return unrun_in_keras(*made, trial, failed.limit)
    return first_in_keras(*made, trial, failed.limit)


def _first(origin: Origin) -> str:
    error = f" (error {origin.error:.2g})" if math.isfinite(origin.error) else ""
    return f"first at {origin.op} {origin.path or origin.output}{error}"


def require_kernels(checks: Sequence[Check], planned: Plan, built: Built, first: Trial) -> None:
    """Refuse what the backend of Keras has no kernel for, as arrays of nine axes in most of TensorFlow's."""
    reason = next(
        (why for check in checks if check.leg in KERAS and (why := lacks_kernel(check.failure))), ""
    )
    step = first_unrun(planned, built, first) if reason else None
    if step is not None:
        raise UnsupportedError([step.refusal(reason)])


def first_failed(checks: Sequence[Check]) -> Check:
    return next(check for check in checks if not check.passed)


def failed_leg(checks: Sequence[Check]) -> str:
    """The first comparison that failed, in words."""
    failed = first_failed(checks)
    if failed.failure:
        return f"{failed.name} at {failed.at}: {failed.failure}"
    return f"{failed.name} differ by {failed.error:.2g} (limit {failed.limit:.0e}) at {failed.at}"
