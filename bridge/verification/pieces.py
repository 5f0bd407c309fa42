"""A model that keeps its state between calls, given a sequence in pieces, against its source, given the whole of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bridge.errors import NotRun
from bridge.graph.frames import STATEFUL, Pieces
from bridge.verification.checks import PIECES, Check
from bridge.verification.metrics import Arrays, error_where
from bridge.verification.runners import from_the_start
from bridge.verification.trials import Run, Trial

if TYPE_CHECKING:
    import keras
    import onnx_ir as ir

SINGLE = 8  # pieces of the least length, before one with all the rest
PARTS = 6  # pieces of uneven lengths, at most about so many
UNEVEN = (2, 1, 3)


def checks_in_pieces(
    model: keras.Model,
    going_on: Run,
    simple: ir.Model,
    source: Run,
    tried: Sequence[Trial],
    found: Sequence[Check],
) -> Iterator[Check]:
    """One check for each way to cut the sequence, at each choice of sizes: within the limit at which the model was
    `found` equal there. `going_on` calls `model` from where it is, `source` is what runs sequences as a whole."""
    pieces = simple.meta.get(STATEFUL)
    if not isinstance(pieces, Pieces):
        return
    limits = {check.at: check.limit for check in found if check.passed}
    usual = [trial for trial in tried if trial.odd is None]
    for trial in usual:
        for cuts in _cuts(trial.sizes[pieces.time] // pieces.step, first=trial is usual[0]):
            lengths = [count * pieces.step for count in cuts]
            error, failure = math.inf, ""
            try:
                with from_the_start(model):
                    error = _error(going_on, source, trial, pieces, lengths)
            except NotRun as stopped:
                failure = f"Keras does not run: {stopped}"
            limit = limits.get(trial.check("", 0.0).at, 0.0)
            values = f"in pieces of {', '.join(map(str, lengths))}"
            yield Check(PIECES, trial.check("", 0.0).sizes, error, limit, trial.dtype, failure, values)


def _cuts(units: int, first: bool) -> Iterator[list[int]]:
    """Lengths of pieces that are `units` together; of uneven ones twice, as a model that starts anew gives the same."""
    if first and units > 1:
        single = min(units, SINGLE)
        yield [*[1] * single, *([units - single] if units > single else [])]
    scale, lengths = max(1, units // (2 * PARTS)), list[int]()
    while (left := units - sum(lengths)) > 0:
        lengths.append(min(left, scale * UNEVEN[len(lengths) % len(UNEVEN)]))
    yield lengths
    if first:
        yield lengths


def _error(run: Run, source: Run, trial: Trial, pieces: Pieces, lengths: Sequence[int]) -> float:
    """The largest error of what the pieces come to: put together along time, and of outputs without it after each."""
    wanted, errors = trial.torch or trial.onnx, [0.0]
    parts = list[Arrays]()
    for number in range(len(lengths)):
        begin, end = sum(lengths[:number]), sum(lengths[: number + 1])
        parts.append(run(_between(trial.inputs, pieces.inputs, begin, end)))
        if any(pieces.so_far):
            whole = end == sum(lengths)
            known = wanted if whole else _run(source, _between(trial.inputs, pieces.inputs, 0, end))
            errors += [] if known is None else [_off(parts[-1], known, trial, pieces.so_far, whole)]
    joined = [
        parts[-1][place] if axis is None else np.concatenate([part[place] for part in parts], axis)
        for place, axis in enumerate(pieces.outputs)
    ]
    return max(*errors, error_where(joined, wanted, trial.room))


def _between(inputs: Arrays, axes: Sequence[int | None], begin: int, end: int) -> Arrays:
    """What of the inputs belongs to the frames from `begin` to `end`."""
    return [
        x if axis is None else x[(slice(None),) * axis + (slice(begin, end),)]
        for x, axis in zip(inputs, axes, strict=True)
    ]


def _run(source: Run, inputs: Arrays) -> Arrays | None:
    try:
        return source(inputs)
    except NotRun:  # as of sequences shorter than those it takes
        return None


def _off(got: Arrays, known: Arrays, trial: Trial, so_far: Sequence[bool], whole: bool) -> float:
    """The error of those outputs that say what the sequence came to so far."""
    places = [place for place, told in enumerate(so_far) if told]
    room = [trial.room[place] for place in places] if trial.room is not None and whole else None
    return error_where([got[place] for place in places], [known[place] for place in places], room)
