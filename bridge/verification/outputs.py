"""torch, onnxruntime and Keras on the same inputs, at several sizes of every free axis.

torch ↔ onnxruntime       the export leg, and the noise floor
as given ↔ as simplified  what was done to the graph before it was built: the opset raised, the passes
onnxruntime ↔ Keras       the whole of a file; onnxruntime runs the graph as it was given
torch ↔ Keras             the whole; also in float64, where a wrong formula cannot hide behind rounding
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import keras

from bridge.errors import NotRun, SourceError
from bridge.verification.checks import (
    LEGS,
    LIMIT,
    LIMIT_FLOAT64,
    ORT_KERAS,
    SIMPLIFIED,
    TORCH_KERAS,
    TORCH_ORT,
    Check,
)
from bridge.verification.doubt.sure import Alone, elements_sure
from bridge.verification.inputs.odd import Odd
from bridge.verification.inputs.sampler import Sampler, sizes_text
from bridge.verification.metrics import Arrays, cast, error_where, worst_error
from bridge.verification.precision import ROUNDING_FACTOR
from bridge.verification.runners import OnnxRuntime, keras_call
from bridge.verification.trials import Run, Shapes, Trial, as_long_as_the_graph, trials_that_run
from bridge.verification.work import Budget

if TYPE_CHECKING:
    from bridge.frontend.source import Source


@dataclass(frozen=True)
class Rounding:
    """A run of a source by which its rounding in float64 is seen: in a precision that what it computes in there is as
    many times `finer` than."""

    run: Run
    finer: float = 1.0


Rounded = tuple[Arrays, float]  # what such a run gives, and how much finer
LOST = 0.5  # of the largest magnitude, by which values are off that have no digit left


def checks(call: Run, tried: Sequence[Trial], simple: OnnxRuntime | None = None) -> Iterator[Check]:
    """All legs at all sizes; `call` is a `keras_call`, `simple` runs the graph that was built. In its LSTM, GRU and RNN
    onnxruntime has answers of its own to NaN and infinities: a step written out, which became one, has others."""
    for trial in tried:
        if trial.torch is not None:
            yield trial.check(TORCH_ORT, error_where(trial.onnx, trial.torch, trial.room))
        if simple is not None and not (simple.is_recurrent and trial.odd is Odd.ENDLESS):
            yield from _compared(simple, trial, {SIMPLIFIED: trial.onnx}, "the simplified graph")
        wanted = {ORT_KERAS: trial.onnx, TORCH_KERAS: trial.torch}
        yield from _compared(call, trial, wanted, "Keras")


def _compared(run: Run, trial: Trial, wanted: dict[str, Arrays | None], name: str) -> Iterator[Check]:
    """One check for each leg in `wanted` that has a reference; where `run` fails, its error is infinite."""
    try:
        got = run(trial.inputs)
    except NotRun as error:
        failure = f"{name} does not run: {error}"
        yield trial.check(next(iter(wanted)), math.inf, failure)
        return
    for leg, want in wanted.items():
        if want is not None:
            yield trial.check(leg, error_where(got, want, trial.room))


def allowing_rounding(found: Sequence[Check], tried: Sequence[Trial], doubles: dict[str, Run]) -> list[Check]:
    """`found`, where one fails with a limit of at least `ROUNDING_FACTOR` times what a reference's own rounding is at
    the same inputs, by the magnitude that the leg is measured by; `doubles` runs some of the references ("torch",
    "onnx") in float64."""
    failed = {check.at for check in found if not check.passed}
    limits: dict[tuple[str, str], float] = {}
    for trial in tried:
        if (at := trial.check("", 0.0).at) in failed and trial.odd is not Odd.ENDLESS:  # which is no rounding
            exact = dict(_exact(trial, doubles))
            for leg in LEGS if exact else ():
                wanted = trial.torch if leg in (TORCH_ORT, TORCH_KERAS) else trial.onnx
                off = max(worst_error(getattr(trial, name) or [], y, wanted) for name, y in exact.items())
                limits[at, leg] = ROUNDING_FACTOR * off if math.isfinite(off) else 0.0
    return [c if c.passed else replace(c, limit=max(c.limit, limits.get((c.at, c.leg), 0.0))) for c in found]


def _exact(trial: Trial, doubles: dict[str, Run]) -> Iterator[tuple[str, Arrays]]:
    """What those of `doubles` give that run in float64."""
    for name, run in doubles.items():
        with contextlib.suppress(NotRun, SourceError):
            yield name, as_long_as_the_graph(run(cast(trial.inputs, "float64")), trial.onnx)[0]


def compare_double(
    leg: str, model: keras.Model, source: Source, double: Run, roundings: Sequence[Rounding], sampler: Sampler,
    budget: Budget, refused: list[str],
) -> Iterator[Check]:  # fmt: skip
    """A `source` in float64, which `double` runs, against the Keras model made from it, at the sizes that `trials`
    takes, as far as the budget goes; why not at others, or not in float64, goes to `refused`. Where rounding, of which
    the first of `roundings` is the source as it is, is so large that a part of it shows in float64 too, or in the
    precision that the source names in its place, it may. What differs counts where the source is sure of it, which at
    the first sizes has to be something."""
    call, alone, shapes = keras_call(model), Alone(source), Shapes.of(sampler.graph)
    for place, (draw, want) in enumerate(trials_that_run(double, sampler, refused, budget)):
        trial = Trial(draw.sizes, draw.inputs, None, want, dtype="float64")
        rounded = list[Rounded]()
        try:
            for rounding in roundings:
                rounded.append((shapes.with_ones(draw.sizes, rounding.run(draw.inputs)), rounding.finer))
        except NotRun as error:
            if not rounded:  # where what runs it in float64 knows no bounds
                refused.append(f"the source itself does not run at {sizes_text(draw.sizes)}: {error}")
                continue
        try:
            got = call(draw.inputs)
        except NotRun as error:
            yield trial.check(leg, math.inf, f"Keras does not run: {error}")
            continue
        found = _in_double(leg, trial, got, rounded)
        if not found.passed:
            known = elements_sure(alone, trial)
            if known is not None and (place or any(x.any() for x in known.decided)):
                found = _in_double(leg, replace(trial, room=known.room), got, rounded, known.limit)
        yield found


def _in_double(leg: str, trial: Trial, got: Arrays, rounded: Sequence[Rounded], moved: float = 0.0) -> Check:
    """How far Keras, which `got` it, is off, within the least of what the source as it is `rounded` allows. Where no
    digit is left in that, it is no measure, but by how much the last bits of float64 have `moved` it is."""
    errors = [(error_where(arrays, trial.onnx, trial.room), finer) for arrays, finer in rounded]
    limits = [_limit(*error, moved) for k, error in enumerate(errors) if not k or math.isfinite(error[0])]
    off = error_where(got, trial.onnx, trial.room)
    return Check(leg, sizes_text(trial.sizes), off, max(min(limits), LIMIT_FLOAT64), "float64")


def _limit(rounding: float, finer: float, moved: float) -> float:
    limit = ROUNDING_FACTOR * rounding * finer if math.isfinite(rounding) else 0.0
    return max(limit, min(moved, LIMIT)) if rounding > LOST else limit
