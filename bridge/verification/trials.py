"""The source at inputs of several sizes: what torch and onnxruntime say there, for Keras to agree with."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bridge.errors import NotRun, SourceError
from bridge.frontend.torch.module import Torch
from bridge.graph.shapes import shape_of
from bridge.verification.checks import Check, limit_of
from bridge.verification.inputs.odd import Odd
from bridge.verification.inputs.sampler import Draw, Sampler, Sizes, sizes_text
from bridge.verification.metrics import Arrays, worst_error
from bridge.verification.reference.as_given import Runner
from bridge.verification.work import KINDS, OTHERS, Budget

NONDETERMINISM = 1e-3  # by which two runs on the same inputs differ only where chance has a part
SECONDS = 30.0  # that a search for legal sizes may take
SECONDS_VARYING = 10.0  # and where legal ones are known, at which the outputs are one number throughout
ONES = (
    "the source drops the axes that are one, which are free: the model keeps them, and gives the same numbers"
)
BREAKABLE = (Odd.ON, Odd.OFF, Odd.LARGE)  # kinds at which a source that is finite elsewhere need not be

Run = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Trial:
    """Inputs at one choice of sizes, with what the references say."""

    sizes: Sizes
    inputs: Arrays
    torch: Arrays | None
    onnx: Arrays  # of the graph as given, or as torch exported it
    odd: Odd | None = None  # what is odd about the values
    room: Arrays | None = None  # by how much each element may be off that is not compared; 0 where it is
    dtype: str = "float32"  # in which the source computes
    branch: str = ""  # which branch the values are for, of those for one that others do not take

    def check(self, leg: str, error: float, failure: str = "") -> Check:
        """What one leg gave, to be held against the limit of the source's precision."""
        values = self.odd.value if self.odd else self.branch
        return Check(leg, sizes_text(self.sizes), error, limit_of(self.dtype), self.dtype, failure, values)


@dataclass(frozen=True)
class Shapes:
    """What a Keras model has whatever the sizes of its inputs: as many axes, and something along each of them."""

    outputs: Sequence[ir.Value]
    dims: Mapping[str, tuple[ir.SymbolicDim, ir.Value]]  # each expression of sizes, with a value that has it

    @classmethod
    def of(cls, graph: ir.Graph) -> Shapes:
        values = (value for node in graph for value in node.outputs if value.shape is not None)
        dims = ((dim, value) for value in values for dim in shape_of(value))
        symbols = ((dim, value) for dim, value in dims if isinstance(dim, ir.SymbolicDim) and dim.value)
        return cls(list(graph.outputs), {str(dim.value): (dim, value) for dim, value in symbols})

    def with_ones(self, sizes: Sizes, outputs: Arrays) -> Arrays:
        """`outputs` with the axes of one that a model keeps, where a source gives none of a free axis that is one: it
        squeezes what is not there to be squeezed at other sizes."""
        return [_with_ones(value, sizes, array) for value, array in zip(self.outputs, outputs, strict=True)]

    def apart(self, sizes: Sizes, outputs: Arrays) -> str | None:
        """Why a source that gives `outputs` at these sizes is no Keras model there, or None."""
        for value, array in zip(self.outputs, outputs, strict=True):
            if value.shape is not None and value.shape.rank() != array.ndim:
                return f"the source gives {value.name} {array.ndim} axes, and {value.shape.rank()} elsewhere"
        return self.empty(sizes)

    def empty(self, sizes: Sizes) -> str | None:
        """What would hold nothing at these sizes, of which kernels may die; or None."""
        for dim, value in self.dims.values():
            size = dim.evaluate(sizes)
            if isinstance(size, int) and size < 1:
                return f"{value.name} would be empty"
        return None


def _with_ones(value: ir.Value, sizes: Sizes, array: np.ndarray) -> np.ndarray:
    if value.shape is None or value.shape.rank() <= array.ndim:
        return array
    shape = [dim if isinstance(dim, int) else dim.evaluate(sizes) for dim in shape_of(value)]
    known = [size for size in shape if isinstance(size, int)]
    fits = known == shape and [size for size in known if size != 1] == [n for n in array.shape if n != 1]
    return array.reshape(known) if fits else array


def trials(
    sampler: Sampler, onnx: Runner, torch: Torch | None, budget: Budget
) -> tuple[list[Trial], list[str]]:
    """The examples, or the first sizes found to be legal, and others as far as the budget goes; and why not at the
    sizes that were left out."""
    source: Run = onnx if torch is None else torch
    refused: list[str] = []
    done: list[Trial] = []
    shapes = Shapes.of(sampler.graph)
    for draw, outputs in trials_that_run(source, sampler, refused, budget):
        if (
            not done
            and worst_error(shapes.with_ones(draw.sizes, source(draw.inputs)), outputs) > NONDETERMINISM
        ):
            raise SourceError(
                "the source gives other outputs each time it runs, in evaluation mode too: something in it is random "
                "or remembers, such as a dropout that is not told training=self.training"
            )
        exported = outputs if torch is None else shapes.with_ones(draw.sizes, _exported(onnx, draw))
        wanted = None if torch is None else outputs
        wanted, room = (
            as_long_as_the_graph(wanted, exported) if wanted and sampler.short(draw) else (wanted, None)
        )
        if room is None and done and wanted is not None:
            room = _defined(wanted, exported)
        if room is not None and not sampler.short(draw):
            where = "where torch gives NaN or infinities, and onnxruntime others"
            refused.append(f"not compared at {sizes_text(draw.sizes)} {where}")
        if room is None or any((x == 0).any() for x in room):
            done.append(Trial(draw.sizes, draw.inputs, wanted, exported, room=room, dtype=sampler.precision))
    return done, refused


def odd_trials(
    sampler: Sampler,
    onnx: Runner,
    torch: Torch | None,
    tried: Sequence[Trial],
    budget: Budget,
    refused: list[str],
) -> Iterator[Trial]:
    """The source at odd values, where it runs at them and they have one answer: masks that leave nothing of a row may
    have none, large numbers may overflow, and torch and onnxruntime may not agree on NaN and infinities. What the
    budget leaves out goes to `refused`."""
    source: Run = onnx if torch is None else torch
    whole, dtype = _finite(tried[0].torch or tried[0].onnx), sampler.precision
    for number, draw in enumerate(sampler.odd(smallest_sizes(tried, budget))):
        if number >= KINDS and (reason := budget.beyond(draw.sizes, draw.odd.value if draw.odd else "")):
            refused.append(reason)
            continue
        budget.spend(draw.sizes)
        try:
            outputs = source(draw.inputs)
        except NotRun:
            continue
        finite = _finite(outputs)
        if whole and not finite and draw.odd in BREAKABLE:
            continue
        if torch is None:
            yield Trial(draw.sizes, draw.inputs, None, outputs, draw.odd, dtype=dtype)
            continue
        exported = _exported(onnx, draw)
        outputs, room = as_long_as_the_graph(outputs, exported) if sampler.short(draw) else (outputs, None)
        if whole and not _finite(exported) and draw.odd in (Odd.ON, Odd.OFF):
            continue
        if finite or worst_error(exported, outputs) <= limit_of(dtype):
            yield Trial(draw.sizes, draw.inputs, outputs, exported, draw.odd, room, dtype)


def smallest_sizes(tried: Sequence[Trial], budget: Budget) -> Sizes:
    """The sizes with the fewest elements at which no axis is 1, unless only large ones are so."""
    several = [
        t for t in tried if all(size > 1 for size in t.sizes.values()) and not budget.is_large(t.sizes)
    ]
    return min(several or tried, key=lambda trial: sum(x.size for x in trial.inputs)).sizes


def as_long_as_the_graph(outputs: Arrays, exported: Arrays) -> tuple[Arrays, Arrays | None]:
    """What torch gives where it cuts off what lies behind the longest of short sequences, with what the graph has
    there, which may be anything."""
    if all(x.shape == y.shape for x, y in zip(outputs, exported, strict=True)):
        return outputs, None
    whole, room = [], []
    for ours, theirs in zip(outputs, exported, strict=True):
        place, beside = tuple(map(slice, ours.shape)), np.full(theirs.shape, np.inf)
        if ours.ndim != theirs.ndim or beside[place].shape != ours.shape:
            return outputs, None
        beside[place], longer = 0.0, theirs.astype(ours.dtype)
        longer[place] = ours
        whole.append(longer)
        room.append(beside)
    return whole, room


def _defined(wanted: Arrays, exported: Arrays) -> Arrays | None:
    """No room where torch gives numbers, if it gives NaN or infinities elsewhere, such as for the maximum of nothing,
    and onnxruntime others."""
    if _finite(wanted) or worst_error(exported, wanted) < math.inf:
        return None
    return [
        np.where(np.isfinite(x), 0.0, np.inf) if x.dtype.kind == "f" else np.zeros(x.shape) for x in wanted
    ]


def _finite(arrays: Arrays) -> bool:
    return all(bool(np.isfinite(x).all()) for x in arrays if x.dtype.kind == "f")


def trials_that_run(
    source: Run, sampler: Sampler, refused: list[str], budget: Budget
) -> Iterator[tuple[Draw, Arrays]]:
    """Inputs at which `source` runs, with its outputs, as far as the budget goes; why it does not at others goes to
    `refused`. Raises `SourceError` where it runs at none."""
    shapes, taken = Shapes.of(sampler.graph), 0
    base, outputs = _first(source, sampler, shapes, budget)
    budget.spend(base.sizes)
    yield base, outputs
    for group in sampler.others(base.sizes, budget):
        reasons: list[str] = []
        for draw in group:
            if reason := sampler.beyond(draw.sizes) or shapes.empty(draw.sizes):
                reasons.append(f"not compared at {sizes_text(draw.sizes)}: {reason}")
                continue
            if taken >= OTHERS and (reason := budget.beyond(draw.sizes)):
                reasons.append(reason)
                continue
            try:
                given = source(draw.inputs)
            except NotRun as error:
                reasons.append(f"the source itself does not run at {sizes_text(draw.sizes)}: {error}")
                continue
            outputs = shapes.with_ones(draw.sizes, given)
            if reason := shapes.apart(draw.sizes, outputs):
                reasons.append(f"not compared at {sizes_text(draw.sizes)}: {reason}")
                continue
            if [x.ndim for x in given] != [x.ndim for x in outputs]:
                refused.append(f"at {sizes_text(draw.sizes)} {ONES}")
            taken += 1
            budget.spend(draw.sizes)
            yield draw, outputs
            break
        refused += reasons[:1]


def _first(source: Run, sampler: Sampler, shapes: Shapes, budget: Budget) -> tuple[Draw, Arrays]:
    """The first inputs at which the source runs, and those before others at which its outputs vary: features of a sound
    shorter than one frame are zeros whatever is computed."""
    reasons: list[str] = []
    spare: tuple[Draw, Arrays] | None = None
    start = time.monotonic()
    for draw in sampler.first(budget):
        reason = sampler.beyond(draw.sizes) or shapes.empty(draw.sizes)
        if reason is None:
            try:
                outputs = shapes.with_ones(draw.sizes, source(draw.inputs))
                reason = shapes.apart(draw.sizes, outputs)
            except NotRun as error:
                reason = str(error)
        if reason is not None:
            reasons.append(f"at {sizes_text(draw.sizes)}: {reason}")
        elif all(map(varies, outputs)):
            return draw, outputs
        else:
            spare = spare or (draw, outputs)
        if time.monotonic() - start > (SECONDS if spare is None else SECONDS_VARYING):
            break
    if spare is not None:
        return spare
    raise SourceError(
        f"no inputs found at which the source runs, of {len(reasons)} choices of sizes; give Verify(inputs=…) "
        f"(--inputs) or Verify(sizes=…) (--sizes); {reasons[0]}"
    )


def varies(array: np.ndarray) -> bool:
    """Whether it is something else than one number throughout."""
    return array.size < 2 or bool((array != array.flat[0]).any())


def values_drawn(inputs: Sequence[ir.Value], tried: Sequence[Trial]) -> dict[str, str]:
    """Of every input its type and the range of the values that it had, odd ones apart."""
    return {
        str(value.name): _range([trial.inputs[index] for trial in tried if trial.odd is None])
        for index, value in enumerate(inputs)
    }


def _range(arrays: Arrays) -> str:
    filled = [array for array in arrays if array.size]
    if not filled:
        return "empty"
    low, high = min(array.min() for array in filled), max(array.max() for array in filled)
    dtype = filled[0].dtype
    return f"{dtype}, {low} to {high}" if dtype.kind in "biu" else f"{dtype}, {low:.3g} to {high:.3g}"


def _exported(onnx: Runner, draw: Draw) -> Arrays:
    """What the exported graph gives where the source itself runs."""
    try:
        return onnx(draw.inputs)
    except NotRun as error:
        raise SourceError(
            f"the exported graph does not run at {sizes_text(draw.sizes)} although torch does: {error}"
        ) from error
