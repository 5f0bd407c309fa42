"""The proof of one conversion: all legs at all sizes, the error of every node, and training if asked."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bridge.build.builder import build
from bridge.errors import BridgeError, NotRun, SourceError
from bridge.frontend.source import as_ir
from bridge.graph.ranges import Ranges
from bridge.keras_compat import double_precision
from bridge.passes import simplify
from bridge.plan.planner import plan
from bridge.report.report import (
    BACK,
    LEGS,
    LIMITS,
    ORT_KERAS,
    SIMPLIFIED,
    TORCH_KERAS,
    TORCH_ORT,
    Check,
    Report,
)
from bridge.verification import outputs
from bridge.verification.bisect import departure
from bridge.verification.doubt import Compared, passed, settled
from bridge.verification.inputs import Sampler
from bridge.verification.nodes import node_errors
from bridge.verification.odd import nudged
from bridge.verification.precision import precision
from bridge.verification.reference import Evaluator, Runner, as_given, in_float64
from bridge.verification.runners import OnnxRuntime, keras_call, onnxruntime_at
from bridge.verification.trials import Run, Trial, odd_trials, varies
from bridge.verification.trials import trials as run_trials
from bridge.verification.work import SLOWER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.build.builder import Built
    from bridge.frontend.source import Source
    from bridge.plan.planner import Plan
    from bridge.verification.training import Trainable
    from bridge.weights.weight_map import WeightMap


AMPLIFIES = (
    "the network amplifies rounding: {} was allowed to be off by what rounding makes of the source itself"
)


def prove(report: Report, opened: Source, planned: Plan, built: Built) -> Report:
    """`report` with every comparison of `built` to the source as it was given, and to torch."""
    tried, refused, reference = trials(opened, planned.model, odd=True)
    graph, doors = planned.model.graph, planned.signature_perms
    call = keras_call(built.model, *([doors.get(v) for v in side] for side in (graph.inputs, graph.outputs)))
    simple, unrun = _simplified(planned.model, tried[0] if isinstance(reference, Evaluator) else None)
    found = list(outputs.checks(call, tried, simple))
    runs = simple is not None and not any(check.failure for check in found)
    compared = Compared(call, simple, planned, built) if runs else Compared(call, simple)
    errors = node_errors(planned, built, tried[0]) if runs else {}
    rows = tuple(
        replace(row, error=errors.get(made.node)) for row, made in zip(report.rows, built.made, strict=True)
    )
    report = replace(report, rows=rows, notes=(*report.notes, *refused, *unrun))
    report = judged(report, found, tried, opened, compared)
    report = replace(report, checks=(*report.checks, *not_back(built.weights)))
    if report.verified:
        return report
    return replace(report, blame=_blame(report, opened, compared, tried, reference))


def not_back(weights: WeightMap) -> Iterator[Check]:
    """A failed check where the weights, as they are in Keras, do not come back bit for bit."""
    if not all(entry.recipe.invertible for entry in weights):
        return
    state = weights.pull()
    for name, value in weights.state.values.items():
        if state[name].dtype != value.dtype or state[name].tobytes() != value.tobytes():
            yield Check(BACK, "as converted", math.inf, 0.0, failure=f"{name} does not come back")
            return


def judged(
    report: Report, found: list[Check], tried: list[Trial], opened: Source, compared: Compared
) -> Report:
    """`report` with the checks that were `found`, as far as they say something of what is `compared`, and what the
    trials were worth."""
    checks = settled(allowing_rounding(found, opened, tried), tried, opened, compared)
    report = replace(
        report, checks=tuple(checks), unvaried=tuple(_unvaried(opened, tried)), dtype=tried[0].dtype
    )
    note = AMPLIFIES.format(report.dtype)
    return replace(report, notes=(*report.notes, note)) if report.amplifies and report.verified else report


def _simplified(model: ir.Model, legal: Trial | None) -> tuple[OnnxRuntime | None, list[str]]:
    """What runs the simplified graph; or what to say where onnxruntime has no kernel for it, which may show only when
    it runs, at inputs `legal` for a source that onnxruntime does not run."""
    try:
        return onnxruntime_at(model, legal.inputs if legal else None), []
    except SourceError as error:
        return None, [f"neither passes nor single nodes are compared: {error}"]


def _unvaried(opened: Source, tried: list[Trial]) -> Iterator[str]:
    """The outputs that were one number throughout, such as the zeros of a last ReLU."""
    for index, value in enumerate(opened.model.graph.outputs):
        arrays = [trial.onnx[index] for trial in tried if trial.odd is None]
        if all(array.size > 1 and not varies(array) for array in arrays):
            yield f"{value.name} ({arrays[0].flat[0]})"


def allowing_rounding(checks: list[Check], opened: Source, tried: list[Trial]) -> list[Check]:
    """`checks`, those that do not pass judged by the source's own rounding: a network may amplify it beyond any fixed
    limit. That of torch is looked at first, then that of the graph, whose formulas may lose digits that torch's keep
    (ONNX's Selu of tiny numbers is one). That they are equal is then for float64 to show (`prove_double`)."""
    if all(check.passed for check in checks):
        return checks
    doubles, allowed = dict[str, Run](), checks
    try:
        for name, run in _doubles(opened):
            doubles[name] = run
            allowed = outputs.allowing_rounding(checks, tried, doubles)
            if passed(allowed):
                return allowed
    except (BridgeError, NotRun):  # it does not run in float64, as where forward names a dtype
        return allowed
    return allowed


def _doubles(opened: Source) -> Iterator[tuple[str, Run]]:
    """What runs a source in float64: torch where it can, then its graph, for which a module is exported once more."""
    if opened.module is not None:
        yield "torch", opened.module.double()
    yield "onnx", in_float64(as_ir(opened.double.given))


def _examples(opened: Source) -> list[np.ndarray] | None:
    return opened.torch.examples if opened.torch else None


def trials(opened: Source, simple: ir.Model, odd: bool = False) -> tuple[list[Trial], list[str], Runner]:
    """What torch and the source as given say at several sizes, and at odd values if asked; what there is to say of it;
    and what runs the source as given. `simple` is the source as the passes left it."""
    sampler = Sampler.of(simple, _examples(opened), opened.asked)
    budget = sampler.budget()
    reference, reason = as_given(opened.given, _examples(opened))
    try:
        tried, refused = run_trials(sampler, reference, opened.torch, budget)
    except SourceError as error:  # as where a kernel says only when it runs that it has no float64
        if opened.torch or reason or sampler.precision != "float64":
            raise
        reference, reason = in_float64(as_ir(opened.given)), str(error)
        budget = sampler.budget()
        tried, refused = run_trials(sampler, reference, None, budget)
    if odd:
        tried += list(odd_trials(sampler, reference, opened.torch, tried, budget, refused))
    by = [f"the source is run by {reference.name}: {reason}"] if reason else []
    return tried, [*by, *refused], reference


def _rounding(opened: Source, dtype: str, double: Run) -> Run:
    """What shows the rounding of a source that computes in `dtype`: itself on inputs in float64; or, of one that does
    so in float64, `double` on inputs off by their last bit."""
    if dtype == "float64":
        return lambda inputs: double(nudged(inputs))
    source: Run = opened.torch or as_given(opened.given)[0]
    dtypes = [value.dtype.numpy() for value in opened.model.graph.inputs]
    return lambda inputs: source([x.astype(dtype) for x, dtype in zip(inputs, dtypes, strict=True)])


def prove_double(report: Report, opened: Source, planned: Plan, training: bool) -> Report:
    """The whole path once more in float64: exported, built and compared; and the training compared, if asked."""
    from bridge.verification.sides import require_comparable
    from bridge.verification.training import parity, single_precision

    if training:
        if opened.module is None:
            raise SourceError("comparing in training needs the nn.Module itself: convert(module, args)")
        require_comparable(opened.module.module)
    double = opened.double
    run: Run = double.torch or in_float64(as_ir(double.given))
    with double_precision():
        simple = simplify(double.model)
        Ranges.of(planned.model).enter(simple)
        built = build(plan(simple))
        sampler = Sampler.of(simple, _examples(double), opened.asked)
        leg = TORCH_KERAS if double.torch else ORT_KERAS
        single, refused = _rounding(opened, report.dtype, run), list[str]()
        budget = sampler.budget(1 if double.torch else SLOWER, " in float64")
        checks = list(
            outputs.compare_double(
                leg, built.model, double, run, single, report.dtype, sampler, budget, refused
            )
        )
        report = replace(
            report, notes=(*report.notes, *(note for note in refused if note not in report.notes))
        )
        found = parity(built, double.torch, sampler) if training and double.torch else None
    if found is None or opened.module is None:
        return replace(report, checks=(*report.checks, *checks))
    if report.dtype == "float32":
        trained = opened.module.copy()
        sampler = Sampler.of(planned.model, trained.examples, opened.asked)
        checks.append(single_precision(build(planned), trained, sampler, found.wanted))
    return replace(
        report,
        checks=(*report.checks, *checks, *found.checks),
        gradients=found.gradients,
        notes=(*report.notes, *found.notes),
    )


def in_double_too(report: Report, opened: Source, planned: Plan) -> Report:
    """`prove_double` where rounding, of the precision or the network's, leaves room for a wrong formula; and what to
    say where the source does not run in float64, as where forward names a dtype."""
    try:
        return prove_double(report, opened, planned, training=False)
    except BridgeError as error:
        return replace(report, notes=(*report.notes, f"compared in {report.dtype} alone: {error}"))


def gradients_of(trained: Trainable, opened: Source, simple: ir.Model) -> Check:
    """The gradients of a Keras model with its weight map against torch's, in float32. Steps the model: give a copy."""
    from bridge.verification.sides import require_comparable
    from bridge.verification.training import exact_gradients, single_precision

    if opened.module is None:
        raise SourceError(
            "comparing gradients needs the nn.Module itself: package.module:callable, or (module, args)"
        )
    if precision(simple.graph) in LIMITS:
        raise SourceError(
            f"a step of SGD in {precision(simple.graph)} says nothing of the gradients of what was saved; "
            f"convert(training=True) compares them in float64"
        )
    require_comparable(opened.module.module)
    double, single = opened.module.double(), opened.module.copy()
    wanted = exact_gradients(double, Sampler.of(simple, double.examples, opened.asked))
    sampler = Sampler.of(simple, single.examples, opened.asked)
    return single_precision(trained, single, sampler, wanted)


def _blame(report: Report, opened: Source, compared: Compared, tried: list[Trial], reference: Runner) -> str:
    """The leg that failed first, and the step or node that departs on it where onnxruntime runs the graph; the step
    after which it does not, though it runs the source."""
    failed = first_failed(report)
    if failed.leg not in LEGS:
        return failed_leg(report)
    trial = next((trial for trial in tried if trial.check(failed.leg, 0.0).at == failed.at), tried[0])
    unrun = compared.simple is None and isinstance(reference, OnnxRuntime)  # which may be what a pass did
    if failed.leg == SIMPLIFIED or unrun and failed.leg != TORCH_ORT:
        step = departure(opened.given, opened.model, trial, failed.limit)
        return failed_leg(report) + (f": {step}" if step else "")
    if failed.leg == TORCH_ORT:
        return "; ".join((failed_leg(report), *opened.departs))
    if compared.plan is None or compared.built is None:
        return failed_leg(report)
    errors = node_errors(compared.plan, compared.built, trial)
    first = next((step for step in compared.plan.steps if errors.get(step.node, 0.0) > failed.limit), None)
    if first is None:
        return failed_leg(report)
    where = f"{first.node.op_type} {first.path or first.node.name}"
    return f"{failed_leg(report)}; first at {where} (error {errors[first.node]:.2g})"


def first_failed(report: Report) -> Check:
    return next(check for check in report.checks if not check.passed)


def failed_leg(report: Report) -> str:
    """The first comparison that failed, in words."""
    failed = first_failed(report)
    if failed.failure:
        return f"{failed.leg} at {failed.at}: {failed.failure}"
    return f"{failed.leg} differ by {failed.error:.2g} (limit {failed.limit:.0e}) at {failed.at}"
