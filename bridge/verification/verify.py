"""The proof of one conversion: all legs at all sizes, the error of every node, and training if asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from bridge.build import build
from bridge.errors import SourceError
from bridge.frontend.source import open_torch
from bridge.keras_compat import double_precision
from bridge.passes import simplify
from bridge.plan import plan
from bridge.report import SIMPLIFIED, TORCH_ORT, Check, Report
from bridge.verification import outputs
from bridge.verification.bisect import departure
from bridge.verification.doubt import Pair, settled
from bridge.verification.inputs import Sampler
from bridge.verification.nodes import node_errors
from bridge.verification.runners import OnnxRuntime, as_given, keras_call
from bridge.verification.trials import Run, Trial, odd_trials
from bridge.verification.trials import trials as run_trials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.build import Built
    from bridge.frontend.source import Opened
    from bridge.frontend.torch_module import Torch
    from bridge.plan import Plan
    from bridge.verification.training import Trainable


AMPLIFIES = (
    "the network amplifies rounding: float32 was allowed to be off by ten times what the float32 of {} is"
)


def prove(report: Report, opened: Opened, planned: Plan, built: Built) -> Report:
    """`report` with every comparison of `built` to the source as it was given, and to torch."""
    tried, notes = trials(opened, planned.model, odd=True)
    graph, doors = planned.model.graph, planned.doors
    call = keras_call(built.model, *([doors.get(v) for v in side] for side in (graph.inputs, graph.outputs)))
    simple, unrun = _simplified(planned.model)
    found = list(outputs.checks(call, tried, simple))
    runs = simple is not None and not any(check.failure for check in found)
    checks = tuple(settled(found, tried, opened, Pair(planned, built) if runs else None))
    errors = node_errors(planned, built, tried[0]) if runs else {}
    rows = tuple(
        replace(row, error=errors.get(made.node)) for row, made in zip(report.rows, built.made, strict=True)
    )
    notes = [*report.notes, *notes, *unrun, *_unchanging(planned, tried)]
    report = allowing_rounding(replace(report, checks=checks, rows=rows, notes=tuple(notes)), opened, tried)
    return report if report.verified else replace(report, blame=_blame(report, opened, planned, built, tried))


def _simplified(model: ir.Model) -> tuple[OnnxRuntime | None, list[str]]:
    """What runs the simplified graph; or what to say where onnxruntime has no kernel for it."""
    try:
        return OnnxRuntime(model), []
    except SourceError as error:
        return None, [f"neither passes nor single nodes are compared: {error}"]


def _unchanging(planned: Plan, tried: list[Trial]) -> Iterator[str]:
    """What has to be said of outputs that were one number throughout, such as the zeros of a last ReLU."""
    for index, value in enumerate(planned.model.graph.outputs):
        arrays = [trial.onnx[index] for trial in tried if trial.odd is None]
        if all(array.size > 1 and bool((array == array.flat[0]).all()) for array in arrays):
            yield (
                f"output {value.name} is {arrays[0].flat[0]} throughout, at all sizes: comparing it shows little; "
                f"give example inputs at which it is not"
            )


def allowing_rounding(report: Report, opened: Opened, tried: list[Trial]) -> Report:
    """`report`, if it does not pass, judged by the source's own rounding: a network may amplify it beyond any fixed
    limit. That of torch is looked at first, then that of the exported graph, whose formulas may lose digits that
    torch's keep (ONNX's Selu of tiny numbers is one). That they are equal is then for float64 to show
    (`prove_double`)."""
    if report.verified or opened.torch is None or not opened.retraceable:
        return report
    doubles: dict[str, Run] = {}
    judged = report
    try:
        for name, run in _doubles(opened, opened.torch.double()):
            doubles[name] = run
            judged = replace(report, checks=tuple(outputs.allowing_rounding(report.checks, tried, doubles)))
            if judged.verified:
                return replace(judged, notes=(*judged.notes, AMPLIFIES.format(" or ".join(doubles))))
    except Exception:  # it does not run in float64, as where forward names a dtype
        return judged
    return judged


def _doubles(opened: Opened, double: Torch) -> Iterator[tuple[str, Run]]:
    """torch in float64, and the graph that it exports then."""
    yield "torch", double
    args, kwargs = double.arguments
    yield "onnx", as_given(open_torch(double.module, args, kwargs, opened.dynamic_shapes).given)[0]


def trials(opened: Opened, simple: ir.Model, odd: bool = False) -> tuple[list[Trial], list[str]]:
    """What torch and the source as given say at several sizes, and at odd values if asked; and what there is to say of
    it. `simple` is the source as the passes left it."""
    sampler = Sampler.of(simple, opened.torch.examples if opened.torch else None, opened.asked)
    reference, reason = as_given(opened.given)
    tried, refused = run_trials(sampler, reference, opened.torch)
    if odd:
        tried += list(odd_trials(sampler, reference, opened.torch, tried))
    return tried, [f"the source is run by {reference.name}: {reason}", *refused] if reason else refused


def prove_double(report: Report, opened: Opened, planned: Plan, training: bool) -> Report:
    """The whole path once more in float64: exported, built and compared; and the training compared, if asked."""
    from bridge.verification.training import parity, single_precision

    if opened.torch is None or not opened.retraceable:
        raise SourceError(
            "comparing in float64, or in training, needs the nn.Module itself: convert(module, args)"
        )
    double = opened.torch.double()
    args, kwargs = double.arguments
    again = open_torch(double.module, args, kwargs, opened.dynamic_shapes)
    with double_precision():
        simple = simplify(again.model)
        simple.meta["ranges"] = planned.model.meta.get("ranges", {})
        built = build(plan(simple))
        sampler = Sampler.of(simple, double.examples, opened.asked)
        checks = list(outputs.compare_double(built.model, double, sampler))
        found = parity(built, double, sampler) if training else None
    if found is None:
        return replace(report, checks=(*report.checks, *checks))
    single = opened.torch.copy()
    sampler = Sampler.of(planned.model, single.examples, opened.asked)
    floor = single_precision(build(planned), single, sampler, found.wanted)
    return replace(
        report,
        checks=(*report.checks, *checks, *found.checks, floor),
        gradients=found.gradients,
        notes=(*report.notes, *found.notes),
    )


def gradients_of(trained: Trainable, opened: Opened, simple: ir.Model) -> Check:
    """The gradients of a Keras model with its weight map against torch's, in float32. Steps the model: give a copy."""
    from bridge.verification.training import exact_gradients, single_precision

    if opened.torch is None or not opened.retraceable:
        raise SourceError(
            "comparing gradients needs the nn.Module itself: package.module:callable, or (module, args)"
        )
    double, single = opened.torch.double(), opened.torch.copy()
    wanted = exact_gradients(double, Sampler.of(simple, double.examples, opened.asked))
    sampler = Sampler.of(simple, single.examples, opened.asked)
    return single_precision(trained, single, sampler, wanted)


def _blame(report: Report, opened: Opened, planned: Plan, built: Built, tried: list[Trial]) -> str:
    """The leg that failed first, and the step or node that departs on it."""
    failed = first_failed(report)
    trial = next((trial for trial in tried if trial.check(failed.leg, 0.0).at == failed.at), tried[0])
    if failed.leg == SIMPLIFIED:
        step = departure(opened.given, opened.model, trial, failed.limit)
        return failed_leg(report) + (f": {step}" if step else "")
    errors = node_errors(planned, built, trial) if failed.leg != TORCH_ORT and not failed.failure else {}
    first = next((step for step in planned.steps if errors.get(step.node, 0.0) > failed.limit), None)
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
