"""Which sizes of a free axis the exported graph is good for.

torch wrote down what it took for granted of every size while it traced (`frontend.torch.ranges`). Here the source and
the graph are run where each of these assumptions does not hold:

- both give the same: it changes nothing, and the axis stays free;
- the source itself does not run there, or something in it would be empty: its range is told, and kept to by the proof;
- they differ: forward takes another branch there. The Keras model then raises an error outside of the range
  (`Ranges.enforced`), or an `ExportError` says so to a user who asked for more.

A Squeeze that names no axes takes a free one too where it is one, so that others follow: that it is not is taken for
granted likewise. Where the numbers are the same but for that axis, the model keeps it, and it stays free.

Of a file, the shapes of its nodes say which sizes fit. Of either, positions that are looked up in a table say how long
an axis may be. Above the longest size the Keras model raises an error too, where a backend may give any row of a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING

import onnx_ir as ir

from bridge.errors import ExportError, NotRun, SourceError
from bridge.graph.frames import STATEFUL, Pieces
from bridge.graph.ranges import FREE, Range, Ranges
from bridge.graph.shapes import shape_of
from bridge.passes.settle_branches import SEVERAL
from bridge.verification.checks import limit_of
from bridge.verification.inputs.sampler import Sampler, Sizes
from bridge.verification.inputs.sizes import (
    LARGE,
    allowed_sizes,
    count_elements,
    sizes_within_tables,
    symbols,
)
from bridge.verification.metrics import worst_error
from bridge.verification.precision import precision
from bridge.verification.reference.as_given import as_given
from bridge.verification.trials import Shapes

if TYPE_CHECKING:
    from bridge.frontend.source import Source
    from bridge.frontend.torch.module import Torch
    from bridge.frontend.torch.ranges import Assumption

ROUNDING = 100  # times the limit, by which the exported graph may be off before it counts as another branch
JUMP = 0.1  # by which it may be off at most
STEPS = 64  # the largest step between sizes that is looked for


class Beyond(Enum):
    """What there is where an assumption does not hold."""

    EQUAL = "the graph gives what the source gives"
    REFUSED = "the source does not run, or something would be empty"
    BRANCH = "the source gives something else"


def find_ranges(opened: Source, simple: ir.Model) -> None:
    """Find the ranges of the free sizes of `opened`, of which `simple` is the simplified graph, and enter them
    into both models. Raises `ExportError` where that is less than was asked for."""
    told, enforced = dict(opened.declared), dict[str, Range]()
    squeezed = [name for name in symbols(simple.graph.inputs) if name in simple.meta.get(SEVERAL, ())]
    if opened.torch is None:
        told |= allowed_sizes(simple.graph)
        told |= {name: told.get(name, FREE) & Range(2) for name in squeezed}
    tables = sizes_within_tables(simple.graph)
    if opened.torch is not None and (opened.assumptions or squeezed):
        from bridge.frontend.torch.ranges import larger_than_one

        sampler = Sampler.of(simple, opened.torch.examples, opened.asked, opened.model)
        base, shapes = sampler.exported(), Shapes.of(simple.graph)
        found: dict[Assumption, Beyond] = {}
        several = tuple(map(larger_than_one, squeezed))
        for graph, assumptions in ((opened.model, opened.assumptions), (simple, several)):
            if known := [a for a in assumptions if set(a.sizes) <= set(base)]:
                probe = _Probe(opened.torch, graph, shapes, sampler)
                found |= {assumption: probe.beyond(assumption) for assumption in known}
        told = _ranges([a for a, beyond in found.items() if beyond is not Beyond.EQUAL], base, told)
        enforced = _ranges(_enforced(opened, found), base, {})
        for assumption, beyond in found.items():
            if beyond is Beyond.BRANCH and opened.retraceable:
                _require_less(opened, assumption, enforced)
        refused = _ranges([a for a, beyond in found.items() if beyond is Beyond.REFUSED], base, {})
        tables = _both(tables, {name: Range(1, sizes.high) for name, sizes in refused.items()})
    told, enforced = _both(told, tables), _both(enforced, tables)
    if isinstance(pieces := simple.meta.get(STATEFUL), Pieces):
        whole = {pieces.time: pieces.sizes}
        told, enforced = _both(told, whole), _both(enforced, whole)
    for model in (opened.model, simple):
        Ranges(told, enforced).enter(model)


def _both(ranges: Mapping[str, Range], others: Mapping[str, Range]) -> dict[str, Range]:
    """For each name the sizes in both."""
    found = {name: ranges.get(name, FREE) & others.get(name, FREE) for name in {**ranges, **others}}
    return {name: sizes for name, sizes in found.items() if sizes != FREE}


def confirmed(opened: Source) -> Source:
    """`opened`, if its batch is sure, or its graph gives what the source gives for the example as it was given, before
    it was repeated along what may be the batch; else the same with fixed axes."""
    if opened.unrepeated is None:
        return opened
    inputs = opened.unrepeated.examples
    try:
        error = worst_error(as_given(opened.model, inputs)[0](inputs), opened.unrepeated(inputs))
    except (NotRun, SourceError):
        return opened.with_fixed_axes
    return opened if error <= _limit(precision(opened.model.graph)) else opened.with_fixed_axes


def _limit(dtype: str) -> float:
    """Beyond which the exported graph counts as another branch."""
    return min(ROUNDING * limit_of(dtype), JUMP)


def _enforced(opened: Source, found: dict[Assumption, Beyond]) -> list[Assumption]:
    """A program is defined where its assumptions hold and nowhere else."""
    beyond = {Beyond.BRANCH} if opened.retraceable else {Beyond.BRANCH, Beyond.REFUSED}
    return [assumption for assumption, what in found.items() if what in beyond]


def _require_less(opened: Source, assumption: Assumption, enforced: dict[str, Range]) -> None:
    """Raise `ExportError` unless the user asked for no more than `enforced`, or for nothing in particular."""
    name = assumption.sizes[0]
    sizes = enforced.get(name, FREE)
    several = len(assumption.sizes) == 1 and sizes.low != sizes.high
    if several and (opened.dynamic_shapes is None or sizes.covers(opened.declared.get(name, FREE))):
        return
    raise ExportError(
        f"forward takes another branch where {assumption} does not hold: {_axes(opened, assumption)} cannot be free; "
        f"{_sum(assumption) or _way_out(name, sizes if several else FREE)}, or make forward independent of the size"
    )


def _sum(assumption: Assumption) -> str:
    """What to ask for, where a size that is a sum of others was asked for by a name of its own."""
    name, text = assumption.sum or ("", "")
    return f"where {name} is the sum of the others, call it {text!r} in dynamic_shapes" if name else ""


def _way_out(name: str, sizes: Range) -> str:
    limits = [f"min={sizes.low}"] * (sizes.low > 1) + [f"max={sizes.high}"] * (sizes.high is not None)
    ask = "ask for torch.export.Dim"
    if sizes.step == 1 and limits:
        return f"{ask}({', '.join([repr(name), *limits])}), leave the axis out of dynamic_shapes"
    fix = "fix what it is about by leaving it out of dynamic_shapes ({} for an input without free axes)"
    return fix if sizes.step == 1 else f"ask for {sizes.step} * torch.export.Dim({name!r}), {fix}"


def _axes(opened: Source, assumption: Assumption) -> str:
    """The axes whose sizes the assumption is about, in words: for each size the first."""
    found: dict[str, str] = {}
    for value in opened.model.graph.inputs:
        for axis, dim in enumerate(shape_of(value)):
            if isinstance(dim, ir.SymbolicDim) and dim.free_symbols() & set(assumption.sizes):
                found.setdefault(str(dim), f"axis {axis} ({dim}) of input {value.name}")
    return " and ".join(found.values())


def _ranges(kept: list[Assumption], base: Sizes, known: dict[str, Range]) -> dict[str, Range]:
    """`known`, and around the example's size the range of each size in which all of `kept` hold."""
    ranges = dict(known)
    for assumption in kept:
        for name in assumption.sizes if len(assumption.sizes) == 1 else ():
            ranges[name] = ranges.get(name, FREE) & _range(assumption, name, base)
    return ranges


def _range(assumption: Assumption, name: str, base: Sizes) -> Range:
    step = _step(assumption, name, base)
    if step > 1:
        return Range(base[name] % step or step, None, step)
    below, above = _ends(assumption, name, base)
    return Range((below or 0) + 1, None if above is None else above - 1)


def _step(assumption: Assumption, name: str, base: Sizes) -> int:
    """How far apart the sizes are at which it holds, if they are so on either side of the example's; else 1."""
    here = base[name]
    for step in range(2, STEPS + 1):
        near = range(max(1, here - 2 * step), here + 2 * step + 1)
        if all(assumption.holds({**base, name: n}) == (n % step == here % step) for n in near):
            return step
    return 1


def _ends(assumption: Assumption, name: str, base: Sizes) -> tuple[int | None, int | None]:
    """The sizes nearest to the example's, below and above, at which the assumption does not hold."""
    here = base[name]

    def holds(size: int) -> bool:
        return assumption.holds({**base, name: size})

    def nearest(sizes: list[int]) -> int | None:
        good = here
        for size in sizes:  # from the example's away
            if not holds(size):
                while abs(size - good) > 1:
                    middle = (size + good) // 2
                    good, size = (middle, size) if holds(middle) else (good, middle)
                return size
            good = size
        return None

    tried = _tried(assumption, here)
    return (
        nearest([size for size in reversed(tried) if size < here]),
        nearest([size for size in tried if size > here]),
    )


def _tried(assumption: Assumption, here: int) -> list[int]:
    """Sizes among which there are some on either side of where an assumption turns."""
    close = {here + step for step in range(-4, 5)}
    told = {number + step for number in assumption.numbers for step in (-1, 0, 1)}
    far = {here << shift for shift in range(1, 17)}
    return sorted(size for size in {*range(1, 9), *close, *told, *far} if 0 < size < 1 << 31)


class _Probe:
    """The source and its graph, run at sizes at which an assumption does not hold."""

    def __init__(self, torch: Torch, graph: ir.Model, shapes: Shapes, sampler: Sampler):
        self._torch, self._sampler, self._shapes = torch, sampler, shapes
        self._onnx = as_given(graph, torch.examples)[0]
        self._limit = _limit(sampler.precision)
        self._room = max(LARGE, count_elements(sampler.inputs, sampler.exported()))
        self._known: dict[tuple[tuple[str, int], ...], Beyond] = {}

    def beyond(self, assumption: Assumption) -> Beyond:
        """The worst that there is: a branch before a refusal before nothing. A graph that departs at the example's own
        sizes is wrong, which the proof says, and where."""
        if self._at(self._sampler.exported()) is Beyond.BRANCH:
            return Beyond.EQUAL
        found = {self._at(sizes) for sizes in self._outside(assumption)}
        return next((what for what in (Beyond.BRANCH, Beyond.REFUSED) if what in found), Beyond.EQUAL)

    def _outside(self, assumption: Assumption) -> Iterator[Sizes]:
        """The nearest sizes at which the assumption does not hold, and some that are further."""
        base = self._sampler.exported()
        for name in assumption.sizes:
            below, above = _ends(assumption, name, base)
            further = (below and 1, below and below // 2, above and above + 1, above and 2 * above)
            for size in {size for size in (below, above, *further) if size}:
                if not assumption.holds({**base, name: size}):
                    yield {**base, name: size}

    def _at(self, sizes: Sizes) -> Beyond:
        key = tuple(sizes.items())
        if key not in self._known:
            self._known[key] = self._run(sizes)
        return self._known[key]

    def _run(self, sizes: Sizes) -> Beyond:
        if count_elements(self._sampler.inputs, sizes) > self._room:
            return Beyond.BRANCH  # for all that is known
        if self._shapes.empty(sizes):
            return Beyond.REFUSED
        inputs = self._sampler.draw(sizes, 1)
        try:
            want = self._torch(inputs)
        except NotRun:
            return Beyond.REFUSED
        try:
            got, want = (self._shapes.with_ones(sizes, outputs) for outputs in (self._onnx(inputs), want))
            same = worst_error(got, want) <= self._limit
        except NotRun:
            same = False
        return Beyond.EQUAL if same else Beyond.BRANCH
