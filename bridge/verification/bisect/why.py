"""What rounding makes of a value: float64 and moved last bits tell it from a wrong formula."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx_ir as ir

from bridge.errors import BridgeError, NotRun
from bridge.frontend.onnx.double import in_double
from bridge.verification.inputs.odd import nudged
from bridge.verification.metrics import Arrays, cast, worst_error
from bridge.verification.reference.as_given import as_given, in_float64
from bridge.verification.trials import Run, Trial


def rounding_of(model: ir.Model, inputs: Arrays) -> float | None:
    """By how much what `model` makes of `inputs` moves where it is computed in float64, and where their last bits are
    others; None where nothing shows it."""
    found = list(_moved(model, inputs))
    return max(found) if found else None


def _moved(model: ir.Model, inputs: Arrays) -> Iterator[float]:
    try:
        run = as_given(model)[0]
        made = run(inputs)
    except (BridgeError, NotRun):
        return
    for again, given in (
        (lambda: run, nudged(inputs)),
        (lambda: in_float64(in_double(model)), cast(inputs, "float64")),
    ):
        try:
            error = worst_error(again()(given), made)
        except Exception:  # nothing runs it so; whatever stands in the way must not hide the mismatch
            continue
        if math.isfinite(error):
            yield error


def sensitivity(source: Run, trial: Trial) -> float | None:
    """By how much the outputs of a source move with the last bits of its inputs."""
    try:
        found = worst_error(source(nudged(trial.inputs)), trial.torch or trial.onnx)
    except (BridgeError, NotRun):
        return None
    return found if math.isfinite(found) else None
