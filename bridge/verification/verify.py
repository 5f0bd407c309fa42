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
from bridge.report import Check, Report
from bridge.verification import outputs
from bridge.verification.inputs import Sampler
from bridge.verification.nodes import node_errors
from bridge.verification.outputs import Trial
from bridge.verification.runners import OnnxRuntime, keras_call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.build import Built
    from bridge.frontend.source import Opened
    from bridge.plan import Plan
    from bridge.verification.training import Trainable


def prove(report: Report, opened: Opened, planned: Plan, built: Built) -> Report:
    """`report` with every comparison of `built` to the graph as exported and to torch."""
    tried, refused = trials(opened, planned.model)
    graph, doors = planned.model.graph, planned.doors
    call = keras_call(built.model, *([doors.get(v) for v in side] for side in (graph.inputs, graph.outputs)))
    checks = list(outputs.checks(call, tried))
    errors = node_errors(planned, built, tried[0])
    rows = tuple(
        replace(row, error=errors.get(made.node)) for row, made in zip(report.rows, built.made, strict=True)
    )
    notes = (*report.notes, *refused, *_unchanging(planned, tried))
    report = replace(report, checks=tuple(checks), rows=rows, notes=notes)
    report = allowing_rounding(report, opened, tried)
    return report if report.verified else replace(report, blame=_blame(report, planned, errors))


def _unchanging(planned: Plan, tried: list[Trial]) -> Iterator[str]:
    """What has to be said of outputs that were one number throughout, such as the zeros of a last ReLU."""
    for index, value in enumerate(planned.model.graph.outputs):
        arrays = [trial.onnx[index] for trial in tried]
        if all(array.size > 1 and bool((array == array.flat[0]).all()) for array in arrays):
            yield (
                f"output {value.name} is {arrays[0].flat[0]} throughout, at all sizes: comparing it shows little; "
                f"give example inputs at which it is not"
            )


def allowing_rounding(report: Report, opened: Opened, tried: list[Trial]) -> Report:
    """`report`, if it does not pass, judged by torch's own rounding: a network may amplify it beyond any fixed limit.
    That the formulas are equal is then for float64 to show (`prove_double`)."""
    if report.verified or opened.torch is None or not opened.retraceable:
        return report
    try:
        checks = outputs.allowing_rounding(report.checks, tried, opened.torch.double())
    except Exception:  # it does not run in float64, as where forward names a dtype
        return report
    judged = replace(report, checks=tuple(checks))
    note = "the network amplifies rounding: float32 was allowed to be off by ten times what torch's own float32 is"
    return replace(judged, notes=(*judged.notes, note)) if judged.verified else judged


def trials(opened: Opened, simple: ir.Model) -> tuple[list[Trial], list[str]]:
    """What torch and the graph as exported say at several sizes; and the sizes that were refused. `simple` is that
    graph as the passes left it."""
    sampler = Sampler.of(simple, opened.torch.examples if opened.torch else None)
    return outputs.trials(sampler, OnnxRuntime(opened.model), opened.torch)


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
        built = build(plan(simple))
        sampler = Sampler.of(simple, double.examples)
        checks = list(outputs.compare_double(built.model, double, sampler))
        found = parity(built, double, sampler) if training else None
    if found is None:
        return replace(report, checks=(*report.checks, *checks))
    single = opened.torch.copy()
    floor = single_precision(build(planned), single, Sampler.of(planned.model, single.examples), found.wanted)
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
    wanted = exact_gradients(double, Sampler.of(simple, double.examples))
    return single_precision(trained, single, Sampler.of(simple, single.examples), wanted)


def _blame(report: Report, planned: Plan, errors: dict[ir.Node, float]) -> str:
    """The leg that failed, and the first node that departs on it."""
    failed = next(check for check in report.checks if not check.passed)
    text = failed_leg(report)
    first = next((step for step in planned.steps if errors.get(step.node, 0.0) > failed.limit), None)
    if first is not None:
        text += f"; first at {first.node.op_type} {first.path or first.node.name} (error {errors[first.node]:.2g})"
    return text


def failed_leg(report: Report) -> str:
    """The first comparison that failed, in words."""
    failed = next(check for check in report.checks if not check.passed)
    return f"{failed.leg} differ by {failed.error:.2g} (limit {failed.limit:.0e}) at {failed.sizes}"
