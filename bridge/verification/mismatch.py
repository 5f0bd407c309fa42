"""Where a conversion departs from its source first: the leg, and the step or the node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge.errors import UnsupportedError
from bridge.keras_compat import lacks_kernel
from bridge.verification.bisect import departure
from bridge.verification.checks import LEGS, SIMPLIFIED, TORCH_ORT, Check
from bridge.verification.doubt.departures import KERAS, Compared
from bridge.verification.nodes import first_unrun, node_errors
from bridge.verification.reference.as_given import Runner
from bridge.verification.runners import OnnxRuntime
from bridge.verification.trials import Trial

if TYPE_CHECKING:
    from bridge.build.assembly import Built
    from bridge.frontend.source import Source
    from bridge.ops.contract import Plan


def first_mismatch(
    checks: Sequence[Check], opened: Source, compared: Compared, tried: list[Trial], reference: Runner
) -> str:
    """The leg that failed first, and the step or node that departs on it where onnxruntime runs the graph; the step
    after which it does not, though it runs the source."""
    failed, leg = first_failed(checks), failed_leg(checks)
    if failed.leg not in LEGS:
        return leg
    trial = next((trial for trial in tried if trial.check(failed.leg, 0.0).at == failed.at), tried[0])
    unrun = compared.simple is None and isinstance(reference, OnnxRuntime)  # which may be what a pass did
    if failed.leg == SIMPLIFIED or unrun and failed.leg != TORCH_ORT:
        step = departure(opened.given, opened.model, trial, failed.limit)
        return leg + (f": {step}" if step else "")
    if failed.leg == TORCH_ORT:
        return "; ".join((leg, *opened.departs))
    return leg + _first_node(compared, trial, failed)


def _first_node(compared: Compared, trial: Trial, failed: Check) -> str:
    """ "; first at" the first node whose value departs, or does not run, where nodes can be compared."""
    if compared.plan is None or compared.built is None:
        return ""
    if failed.failure:
        unrun = first_unrun(compared.plan, compared.built, trial)
        return f"; first at {unrun.node.op_type} {unrun.path or unrun.node.name}" if unrun else ""
    limit = failed.limit
    errors = node_errors(compared.plan, compared.built, trial)
    first = next((step for step in compared.plan.steps if errors.get(step.node, 0.0) > limit), None)
    if first is None:
        return ""
    where = f"{first.node.op_type} {first.path or first.node.name}"
    return f"; first at {where} (error {errors[first.node]:.2g})"


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
