"""Faults: what can be wrong with a node, a step or a layer, and how each is put in."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import onnx_ir as ir

from benchmarks.mutants.graphs import GRAPHS, TRAINING, touched
from benchmarks.mutants.layers import LAYERS
from bridge import passes
from bridge.build.assembly import Built
from bridge.frontend.source import Source
from bridge.ops.contract import Plan, Step
from bridge.passes import simplify
from bridge.plan import planner
from bridge.verification.bisect import origin
from bridge.verification.inputs.sizes import solve
from bridge.weights.weight import Weight

EXPORT, PASS, PLAN, BUILD = "export pass plan build".split()
STAGES = (EXPORT, PASS, PLAN, BUILD)
CHANCES = 60  # places that are looked at for one fault


@dataclass(frozen=True)
class Fault:
    """What is wrong where, and the names by which the proof may call it."""

    stage: str
    kind: str
    node: str  # the name of its first output, or of the layer
    named: str  # the stage, as a report has it
    seed: int
    outputs: frozenset[str] = field(default_factory=frozenset)
    run: str = ""  # the pass behind which it is

    @property
    def trains(self) -> bool:
        """Whether nothing but training shows it."""
        return self.kind in TRAINING

    @contextlib.contextmanager
    def put(self, right: Source) -> Iterator[Source]:
        """The source with the fault, or as it is while `bridge` makes it."""
        if self.stage == EXPORT:
            yield _exported(right, self)
            return
        sizes = _sizes(right)
        with contextlib.ExitStack() as stack:
            if self.stage == PASS:
                place = int(self.run)
                run = _behind(passes.PASSES[place], lambda model: _change(model, self, sizes))
                wrong = (*passes.PASSES[:place], run, *passes.PASSES[place + 1 :])
                stack.enter_context(patch.object(passes, "PASSES", wrong))
            elif self.stage == PLAN:
                _wrapped(stack, planner, "plan", lambda made: _replan(made, self))
            else:
                _wrapped(stack, None, "build", lambda made: _rebuild(made, self))
            yield right


def drawn(stage: str, right: Source, draw: random.Random) -> Fault | None:
    """A fault of that stage, if the network has a place for one."""
    seed = draw.randrange(1 << 30)
    if stage == EXPORT:
        return _of_graph(right.model, stage, "", origin.EXPORT, seed, draw, _sizes(right))
    if stage == PASS:
        place = draw.randrange(2, len(passes.PASSES) - 3)
        _, left = next(itertools.islice(passes.simplifying(right.model), place, None))
        named = f"pass {passes.PASSES[place].__name__}"
        return _of_graph(left, stage, str(place), named, seed, draw, _sizes(right))
    planned = planner.plan(simplify(right.model))
    if stage == PLAN:
        steps = [step for step in planned.steps if any(_step(step, kind, seed) for kind in STEPS)]
        if not steps:
            return None
        step = draw.choice(steps)
        kind = draw.choice([kind for kind in STEPS if _step(step, kind, seed)])
        name = str(step.node.outputs[0].name)
        return Fault(stage, kind, name, origin.BUILD, seed, frozenset({name}))
    from bridge.build.builder import build

    built = build(planned)
    places = [
        (layer, kind) for layer in built.model.layers for kind, (fits, _) in LAYERS.items() if fits(layer)
    ]
    if not places:
        return None
    kinds = sorted({kind for _, kind in places})
    kind = draw.choice(kinds)
    layer = draw.choice([layer for layer, other in places if other == kind])
    return Fault(stage, kind, layer.name, origin.BUILD, seed, frozenset({layer.name}))


# --- graphs ----------------------------------------------------------------------------------------------------------


def _copy(model: ir.Model) -> ir.Model:
    made = model.clone()
    made.meta.update(model.meta)
    return made


def _sizes(source: Source) -> dict[str, int]:
    return solve(source.model.graph.inputs, source.examples or [])


def _of_graph(
    model: ir.Model, stage: str, run: str, named: str, seed: int, draw: random.Random, sizes: dict[str, int]
) -> Fault | None:
    """A kind at random first, so that rare ones are drawn too; then a node."""
    graph = _copy(model)
    kinds = list(GRAPHS)
    draw.shuffle(kinds)
    for kind in kinds:
        nodes = list(graph.graph)
        draw.shuffle(nodes)
        for node in nodes[:CHANCES]:
            name, before = str(node.outputs[0].name), touched(graph)
            if name and GRAPHS[kind](node, random.Random(seed), sizes):
                names = frozenset(touched(graph) - before) | {str(v.name) for v in node.outputs}
                return Fault(stage, kind, name, named, seed, names, run)
    return None


def _change(model: ir.Model, fault: Fault, sizes: dict[str, int]) -> None:
    node = next((node for node in model.graph if node.outputs and node.outputs[0].name == fault.node), None)
    if node is not None:
        GRAPHS[fault.kind](node, random.Random(fault.seed), sizes)


def _behind(
    run: Callable[[ir.Model], None], change: Callable[[ir.Model], None]
) -> Callable[[ir.Model], None]:
    def wrong(model: ir.Model) -> None:
        run(model)
        change(model)

    wrong.__name__ = run.__name__
    return wrong


def _exported(right: Source, fault: Fault) -> Source:
    def changed(source: Source) -> Source:
        model = _copy(source.model)
        _change(model, fault, _sizes(right))
        return replace(source, model=model, given=model)

    wrong = changed(right)
    # In the place of what `Source` would export
    wrong.__dict__["double"] = wrong.__dict__["double_module"] = changed(right.double)
    return wrong


# --- plan ------------------------------------------------------------------------------------------------------------


def _wrapped(stack: contextlib.ExitStack, owner: Any, name: str, change: Callable[[Any], Any]) -> None:
    """A function whose result is changed, wherever the proof has it."""
    from bridge.build import builder
    from bridge.verification import double

    right = getattr(double, name)

    def wrong(*given: Any, **options: Any) -> Any:
        return change(right(*given, **options))

    for home in (owner or builder, double):
        stack.enter_context(patch.object(home, name, wrong))


STEPS = (
    "epsilon",
    "momentum",
    "softmax axis",
    "dropout rate",
    "slice",
    "gates",
    "lost bias",
    "transposed kernel",
)


def _step(step: Step, kind: str, seed: int) -> Step | None:
    """The step with the fault; None where it has no place for it."""
    attributes = dict(step.attributes)
    for kinds, name, change in (
        ("epsilon", "epsilon", lambda x: 3 * x),
        ("momentum", "momentum", lambda x: 0.5 * x),
        ("dropout rate", "ratio", lambda x: 0.5 * x + 0.3),
    ):
        if kind == kinds and isinstance(attributes.get(name), float):
            return replace(step, attributes={**attributes, name: change(attributes[name])})
    if kind == "softmax axis" and "oftmax" in step.node.op_type and isinstance(attributes.get("axis"), int):
        rank = len(step.node.outputs[0].shape or ())
        if rank > 1:
            return replace(step, attributes={**attributes, "axis": (attributes["axis"] - 1) % rank})
    for place, operand in enumerate(step.operands):
        known: Any = operand.known
        if kind == "slice" and step.node.op_type == "Slice" and place == 1 and isinstance(known, list):
            return step.reordered({place: [x + 1 if isinstance(x, int) else x for x in known]})
        if not isinstance(known, Weight):
            continue
        if kind == "dropout rate" or (wrong := _weight(kind, step.node.op_type, place, known)) is None:
            continue
        return step.reordered({place: wrong})
    return None


def _weight(kind: str, op: str, place: int, weight: Weight) -> Weight | None:
    dims, gates = weight.dims, 4 if "LSTM" in op else 3 if "GRU" in op else 0
    if kind == "gates" and gates and len(dims) == 2 and dims[0] % gates == 0:
        return weight.blocks((1, 0, *range(2, gates)))
    if (
        kind == "lost bias"
        and len(dims) == 1
        and op in ("Linear", "Conv", "LayerNormalization")
        and place == 2
    ):
        return weight.fill(0.0, dims)
    if kind == "transposed kernel" and op == "Linear" and len(dims) == 2 and dims[0] == dims[1]:
        return weight.transpose(1, 0)
    return None


def _replan(made: Plan, fault: Fault) -> Plan:
    for place, step in enumerate(made.steps):
        if step.node.outputs[0].name == fault.node and (wrong := _step(step, fault.kind, fault.seed)):
            made.steps[place] = wrong
    return made


# --- build -----------------------------------------------------------------------------------------------------------


def _rebuild(made: Built, fault: Fault) -> Built:
    layer = next((layer for layer in made.model.layers if layer.name == fault.node), None)
    if layer is not None:
        LAYERS[fault.kind][1](layer, random.Random(fault.seed))
    return made
