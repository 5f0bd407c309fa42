"""Inputs for the model under proof, of several sizes and drawn so that they fit it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bridge.frontend.asked import Asked
from bridge.graph.frames import STATEFUL, Pieces
from bridge.graph.ranges import FREE, Range, Ranges
from bridge.graph.shapes import shape_of
from bridge.passes.bounds import ROOM, Room
from bridge.verification import work
from bridge.verification.inputs.odd import Odd, odd_draws
from bridge.verification.inputs.sizes import (
    LARGE,
    Sizes,
    count_elements,
    evaluate,
    other_sizes,
    search,
    sizes_text,
    solve,
)
from bridge.verification.inputs.values import Slot, slots
from bridge.verification.metrics import Arrays
from bridge.verification.precision import precision
from bridge.verification.work import Budget

__all__ = ["Draw", "Sampler", "Sizes", "sizes_text"]

ATTEMPTS = 200  # choices of sizes that are tried before there are said to be none
SPARE = 8  # choices of sizes
ODD = 500  # the number of the draw that odd values are put into


@dataclass(frozen=True)
class Draw:
    """Inputs at one choice of sizes; `odd` where their values are."""

    sizes: Sizes
    inputs: Arrays
    odd: Odd | None = None


@dataclass(frozen=True)
class Sampler:
    """Draws inputs of any size that fit the model: values like the example's, indices within their tables, lengths
    within their sequences (the longest as long as the sequence)."""

    graph: ir.Graph
    slots: Sequence[Slot]
    examples: Arrays | None
    asked: Asked
    ranges: Mapping[str, Range]  # of free axes
    room: Room | None = None
    precision: str = "float32"  # in which the source computes

    @classmethod
    def of(
        cls, model: ir.Model, examples: Arrays | None = None, asked: Asked | None = None,
        source: ir.Model | None = None,
    ) -> Sampler:  # fmt: skip
        """For `model` as `passes.simplify` left `source`. Raises `SourceError` where what was asked for does not
        fit."""
        asked = asked or Asked()
        if not asked.sized:
            examples = asked.arrays(model.graph.inputs, {}) or examples
        ranges = Ranges.of(model).told
        if isinstance(pieces := model.meta.get(STATEFUL), Pieces) and examples:
            steps = {**ranges, pieces.time: ranges.get(pieces.time, FREE) & pieces.sizes}
            examples = [_fitted(x, y, steps) for x, y in zip(examples, model.graph.inputs, strict=True)]
        room = None if examples or asked.sizes or asked.sized else model.meta.get(ROOM)
        computed = precision(model.graph, source)
        return cls(model.graph, slots(model.graph, examples), examples, asked, ranges, room, computed)

    @property
    def inputs(self) -> Sequence[ir.Value]:
        return self.graph.inputs

    def exported(self) -> Sizes:
        """The sizes of the examples."""
        return solve(self.inputs, self.examples or [])

    def beyond(self, sizes: Sizes) -> str | None:
        """Why sizes that nobody asked for are not tried, or None."""
        return None if self.room is None else self.room.beyond(sizes)

    def draw(self, sizes: Sizes, number: int = 0) -> Arrays:
        """The same for the same sizes and number."""
        made = self.asked.arrays(self.inputs, sizes) if self.asked.sized else None
        if made is not None:
            return made
        rng = np.random.default_rng([self.asked.seed, number])
        return [slot.draw(sizes, rng) for slot in self.slots]

    def budget(self, slower: int = 1, where: str = "") -> Budget:
        """What trials may compute; those at sizes that the user gave take what they take."""
        chosen = bool(self.asked.sizes or self.asked.sized)
        return Budget(work.Work(self.graph), math.inf if chosen else work.BUDGET // slower, where)

    def first(self, budget: Budget) -> Iterator[Draw]:
        """The examples; or, without any, inputs of one choice of sizes after the other, large ones last."""
        if self.examples is not None:
            yield Draw(self.exported(), self.examples)
            return
        large: list[Sizes] = []
        found = itertools.islice(search(self.inputs, self.graph, self.asked.seed), ATTEMPTS)
        for number, sizes in enumerate(found):
            asked = self._as_asked(sizes, number)
            if budget.is_large(asked):
                large.append(asked)
            else:
                yield self._drawn(asked, 0)
        for sizes in sorted(large, key=budget.work):
            yield self._drawn(sizes, 0)

    def others(self, base: Sizes, budget: Budget) -> Iterator[Iterator[Draw]]:
        """Groups of inputs of other sizes than `base` and than one another; the first of each that the source runs
        at is to be taken. Where not all of them fit into the budget, the lightest come first."""
        seen, room = [base], max(LARGE, count_elements(self.inputs, base))
        groups = list(other_sizes(self.inputs, base, self.ranges, [] if self.examples else self._spare(base)))
        if not budget.fits(group[0] for group in groups):
            groups = sorted(
                (sorted(group, key=budget.work) for group in groups), key=lambda group: budget.work(group[0])
            )
        more = max(map(len, self.asked.sizes.values()), default=0) - len(groups)
        for number, group in enumerate(groups + [[base]] * more):
            choices = [self._as_asked(sizes, number + (self.examples is None)) for sizes in group]
            fitting = [sizes for sizes in choices if count_elements(self.inputs, sizes) <= room]
            yield self._group(fitting, number + 1, seen)

    def _group(self, choices: Sequence[Sizes], number: int, seen: list[Sizes]) -> Iterator[Draw]:
        for sizes in choices:
            if sizes not in seen:
                seen.append(sizes)
                yield self._drawn(sizes, number)

    def odd(self, sizes: Sizes) -> Iterator[Draw]:
        """Inputs whose values are such as random ones seldom are."""
        rng = np.random.default_rng([self.asked.seed, ODD])
        for kind, arrays in odd_draws(self.slots, sizes, self.draw(sizes, ODD), rng):
            yield Draw(sizes, arrays, kind)

    def short(self, draw: Draw) -> bool:
        """Whether it holds sequences none of which is as long as their axis."""
        return any(
            slot.longest is not None and array.size and array.max() < evaluate(slot.longest, draw.sizes)
            for slot, array in zip(self.slots, draw.inputs, strict=True)
        )

    def _as_asked(self, sizes: Sizes, number: int) -> Sizes:
        """`sizes`, with those that the user gave, one after the other."""
        return {
            n: g[number % len(g)] if (g := self.asked.sizes.get(n)) else size for n, size in sizes.items()
        }

    def _spare(self, base: Sizes) -> list[Sizes]:
        """Sizes that may be legal where those around `base` are not."""
        apart = (s for s in search(self.inputs, self.graph, self.asked.seed) if _differ(s, base))
        return list(itertools.islice(apart, SPARE))

    def _drawn(self, sizes: Sizes, number: int) -> Draw:
        inputs = self.draw(sizes, number)
        return Draw(solve(self.inputs, inputs) if self.asked.sized else sizes, inputs)


def _fitted(array: np.ndarray, value: ir.Value, ranges: Mapping[str, Range]) -> np.ndarray:
    """An example of as many rows and frames as a model takes in pieces: some of them again, or fewer."""
    for axis, dim in enumerate(shape_of(value)):
        size = dim if isinstance(dim, int) else ranges.get(str(dim), FREE).nearest(array.shape[axis])
        array = np.take(array, np.arange(size), axis, mode="wrap")
    return array


def _differ(sizes: Sizes, base: Sizes) -> bool:
    return all(sizes[name] != size for name, size in base.items())
