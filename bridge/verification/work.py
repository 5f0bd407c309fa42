"""How much a proof may compute. The work of a graph at a choice of sizes is the multiplications that follow from its
shapes, so that the same is compared on every machine and every time; seconds would say otherwise of a busy one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import onnx_ir as ir

from bridge.passes.work import Dims, products
from bridge.verification.inputs.sizes import Sizes, sizes_text

BUDGET = 10**11  # multiplications of all trials of a proof, in each of the libraries that run them
SLOWER = 10  # a graph that is run node by node in float64, which then has so much less
CHEAP_TRIAL = 4  # of the budget a trial that may be chosen takes one in so many at most
OTHERS = 1  # choices of sizes beside the first that are tried whatever they take
KINDS = 2  # of odd values, likewise


@dataclass(frozen=True)
class Work:
    """What a graph multiplies at given sizes; a number that is made in another way, and one that is read for it,
    counts as one multiplication."""

    graph: ir.Graph
    known: dict[tuple[tuple[str, int], ...], int] = field(default_factory=dict)

    @cached_property
    def _dims(self) -> dict[str, ir.SymbolicDim]:
        """Each expression of sizes, once."""
        values = (
            value for node in self.graph for value in (*node.inputs, *node.outputs) if value is not None
        )
        shapes = (value.shape for value in values if value.shape is not None)
        return {str(dim): dim for shape in shapes for dim in shape if not isinstance(dim, int)}

    def __call__(self, sizes: Sizes) -> int:
        key = tuple(sizes.items())
        if key not in self.known:
            found = {
                name: size for name, dim in self._dims.items() if isinstance(size := dim.evaluate(sizes), int)
            }
            steps = (_product(dims, found) for node in self.graph for dims in products(node))
            self.known[key] = sum(steps)
        return self.known[key]


def _product(dims: Dims, known: Mapping[str, int]) -> int:
    """0 where one of the sizes is not known."""
    return math.prod(dim if isinstance(dim, int) else known.get(str(dim), 0) for dim in dims)


@dataclass
class Budget:
    """What a proof may compute (`where` says of which runs), and has."""

    work: Work
    whole: float
    where: str = ""
    spent: int = 0

    def spend(self, sizes: Sizes) -> None:
        self.spent += self.work(sizes)

    def is_large(self, sizes: Sizes) -> bool:
        """Whether a trial at these sizes takes so much that lighter ones are looked for."""
        return self.work(sizes) > self.whole / CHEAP_TRIAL

    def fits(self, choices: Iterable[Sizes]) -> bool:
        return self.spent + sum(map(self.work, choices)) <= self.whole

    def beyond(self, sizes: Sizes, values: str = "") -> str | None:
        """Why a trial at these sizes and odd values is left out, or None: it would take more than is left."""
        if self.fits([sizes]):
            return None
        at = "; ".join(filter(None, (sizes_text(sizes), values)))
        return (
            f"not compared{self.where} at {at}: it takes {self.work(sizes) / 1e9:,.1f} billion multiplications, and of "
            f"the {self.whole / 1e9:,.0f} billion of a proof {self.spent / 1e9:,.1f} are spent"
        )
