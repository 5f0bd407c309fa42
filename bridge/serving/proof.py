"""What is served against the model that it was made of, at the sizes at which that was compared itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import keras
import numpy as np
import onnx_ir as ir

from bridge.errors import MismatchError, NotRun, SourceError
from bridge.verification.checks import LEGS, Check, limit_of
from bridge.verification.inputs.odd import nudged
from bridge.verification.inputs.sizes import Sizes, sizes_text
from bridge.verification.metrics import Arrays, worst_error
from bridge.verification.mismatch import failed_leg
from bridge.verification.precision import ROUNDING_FACTOR
from bridge.verification.runners import keras_call
from bridge.verification.trials import Run

if TYPE_CHECKING:
    from bridge.report.records import Axis
    from bridge.report.report import Report

Trial: TypeAlias = tuple[str, str, Arrays]  # sizes, what is odd about the values, and the inputs
# Of the numbers drawn, by what is odd about them
SCALES = {"": 1.0, "large numbers": 30.0, "tiny numbers": 1e-3}
# Of the first free axis and of others, where the model was compared at no sizes
ROWS, SIDES = 2, (32, 64, 128, 256)


def checks(
    model: keras.Model, leg: str, served: Run, report: Report, precision: str | None = None,
    tried: Iterable[Trial] | None = None,
) -> Iterator[Check]:  # fmt: skip
    """What `model`, of which `report` is, gives against what is `served` in its place, with weights in that `precision`
    where they are not its own: one for each of the sizes in the report, and for each scale of the numbers at the last;
    or for each of those `tried`. Raises `SourceError` where the model itself does not run."""
    whole, dtype = flat_call(model), precision or report.dtype
    for text, values, inputs in trials(model, report) if tried is None else tried:
        try:
            want, moved = whole(inputs), whole(nudged(inputs))
        except NotRun as error:
            raise SourceError(f"the model does not run at {text}: {error}") from error
        limit = max(limit_of(dtype), ROUNDING_FACTOR * worst_error(moved, want))
        yield Check(leg, text, worst_error(served(inputs), want), limit, dtype, values=values)


def require_equal(report: Report, found: Sequence[Check]) -> None:
    """Raise `MismatchError` with the report if one of its checks that were `found` fails."""
    failed = next((check for check in found if not check.passed), None)
    if failed is not None:
        told = replace(report, first_mismatch=failed_leg([failed]))
        raise MismatchError(f"{report.source}: {told.first_mismatch}", told)


def trials(model: keras.Model, report: Report) -> Iterator[Trial]:
    """Inputs, with their sizes and what is odd about their values in words."""
    tried = _compared(report) or _first_that_runs(model, report)
    odd = [(list(tried)[-1], values) for values in SCALES if values]
    for number, (text, values) in enumerate([*((text, "") for text in tried), *odd]):
        rng = np.random.default_rng([report.seed, number])
        yield text, values, _drawn(model, report, tried[text], SCALES[values], rng)


def flat_call(model: keras.Model) -> Run:
    """A model with its outputs in a list, whatever it gives them in."""
    return keras_call(flat(model))


def flat(model: keras.Model) -> keras.Model:
    return keras.Model(model.inputs, model.outputs if len(model.outputs) > 1 else model.outputs[0])


def _compared(report: Report) -> dict[str, Sizes]:
    """The sizes of the free axes at which the model was compared, by what the report calls them."""
    outputs = (check.sizes for check in report.checks if check.leg in LEGS)
    texts = dict.fromkeys(text for text in outputs if "=" in text)
    pairs = {text: [pair.split("=") for pair in text.split(", ")] for text in texts}
    return {text: {name: int(size) for name, size in sizes} for text, sizes in pairs.items()}


def _first_that_runs(model: keras.Model, report: Report) -> dict[str, Sizes]:
    """Likewise of a model that was compared at none, with rows and sides that are not small: of what is empty kernels
    may die. Raises `SourceError` where it runs at none of them."""
    names = list(dict.fromkeys(n for value in report.inputs for axis in value.axes for n in _names(axis)))
    failure = ""
    for side in SIDES if names else SIDES[:1]:
        sizes = {name: ROWS if place == 0 else side for place, name in enumerate(names)}
        try:
            flat_call(model)(_drawn(model, report, sizes, 1.0, np.random.default_rng(report.seed)))
        except NotRun as error:
            failure = failure or f"at {sizes_text(sizes)}: {error}"
        else:
            return {sizes_text(sizes): sizes}
    raise SourceError(f"no sizes found at which the model runs; convert with verify=True; {failure}")


def _names(axis: Axis) -> Sequence[str]:
    return sorted(ir.SymbolicDim(axis.name).free_symbols()) if axis.size is None else []


def _drawn(
    model: keras.Model, report: Report, sizes: Sizes, scale: float, rng: np.random.Generator
) -> Arrays:
    """Numbers for each input; integers and truth values of either kind, which every table has."""
    arrays = []
    for x, value in zip(model.inputs, report.inputs, strict=True):
        shape = _shape(x.shape, value.axes, sizes)
        floats = "float" in x.dtype
        drawn = scale * rng.standard_normal(shape) if floats else rng.integers(0, 2, shape)
        arrays.append(drawn.astype(x.dtype))
    return arrays


def _shape(given: Sequence[int | None], axes: Sequence[Axis], sizes: Sizes) -> list[int]:
    """Of an input whose axes are `given` in the order of the report, or with its channels last."""
    told = [
        axis.size if axis.size is not None else ir.SymbolicDim(axis.name).evaluate(sizes) for axis in axes
    ]
    shape = [size if isinstance(size, int) else ROWS for size in told]
    if any(size not in (None, one) for size, one in zip(given, shape, strict=True)):
        shape = [*shape[:1], *shape[2:], shape[1]]
    return shape
