"""Which step made another graph of the source: the opset that was raised, or one of the passes, and at which node.

Every graph between the source and the one that is built can be run, so the first one whose outputs depart names the
step; the first value that both sides of it know by name, and that departs, names the node.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from bridge.errors import NotRun, SourceError
from bridge.frontend.source import Given, as_ir
from bridge.graph.provenance import torch_path
from bridge.passes import simplify
from bridge.verification.metrics import Arrays, relative_error, worst_error
from bridge.verification.reference.as_given import as_given
from bridge.verification.runners import values_in
from bridge.verification.trials import Trial

RAISED = "raising the opset"


def departure(given: Given, raised: ir.Model, trial: Trial, limit: float) -> str:
    """The first step after which the graph's outputs are off by more than `limit` from those of `given`, or after
    which it does not run, in words; empty if there is none."""
    before = given
    for step, after in _steps(given, raised):
        try:
            got = as_given(after)[0](trial.inputs)
        except (SourceError, NotRun) as error:
            return f"{step}, after which the graph does not run: {error}"
        if worst_error(got, trial.onnx) > limit:
            return f"{step}{_first_node(before, after, trial.inputs, limit)}"
        before = after
    return ""


def _steps(given: Given, raised: ir.Model) -> Iterator[tuple[str, ir.Model]]:
    """The graph after each step, with the name of the step."""
    if raised is not given:
        yield RAISED, raised
    left: list[tuple[str, ir.Model]] = []
    simplify(raised, after=lambda name, model: left.append((f"pass {name}", model.clone())))
    yield from left


def _first_node(given: Given, after: ir.Model, inputs: Arrays, limit: float) -> str:
    """ ", first at" the first node of `after` whose output `given` knows too, and has otherwise; empty if there is none
    or `given` cannot be run node by node."""
    before = as_ir(given)
    known = {value.name for node in before.graph for value in node.outputs}
    shared = [(node, v.name) for node in after.graph for v in node.outputs if v.name and v.name in known]
    names = [name for _, name in shared]
    try:
        pairs = list(zip(values_in(before, names, inputs), values_in(after, names, inputs), strict=True))
    except (SourceError, NotRun):
        return ""
    for (node, name), (want, got) in zip(shared, pairs, strict=True):
        if relative_error(got, want) > limit:
            return f", first at {node.op_type} {torch_path(node) or name}"
    return ""
