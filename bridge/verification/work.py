"""How much a proof may compute. The work of a graph at a choice of sizes is the multiplications that follow from its
shapes, so that the same is compared on every machine and every time; seconds would say otherwise of a busy one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import onnx_ir as ir

from bridge.verification.sizes import Sizes, sizes_text

BUDGET = 10**11  # multiplications of all trials of a proof, in each of the libraries that run them
SLOWER = 10  # a graph that is run node by node in float64, which then has so much less
FIRST = 4  # a trial that may be chosen is of this part of the budget at most
OTHERS = 1  # choices of sizes beside the first that are tried whatever they take
KINDS = 2  # of odd values, likewise
Numbers = Mapping[int, tuple[int, ...]]  # shapes of the inputs of a node, where they are known


def _convolved(node: ir.Node, given: Numbers, made: int) -> int:
    """A window of the kernel for every number that it makes."""
    return made * math.prod(given[1][1:]) if 1 in given else made


def _scattered(node: ir.Node, given: Numbers, made: int) -> int:
    """A transposed convolution: a window for every number that it is given."""
    return math.prod(given[0]) * math.prod(given[1][1:]) if given.keys() >= {0, 1} else made


def _multiplied(node: ir.Node, given: Numbers, made: int) -> int:
    """A row with a column for every number that it makes."""
    rows = given.get(0, (1,))
    return made * (
        rows[0] if "transA" in node.attributes and node.attributes["transA"].as_int() else rows[-1]
    )


def _recurred(node: ir.Node, given: Numbers, made: int) -> int:
    """Both matrices at every step."""
    steps = math.prod(given.get(0, (1,))[:-1])
    return steps * sum(math.prod(given.get(place, (0,))) for place in (1, 2))


def _attended(node: ir.Node, given: Numbers, made: int) -> int:
    """Every query with every key, and the matrices of a layer that has them."""
    queries, keys = given.get(0, (1,)), given.get(1, (1, 1))
    scores = 2 * math.prod(queries) * keys[-2]
    matrices = [math.prod(given[place]) for place in range(3, 7) if place in given and node.domain]
    return scores + sum(matrices) * math.prod(queries[:-1])


Formula = Callable[[ir.Node, Numbers, int], int]
RECURRENT = [
    f"{kind}{op}{end}" for kind in ("", "Bi") for op in ("LSTM", "GRU", "RNN") for end in ("", "From", "Cell")
]
FORMULAS: dict[str, Formula] = {
    "Conv": _convolved,
    "ConvTranspose": _scattered,
    **dict.fromkeys(("Gemm", "MatMul", "Linear", "TiedProjection", "Einsum"), _multiplied),
    **dict.fromkeys((*RECURRENT, "LSTMP", "LSTMPFrom"), _recurred),
    **dict.fromkeys(("Attention", "MultiHeadAttention"), _attended),
}


@dataclass(frozen=True)
class Work:
    """What a graph multiplies at given sizes; a number that is made in another way counts as one multiplication."""

    graph: ir.Graph
    known: dict[tuple[tuple[str, int], ...], int] = field(default_factory=dict)

    @cached_property
    def _dims(self) -> dict[str, Any]:
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
            self.known[key] = sum(_work(node, found) for node in self.graph)
        return self.known[key]


def _work(node: ir.Node, known: Mapping[str, int]) -> int:
    given = {place: shape for place, value in enumerate(node.inputs) if (shape := _shape(value, known))}
    made = sum(math.prod(_shape(value, known) or (0,)) for value in node.outputs)
    formula = FORMULAS.get(node.op_type)
    return made if formula is None else formula(node, given, made)


def _shape(value: ir.Value | None, known: Mapping[str, int]) -> tuple[int, ...] | None:
    """The sizes of `value`; None where one is not known."""
    if value is None or value.shape is None:
        return None
    sizes = [dim if isinstance(dim, int) else known.get(str(dim)) for dim in value.shape]
    return None if None in sizes else tuple(size for size in sizes if size is not None)


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
        return self.work(sizes) > self.whole / FIRST

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
