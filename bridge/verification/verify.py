"""The proof: all legs at all sizes, the error of every node, and float64 and training where that is asked or needed."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bridge.errors import BridgeError, NotRun, SourceError
from bridge.frontend.source import as_ir
from bridge.keras_compat import forgets_states, rounds_double
from bridge.verification import outputs
from bridge.verification.backends.process import BackendProcess
from bridge.verification.branches import branch_trials
from bridge.verification.checks import BACK, LEGS, LIMITS, Check, Verification, all_pass
from bridge.verification.double import float64_too, verify_float64
from bridge.verification.doubt.departures import KERAS, Compared, judge_departures, ordinary_checks_pass
from bridge.verification.inputs.sampler import Sampler, sizes_text
from bridge.verification.metrics import Arrays, worst_error
from bridge.verification.mismatch import failed_leg, first_mismatch, require_kernels
from bridge.verification.nodes import node_errors, node_trials
from bridge.verification.pieces import checks_in_pieces
from bridge.verification.precision import precision
from bridge.verification.reference.as_given import Evaluator, Runner, as_given, in_float64
from bridge.verification.runners import (
    OnnxRuntime,
    in_order,
    keras_call,
    keras_going_on,
    onnxruntime_at,
)
from bridge.verification.trials import Run, Trial, odd_trials, smallest_sizes, trials, values_drawn, varies
from bridge.weights.memory import same_bits
from bridge.weights.weight_map import seen_unchanged, split_by_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import keras

    from bridge.build.assembly import Built
    from bridge.frontend.source import Given, Source
    from bridge.graph.axes import Perm
    from bridge.ops.contract import Plan
    from bridge.verification.options import Verify
    from bridge.verification.training.sides import Trainable
    from bridge.weights.weight_map import WeightMap


Trials = tuple[list[Trial], list[str], Runner]
AMPLIFIES = (
    "the network amplifies rounding: {} was allowed to be off by what rounding makes of the source itself"
)
FORGETS = (
    "what Keras compiles on jax, such as predict, forgets the state of its recurrent layers: call the model"
)
SINGLE = "the source computes in float64; Keras on {} rounds it to float32, and keeps it with KERAS_BACKEND=tensorflow"


def verify_conversion(opened: Source, planned: Plan, built: Built, options: Verify) -> Verification:
    """Every comparison of `built` to the source as it was given, and to torch: in the source's own precision, and in
    float64 and in training where that is asked. In float64 also where rounding leaves room for a wrong formula."""
    trials, (graph, perms) = trials_of(opened, planned.model), (planned.model.graph, planned.signature_perms)
    orders = [[perms.get(value) for value in side] for side in (graph.inputs, graph.outputs)]
    found = _in_own_precision(opened, planned, built, trials, orders)
    going_on = in_order(keras_going_on(built.model, opened.outputs), *orders)
    found = _in_pieces(found, built.model, going_on, opened, planned.model, trials)
    if found.verified and options.backends:
        found = found.joined(_on_backends(built.model, options.backends, opened, trials[0], found, orders))
    if found.verified and opened.integers is not None:
        call = in_order(keras_call(built.model), *orders)
        found = found.joined(Verification(notes=(_from_integers(opened.integers, call, trials[0]),)))
    if options.float64 or options.training:
        found = _joined(found, verify_float64(opened, planned, found.dtype, options.training))
    elif _departs(found.checks) or found.verified and (found.amplifies or found.dtype != "float32"):
        found = _joined(found, float64_too(opened, planned, found.dtype))
    if found.verified or found.first_mismatch:
        return found
    first = failed_leg(found.checks) + (f"; first at {found.located.origin}" if found.located else "")
    return replace(found, first_mismatch="; ".join((first, *opened.departs)))


def _in_pieces(
    found: Verification, model: keras.Model, going_on: Run, opened: Source, simple: ir.Model, trials: Trials
) -> Verification:
    """With what a model that keeps its state gives for sequences in pieces, once it is equal for the whole."""
    if not found.verified:
        return found
    tried, _, reference = trials
    checks = checks_in_pieces(model, going_on, simple, opened.torch or reference, tried, found.checks)
    made = tuple(checks)
    told = (FORGETS,) if made and forgets_states() else ()
    return found.joined(Verification(made, notes=told))


def _departs(checks: Sequence[Check]) -> bool:
    """Whether outputs were given, and others than the source gives."""
    return any(check.leg in LEGS and not check.passed and not check.failure for check in checks)


def _joined(found: Verification, wide: Verification) -> Verification:
    """With what was found in float64, where no rounding hides the first node that departs."""
    joined, own, finer = found.joined(wide), found.located, wide.located
    both_depart = _departs(found.checks) and _departs(wide.checks)
    if not both_depart or finer is None or own and own.origin.node == finer.origin.node:
        return joined
    moves = own.origin.sensitivity if own else None
    finer = replace(finer, origin=replace(finer.origin, sensitivity=moves))
    return replace(joined, located=finer, first_mismatch="")


def _from_integers(integers: Given, call: Callable[[Arrays], Arrays], tried: list[Trial]) -> str:
    """How far the model of numbers is from the file of integers, at ordinary values of the inputs."""
    reference, _ = as_given(integers)
    inputs = [trial.inputs for trial in tried if trial.odd is None]
    error = max(worst_error(call(given), reference(given)) for given in inputs)
    return f"dequantized: off from the integers of the file by {error:.1e} of the largest magnitude, without a limit"


def verify_model(
    model: keras.Model, opened: Source, simple: ir.Model, backends: Sequence[str] = ()
) -> Verification:
    """The outputs of a Keras model, of whose making nothing is known, compared to those of its source, of which
    `simple` is the simplified graph; on other `backends` too."""
    tried, refused, reference = trials_of(opened, simple)
    call = keras_call(model, opened.outputs)
    found = _judged(list(outputs.checks(call, tried)), tried, opened, Compared(call), refused)
    going_on = keras_going_on(model, opened.outputs)
    found = _in_pieces(found, model, going_on, opened, simple, (tried, refused, reference))
    if found.verified and backends:
        found = found.joined(_on_backends(model, backends, opened, tried, found))
    return found if found.verified else replace(found, first_mismatch=failed_leg(found.checks))


def _on_backends(
    model: keras.Model, backends: Sequence[str], opened: Source, tried: list[Trial], found: Verification,
    orders: Sequence[Sequence[Perm]] | None = None,
) -> Verification:  # fmt: skip
    """The model, saved, on other backends at the inputs at which it was `found` equal, with the limits that rounding
    got there. `orders` are those of the axes of its inputs and outputs, where they are not the source's."""
    limits, checks = {(check.at, check.leg): check.limit for check in found.checks}, list[Check]()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        for name in backends:
            with BackendProcess(name, path, Path(folder), opened.outputs) as process:
                call = process if orders is None else in_order(process, *orders)
                mine = [check for check in outputs.checks(call, tried) if (check.at, check.leg) in limits]
                mine = [replace(c, limit=max(c.limit, limits[c.at, c.leg])) for c in mine]
                if not all_pass(mine):
                    mine = list(_judged(mine, tried, opened, Compared(call), ()).checks)
                checks += [replace(check, backend=name) for check in mine if check.leg in KERAS]
    failed = "" if all_pass(checks) else failed_leg(checks)
    return Verification(tuple(checks), first_mismatch=failed)


def _in_own_precision(
    opened: Source, planned: Plan, built: Built, trials: Trials, orders: Sequence[Sequence[Perm]]
) -> Verification:
    tried, refused, reference = trials
    call = in_order(keras_call(built.model, opened.outputs), *orders)
    simple, unrun = _simplified(planned.model, tried[0] if isinstance(reference, Evaluator) else None)
    checks = list(outputs.checks(call, tried, simple))
    require_kernels(checks, planned, built, tried[0])
    runs = simple is not None and not any(check.failure for check in checks)
    compared = Compared(call, simple, *((planned, built) if simple is not None else ()))
    errors = _errors(planned, built, tried) if runs else {}
    found = _judged(checks, tried, opened, compared, (*refused, *unrun))
    found = _rounding_as_keras(found).joined(Verification(checks=tuple(weights_not_back(built.weights))))
    if found.verified:
        return replace(found, errors=errors)
    first, located = first_mismatch(found.checks, opened, compared, tried, reference)
    return replace(found, errors=errors, first_mismatch=first, located=located)


def _errors(planned: Plan, built: Built, tried: list[Trial]) -> dict[ir.Node, dict[str, float]]:
    """Of every node its errors by the sizes at which it was compared."""
    found = defaultdict[ir.Node, dict[str, float]](dict)
    for trial in node_trials(planned, built, tried):
        for node, error in node_errors(planned, built, trial).items():
            found[node][sizes_text(trial.sizes)] = error
    return found


def _is_rounded(value: np.ndarray) -> bool:
    """Whether Keras has less than all digits of a weight."""
    return value.dtype == np.float64 and bool(rounds_double())


def _rounding_as_keras(found: Verification) -> Verification:
    """Of a source in float64 a model is proved in no more than Keras keeps."""
    backend = rounds_double()
    if found.dtype != "float64" or not backend:
        return found
    checks = [replace(check, dtype="float32") if check.leg in KERAS else check for check in found.checks]
    return replace(found, checks=tuple(checks), dtype="float32", notes=(*found.notes, SINGLE.format(backend)))


def weights_not_back(weights: WeightMap) -> Iterator[Check]:
    """A failed check where the weights, as they are in Keras, do not come back bit for bit."""
    if weights.one_way:
        return
    for part in split_by_parameters(weights):  # the whole of them takes as much memory again
        state = part.state.values if seen_unchanged(part) else part.pull()
        for name, value in part.state.values.items():
            if state[name].dtype != value.dtype or not same_bits(state[name], value):
                rounded = f", as {SINGLE.format(rounds_double())}" if _is_rounded(value) else ""
                yield Check(
                    BACK,
                    "as converted",
                    math.inf,
                    0.0,
                    failure=f"{name} does not come back{rounded}",
                    part=name,
                )
                return


def _judged(
    found: list[Check], tried: list[Trial], opened: Source, compared: Compared, notes: Sequence[str]
) -> Verification:
    """The checks that were `found`, as far as they say something of what is `compared`, and what the trials were
    worth."""
    checks = judge_departures(allowing_rounding(found, opened, tried), tried, opened, compared)
    unvaried = tuple(_unvaried(opened, tried))
    drawn = values_drawn(opened.model.graph.inputs, tried)
    judged = Verification(
        tuple(checks), notes=tuple(notes), drawn=drawn, unvaried=unvaried, dtype=tried[0].dtype
    )
    if not judged.amplifies or not judged.verified:
        return judged
    return replace(judged, notes=(*judged.notes, AMPLIFIES.format(judged.dtype)))


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
        arrays = [(trial.torch or trial.onnx)[index] for trial in tried if trial.odd is None]
        if all(array.size > 1 and not varies(array) for array in arrays):
            yield f"{value.name} ({arrays[0].flat[0]})"


def allowing_rounding(checks: list[Check], opened: Source, tried: list[Trial]) -> list[Check]:
    """`checks`, those that do not pass judged by the source's own rounding: a network may amplify it beyond any fixed
    limit. That of torch is looked at first, then that of the graph, whose formulas may lose digits that torch's keep
    (ONNX's Selu of tiny numbers is one). That they are equal is then for float64 to show (`verify_float64`)."""
    if all(check.passed for check in checks):
        return checks
    doubles, allowed = dict[str, Run](), checks
    try:
        for name, run in _doubles(opened):
            doubles[name] = run
            allowed = outputs.allowing_rounding(checks, tried, doubles)
            if ordinary_checks_pass(allowed):
                return allowed
    except (BridgeError, NotRun):  # it does not run in float64, as where forward names a dtype
        return allowed
    return allowed


def _doubles(opened: Source) -> Iterator[tuple[str, Run]]:
    """What runs a source in float64: torch where it can, then its graph, for which a module is exported once more."""
    if opened.module is not None:
        yield "torch", opened.exact()
    yield "onnx", in_float64(as_ir(opened.double.given))


def trials_of(opened: Source, simple: ir.Model) -> Trials:
    """What torch and the source as given say at several sizes, and at odd values; what there is to say of it; and what
    runs the source as given. `simple` is the source as the passes left it."""
    sampler = Sampler.of(simple, opened.examples, opened.asked, opened.model)
    budget = sampler.budget()
    reference, reason = as_given(opened.given, opened.examples)
    try:
        tried, refused = trials(sampler, reference, opened.torch, budget)
    except SourceError as error:  # as where a kernel says only when it runs that it has no float64
        if opened.torch or reason or sampler.precision != "float64":
            raise
        reference, reason = in_float64(as_ir(opened.given)), str(error)
        budget = sampler.budget()
        tried, refused = trials(sampler, reference, None, budget)
    tried += list(odd_trials(sampler, reference, opened.torch, tried, budget, refused))
    sources, sizes = (reference, opened.torch), smallest_sizes(tried, budget)
    branching, untaken = branch_trials(sampler, simple, sources, tried, sizes, budget)
    tried += branching
    refused += untaken
    by = [f"the source is run by {reference.name}: {reason}"] if reason else []
    return tried, [*by, *refused], reference


def verify_gradients(trained: Trainable, opened: Source, simple: ir.Model) -> Verification:
    """The gradients of a Keras model with its weight map against torch's, in float32. Steps the model: give a copy."""
    from bridge.verification.training.parity import exact_gradients, single_precision
    from bridge.verification.training.sides import require_comparable

    if opened.module is None:
        raise SourceError(
            "comparing gradients needs the nn.Module itself: package.module:callable, or (module, args)"
        )
    if precision(simple.graph) in LIMITS:
        raise SourceError(
            f"a step of SGD in {precision(simple.graph)} says nothing of the gradients of what was saved; "
            f"convert(module, args, verify=Verify(training=True)) compares them in float64"
        )
    require_comparable(opened.module.module)
    double, single = opened.exact(), opened.module.copy()
    wanted = exact_gradients(double, Sampler.of(simple, double.examples, opened.asked))
    sampler = Sampler.of(simple, single.examples, opened.asked)
    check = single_precision(trained, single, sampler, wanted)
    return Verification((check,), first_mismatch="" if check.passed else failed_leg([check]))
