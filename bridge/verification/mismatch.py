"""Where a conversion departs from its source first: the leg, and the step or the node."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bridge.errors import BridgeError, NotRun, UnsupportedError
from bridge.keras_compat import lacks_kernel
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
    if failed.leg == SIMPLIFIED or unrun and failed.leg != TORCH_ORT:
        step = departure(opened.given, opened.model, trial, failed.limit)
        if step is not None and step.failure in leg:  # which is said already
            step = replace(step, failure="")
        text, found = leg + (f": {step}" if step else ""), step.located if step else None
    elif failed.leg == TORCH_ORT:
        text, found = "; ".join((leg, *opened.departs)), first_in_export(opened, trial, failed.limit)
    else:
        found = _in_keras(compared, trial, failed)
        text = leg + (f"; {_first(found.origin)}" if found else "")
    if found is not None:
        moves = sensitivity(opened.torch or reference, trial)
        found = replace(found, origin=replace(found.origin, sensitivity=moves))
    return text, found


def first_in_float64(
    double: Source, planned: Plan, built: Built, trial: Trial, limit: float
) -> Located | None:
    """The call of torch, the pass or the node that departs in float64, of a source there and what was made of it."""
    try:
        unknown = trial.onnx is trial.torch  # what the graph gives, where it does not run as a whole
        if trial.torch is not None and (unknown or worst_error(trial.onnx, trial.torch) > limit):
            found = first_in_export(double, trial, limit)
            if found is not None or not unknown:
                return found
        step = departure(double.given, double.model, trial, limit)
        return step.located if step else first_in_keras(planned, built, trial, limit)
    except (BridgeError, NotRun):  # the graph does not run node by node
        return None


def _in_keras(compared: Compared, trial: Trial, failed: Check) -> Located | None:
    """The first node whose value departs, or does not run, where nodes can be compared."""
    if compared.plan is None or compared.built is None:
        return None
    if failed.failure:
        return unrun_in_keras(compared.plan, compared.built, trial, failed.limit)
    return first_in_keras(compared.plan, compared.built, trial, failed.limit)


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
