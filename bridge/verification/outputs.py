"""torch, onnxruntime and Keras on the same inputs, at several sizes of every free axis.

torch ↔ onnxruntime    the export leg, and the noise floor
onnxruntime ↔ Keras    the conversion leg
torch ↔ Keras          the whole; also in float64, where a wrong formula cannot hide behind rounding
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import keras

from bridge.errors import SourceError, said
from bridge.frontend.torch_module import Torch
from bridge.report import LIMIT, ORT_KERAS, TORCH_KERAS, TORCH_ORT, Check
from bridge.verification.inputs import Sampler, Sizes, sizes_text
from bridge.verification.metrics import Arrays, cast, worst_error
from bridge.verification.runners import OnnxRuntime, keras_call

LIMIT_DOUBLE = 1e-10
FLOOR = 10  # how many times torch's own rounding float32 may be off where a network amplifies it
RANDOM = 1e-3  # by which two runs on the same inputs differ only where chance has a part


@dataclass(frozen=True)
class Trial:
    """Inputs at one choice of sizes, with what the reference witnesses say."""

    sizes: Sizes
    inputs: Arrays
    torch: Arrays | None
    onnx: Arrays


def trials(
    sampler: Sampler, onnx: OnnxRuntime, torch: Torch | None, count: int = 3
) -> tuple[list[Trial], list[str]]:
    """The examples themselves and `count - 1` other sizes that the source runs at; and the sizes it refused."""
    source = onnx if torch is None else torch
    done: list[Trial] = []
    refused: list[str] = []
    for sizes, inputs in sampler.draws():
        if len(done) == count:
            break
        try:
            first = source(inputs)
        except Exception as error:
            refused.append(f"the source itself does not run at {sizes_text(sizes)}: {said(error)}")
            continue
        if not done and worst_error(source(inputs), first) > RANDOM:
            raise SourceError(
                "the source gives other outputs each time it runs, in evaluation mode too: something in it is random "
                "or remembers, such as a dropout that is not told training=self.training"
            )
        legs = (None, first) if torch is None else (first, _exported(onnx, sizes, inputs))
        done.append(Trial(sizes, inputs, *legs))
    if not done:
        raise SourceError(f"no inputs found at which the source runs: {refused[0]}")
    return done, refused


def _exported(onnx: OnnxRuntime, sizes: Sizes, inputs: Arrays) -> Arrays:
    """What the exported graph gives where the source itself runs."""
    try:
        return onnx(inputs)
    except Exception as error:
        raise SourceError(
            f"the exported graph does not run at {sizes_text(sizes)} although torch does: {said(error)}"
        ) from error


def checks(call: Callable[[Arrays], Arrays], tried: Sequence[Trial]) -> Iterator[Check]:
    """All legs at all sizes; `call` is a `keras_call`."""
    for trial in tried:
        text = sizes_text(trial.sizes)
        try:
            got = call(trial.inputs)
        except Exception as error:
            yield Check(ORT_KERAS, f"{text}, where Keras does not run: {said(error)}", float("inf"), LIMIT)
            continue
        if trial.torch is not None:
            yield Check(TORCH_ORT, text, worst_error(trial.onnx, trial.torch), LIMIT)
        yield Check(ORT_KERAS, text, worst_error(got, trial.onnx), LIMIT)
        if trial.torch is not None:
            yield Check(TORCH_KERAS, text, worst_error(got, trial.torch), LIMIT)


def allowing_rounding(found: Sequence[Check], tried: Sequence[Trial], double: Torch) -> list[Check]:
    """`found` with limits of at least `FLOOR` times what torch's own float32 is off at the same inputs; `double` is
    torch in float64."""
    limits: dict[str, float] = {}
    for trial in tried:
        rounding = worst_error(trial.torch or [], double(cast(trial.inputs, "float64")))
        limits[sizes_text(trial.sizes)] = FLOOR * rounding if math.isfinite(rounding) else 0.0
    return [replace(check, limit=max(check.limit, limits.get(check.sizes, 0.0))) for check in found]


def compare_double(model: keras.Model, double: Torch, sampler: Sampler, count: int = 3) -> Iterator[Check]:
    """A torch module in float64 against the Keras model made from it, at the sizes that `trials` would take."""
    call, done = keras_call(model), 0
    for sizes, inputs in sampler.draws():
        if done == count:
            return
        try:
            want = double(inputs)
        except Exception:  # sizes the source itself does not run at; `trials` has said so
            continue
        done += 1
        yield Check(TORCH_KERAS, sizes_text(sizes), worst_error(call(inputs), want), LIMIT_DOUBLE, "float64")
