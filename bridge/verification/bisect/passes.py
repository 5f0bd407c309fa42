"""Which step made another graph of the source: the opset that was raised, or one of the passes, and at which node.

Every graph between the source and the one that is built can be run, so the first one whose outputs depart names the
step; the first value that both sides of it know by name, and that departs, names the node.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from bridge.errors import NotRun, SourceError
from bridge.frontend.source import Given, as_ir
from bridge.graph.functions import add_functions
from bridge.graph.provenance import source_line, torch_path
from bridge.passes import simplifying
from bridge.verification.bisect.origin import RAISED, Located, Origin, handed, with_makers
from bridge.verification.bisect.single import of_node
from bridge.verification.bisect.why import rounding_of
from bridge.verification.doubt.steps import given_to
from bridge.verification.metrics import Arrays, relative_error, worst_error
from bridge.verification.nodes import first_stop, portions
from bridge.verification.reference.as_given import values_of
from bridge.verification.runners import with_outputs
from bridge.verification.trials import Trial


@dataclass(frozen=True)
class Departure:
    """The first step after which the graph departs, why it does not run if it does not, and the node where it is
    known."""

    step: str
    failure: str = ""
    located: Located | None = None

    def __str__(self) -> str:
        origin = self.located.origin if self.located else None
        first = f", first at {origin.op} {origin.path or origin.output}" if origin else ""
        if self.failure:
            return f"{self.step}, after which the graph does not run{first}: {self.failure}"
        return f"{self.step}{first}"


def departure(given: Given, raised: ir.Model, trial: Trial, limit: float) -> Departure | None:
    """The first step after which the graph's outputs are off by more than `limit` from those of `given`, or after
    which onnxruntime does not run it; None if there is none."""
    before = given
    for step, after in steps(given, raised):
        try:
            got = values_of(after, [v.name for v in after.graph.outputs], trial.inputs, trial.dtype)
        except (SourceError, NotRun) as error:
            if trial.dtype == "float64":  # node by node, which the graph as given may not do either
                continue
            return Departure(step, str(error), _before_it_stops(step, as_ir(before), after, trial, limit))
        if worst_error(got, trial.onnx) > limit:
            return Departure(
                step, located=_first_node(step, as_ir(before), after, trial, limit, _named(after))
            )
        before = after
    return None


def steps(given: Given, raised: ir.Model) -> Iterator[tuple[str, ir.Model]]:
    """The graph after each step, with the name of the step."""
    if raised is not given:
        yield RAISED, raised
    for name, model in simplifying(raised):
        after = model.clone()
        add_functions(after)
        yield f"pass {name}", after


def _before_it_stops(
    step: str, before: ir.Model, after: ir.Model, trial: Trial, limit: float
) -> Located | None:
    """Of a graph that does not run at a trial the first node that is to blame: one whose output `before` has otherwise,
    or the one that does not run."""
    pairs = _named(after)

    def run(values: list[ir.Value]) -> Arrays:
        return values_of(after, [value.name for value in values], trial.inputs, trial.dtype)

    place = first_stop([value for _, value in pairs], run)
    if place is None:
        return None
    node, value = pairs[place]
    departs = _first_node(step, before, after, trial, limit, pairs[:place])
    where = torch_path(node) or node.name or "", source_line(node), (), trial.check("", 0.0).at
    return departs or Located(Origin(step, node.op_type, str(value.name), *where, math.inf))


def _named(model: ir.Model) -> list[tuple[ir.Node, ir.Value]]:
    return [(node, value) for node in model.graph for value in node.outputs if value.name]


def _first_node(
    step: str, before: ir.Model, after: ir.Model, trial: Trial, limit: float,
    among: Sequence[tuple[ir.Node, ir.Value]],
) -> Located | None:  # fmt: skip
    """The first node of `after`, `among` some with their outputs, whose output `before` knows too, and has otherwise;
    None if there is none or one of the two cannot be run node by node."""
    known = {value.name for _, value in _named(before)}
    shared = [(node, value) for node, value in among if value.name in known]
    errors: dict[str | None, float] = {value.name: 0.0 for value in after.graph.inputs}
    try:
        for portion in portions(shared, trial.sizes):
            names = [str(value.name) for _, value in portion]
            pairs = zip(
                *(values_of(model, names, trial.inputs, trial.dtype) for model in (before, after)),
                strict=True,
            )
            for (node, value), (want, got) in zip(portion, pairs, strict=True):
                if isinstance(want, list):  # a sequence, whose parts others read
                    continue
                errors[value.name] = error = relative_error(got, want)
                if error > limit:
                    return _located(step, (before, after), (node, value), trial, limit, errors)
    except (SourceError, NotRun):
        return None
    return None


def _located(
    step: str, graphs: tuple[ir.Model, ir.Model], at: tuple[ir.Node, ir.Value], trial: Trial, limit: float,
    errors: dict[str | None, float],
) -> Located:  # fmt: skip
    (before, after), (node, value) = graphs, at
    given = handed(given_to(node), lambda read: errors.get(read.name))
    shown = with_outputs(before, [value.name])
    origin = Origin(
        step, node.op_type, str(value.name), torch_path(node) or node.name or "", source_line(node), (),
        trial.check("", 0.0).at, errors[value.name], limit,
        given, _put_in(node, before), rounding=rounding_of(shown, trial.inputs),
    )  # fmt: skip
    wanted = values_of(before, [value.name], trial.inputs, trial.dtype)
    return Located(origin, of_node(after, node, trial, wanted))


def _put_in(node: ir.Node, before: ir.Model) -> tuple[str, ...]:
    """Its own output, and those of the nodes that a graph did not have `before` and it is computed of, any of which may
    be what is wrong."""
    known = {value.name for other in before.graph for value in other.outputs}

    def is_new(value: ir.Value) -> bool:
        maker = value.producer()
        return maker is not None and maker.outputs[0].name not in known

    return tuple(str(one.outputs[0].name) for one in with_makers([node], is_new))
