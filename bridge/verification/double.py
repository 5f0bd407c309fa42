"""The whole path of a source once more in float64, where a wrong formula cannot hide behind rounding; and training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bridge.build.builder import build
from bridge.errors import BridgeError, NotRun, SourceError
from bridge.frontend.source import as_ir
from bridge.graph.ranges import Ranges
from bridge.graph.rewriting import numpy_type
from bridge.keras_compat import TWINS, double_precision
from bridge.passes import simplify
from bridge.plan.planner import plan
from bridge.verification import outputs
from bridge.verification.bisect.training import first_in_training
from bridge.verification.checks import LIMIT_FLOAT64, ORT_KERAS, TORCH_KERAS, Check, Verification, all_pass
from bridge.verification.fits import require_fit_in_float64
from bridge.verification.inputs.odd import nudged
from bridge.verification.inputs.sampler import Sampler
from bridge.verification.metrics import cast
from bridge.verification.mismatch import first_failed, first_in_float64
from bridge.verification.outputs import Rounding
from bridge.verification.precision import precision, step_of
from bridge.verification.reference.as_given import as_given, in_float64
from bridge.verification.trials import Run, Trial, trials_that_run
from bridge.verification.work import SLOWER
from bridge.weights.weight_map import detach_from_source

if TYPE_CHECKING:
    from bridge.build.assembly import Built
    from bridge.frontend.source import Source
    from bridge.frontend.torch.module import Torch
    from bridge.ops.contract import Plan
    from bridge.verification.bisect.origin import Located
    from bridge.verification.training.sides import ByName

NAMED = (
    "in float64 too the source computes in {} where it names that type, which bounds what is shown there; {}"
)
THROUGHOUT = "the graph that torch exported is compared in float64 throughout"
OTHERWISE = "in float64 other ways were compared than the model takes, where Keras rounds: {}"


def _roundings(opened: Source, dtype: str, wide: _Wide) -> Iterator[Rounding]:
    """What shows how a source that computes in `dtype` rounds: itself on inputs in float64; or, of one that does so in
    float64, that on inputs off by their last bit. And of a module that names a type in float64 too, itself as if it
    named none."""
    named, module = wide.sampler.precision, wide.source.torch
    if dtype == "float64":
        yield Rounding(lambda inputs: wide.run(nudged(inputs)))
    else:
        source: Run = opened.torch or as_given(opened.given)[0]
        dtypes = [numpy_type(value) for value in opened.model.graph.inputs]
        yield Rounding(
            lambda inputs: source([x.astype(dtype) for x, dtype in zip(inputs, dtypes, strict=True)]),
            step_of(named) / step_of(dtype),
        )
    if module is not None and named != "float64":
        yield Rounding(module.throughout())


def verify_float64(opened: Source, planned: Plan, dtype: str, training: bool) -> Verification:
    """The whole path of a source in `dtype` once more in float64: exported, built and compared; and the training
    compared, if asked."""
    from bridge.verification.training.parity import parity
    from bridge.verification.training.sides import require_comparable

    if training:
        if opened.module is None:
            raise SourceError("comparing in training needs the nn.Module itself: convert(module, args)")
        require_comparable(opened.module.module)
    require_fit_in_float64(opened)
    double = opened.double
    if training and double.torch is None:
        double = opened.double_module  # which says why there is none
    with double_precision():
        wide, trained = _Wide.of(double, opened, planned), None
        found = _outputs_in_float64(wide, _roundings(opened, dtype, wide))
        named = precision(double.model.graph)
        if named != "float64" and double.torch and any(c.limit > LIMIT_FLOAT64 for c in found.checks):
            found = found.joined(_by_graph(opened, planned, dtype, named))
        if training:
            # torch steps what its weights are read from
            apart = replace(wide.built, weights=detach_from_source(wide.built.weights))
            assert double.torch is not None
            trained = parity(apart, double.torch, wide.sampler)
    if not double.retraceable:
        found = found.joined(Verification(notes=double.notes))
    if wide.built.twins and dtype != "float64":
        found = found.joined(Verification(notes=(OTHERWISE.format(_reasons(wide.built.twins)),)))
    if trained is None:
        return found
    if dtype == "float32" and opened.module is not None:
        found = found.joined(_float32_gradients(opened.module.copy(), opened, planned, trained.wanted))
    located = first_in_training(trained.checks, double, wide.built)
    return found.joined(
        Verification(trained.checks, gradients=trained.gradients, notes=trained.notes, located=located)
    )


def _by_graph(opened: Source, planned: Plan, dtype: str, named: str) -> Verification:
    """A module that has `named` a type, in float64 throughout by the graph that torch exported; and what to say where
    that is none there."""
    try:
        graph = _Wide.of(opened.widened, opened, planned)
        found = _outputs_in_float64(graph, _roundings(opened, dtype, graph))
    except (BridgeError, NotRun) as error:
        return Verification(notes=(NAMED.format(named, f"its graph is not compared there: {error}"),))
    return found.joined(Verification(notes=(NAMED.format(named, THROUGHOUT),)))


def _reasons(twins: Sequence[str]) -> str:
    return ", ".join(f"{name} ({TWINS[name]})" for name in twins)


@dataclass(frozen=True)
class _Wide:
    """A source in float64, what runs it, and what was made of it."""

    source: Source
    plan: Plan
    built: Built
    run: Run
    sampler: Sampler

    @classmethod
    def of(cls, double: Source, opened: Source, planned: Plan) -> _Wide:
        simple = simplify(double.model)
        Ranges.of(planned.model).enter(simple)
        made = plan(simple)
        examples = double.examples or opened.examples and cast(opened.examples, "float64")
        sampler = Sampler.of(simple, examples, opened.asked, double.model)
        return cls(double, made, build(made), double.torch or in_float64(as_ir(double.given)), sampler)

    def departed(self, failed: Check) -> Located | None:
        """Where it departs, at the first inputs."""
        draw, wanted = next(trials_that_run(self.run, self.sampler, [], self.sampler.budget()))
        torch, graph = (wanted, wanted) if self.source.torch is not None else (None, wanted)
        with contextlib.suppress(SourceError, NotRun):  # of a graph that does not run node by node
            graph = graph if torch is None else in_float64(as_ir(self.source.given))(draw.inputs)
        trial = Trial(draw.sizes, draw.inputs, torch, graph, dtype="float64")
        return first_in_float64(self.source, self.plan, self.built, trial, failed.limit)


def _outputs_in_float64(wide: _Wide, roundings: Iterable[Rounding]) -> Verification:
    leg, refused = TORCH_KERAS if wide.source.torch else ORT_KERAS, list[str]()
    budget = wide.sampler.budget(1 if wide.source.torch else SLOWER, " in float64")
    model, source = wide.built.model, wide.source
    found = outputs.compare_double(leg, model, source, wide.run, [*roundings], wide.sampler, budget, refused)
    checks = tuple(found)
    located = None if all_pass(checks) else wide.departed(first_failed(checks))
    return Verification(checks, notes=tuple(refused), located=located)


def _float32_gradients(module: Torch, opened: Source, planned: Plan, wanted: ByName) -> Verification:
    """Those of a model that is built once more, because it is trained, as `module` is."""
    from bridge.verification.training.parity import single_precision

    sampler = Sampler.of(planned.model, module.examples, opened.asked, opened.model)
    built = build(planned)
    check = single_precision(built, module, sampler, wanted)
    return Verification((check,), located=first_in_training([check], opened, built))


def float64_too(opened: Source, planned: Plan, dtype: str) -> Verification:
    """`verify_float64` where rounding, of the precision or the network's, leaves room for a wrong formula; and what to
    say where the source does not run in float64, as where forward names a dtype."""
    try:
        return verify_float64(opened, planned, dtype, training=False)
    except BridgeError as error:
        return Verification(notes=(f"compared in {dtype} alone: {error}",))
