"""What a graph asks of the sizes of its free axes: axes that meet have to agree, and none may be empty."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
import sympy

from bridge.graph.functions import DOMAIN
from bridge.graph.ranges import FREE, Range
from bridge.graph.recurrent import RECURRENT, STATES, RecurrentOp
from bridge.graph.rewriting import attribute, input_of, inputs_of, is_onnx
from bridge.graph.shapes import formula, squeezed_axes, symbolic_contents

BROADCAST = frozenset(
    "Add And BitwiseAnd BitwiseOr BitwiseXor Div Equal Expand Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod "
    "Mul Or Pow Sub Sum Where Xor".split()
)
SHAPING = frozenset(
    "Cast Expand Identity Reshape Squeeze Unsqueeze".split()
)  # which move integers, and no more
SLACK = 1e-6  # by which a quotient may be off that is whole
Size: TypeAlias = "sympy.Expr | int"
Pair: TypeAlias = tuple[Size, Size]


@dataclass(frozen=True)
class Requirements:
    """`equal`: pairs of sizes that are the same; `broadcast`: the same, or one of them 1; `sizes`: at least 1."""

    names: Sequence[str]
    equal: tuple[Pair, ...]
    broadcast: tuple[Pair, ...]
    sizes: tuple[Size, ...]

    @classmethod
    def of(cls, nodes: Iterable[ir.Node], names: Sequence[str]) -> Requirements:
        """Of those nodes, whose shapes `passes.infer_shapes` has written in terms of the free axes `names`."""
        equal, broadcast, sizes = set[Pair](), set[Pair](), set[Size]()
        for node in nodes:
            shapes = [_dims(value) for value in node.inputs]
            equal.update(_equal(node, shapes))
            if node.op_type in BROADCAST and not node.domain:
                broadcast.update(_aligned([shape for shape in shapes if shape is not None]))
            sizes.update(dim for value in node.outputs for dim in _dims(value) or ())
            sizes.update(left_in_table(node))

        def of_inputs(*dims: object) -> bool:
            free = {str(s) for dim in dims for s in getattr(dim, "free_symbols", ())}
            return bool(free) and free <= set(names)

        return cls(
            tuple(names),
            tuple(p for p in equal if of_inputs(*p)),
            tuple(p for p in broadcast if of_inputs(*p)),
            tuple(dim for dim in sizes if of_inputs(dim)),
        )

    def allow(self, rows: np.ndarray) -> np.ndarray:
        """Which rows of sizes, one column for each name, meet all of them."""
        pairs = (*self.equal, *self.broadcast)
        expressions = [dim for pair in pairs for dim in pair] + list(self.sizes)
        if not expressions:
            return np.ones(len(rows), bool)
        found = _evaluate(expressions, self.names, rows)
        left, right = found[0 : 2 * len(pairs) : 2], found[1 : 2 * len(pairs) : 2]
        same = left == right
        ones = (left == 1) | (right == 1)
        ones[: len(self.equal)] = False
        return (same | ones).all(0) & (found >= 1).all(0)

    def fit(self, row: Sequence[int], ranges: Mapping[str, Range]) -> tuple[int, ...]:
        """The sizes nearest to `row` that are within `ranges`, those that have to be one size alike."""
        sizes = dict(zip(self.names, row, strict=True))
        pairs = sorted((self.names.index(b), a, b) for a, b in self._names_alike())
        for _, first, second in pairs:
            sizes[second] = sizes[first]
        return tuple(ranges[name].nearest(size) for name, size in sizes.items())

    def _names_alike(self) -> Iterator[tuple[str, str]]:
        """The axes that have to be one size, in the order of the names."""
        for pair in self.equal:
            texts = sorted({str(dim) for dim in pair} & set(self.names), key=self.names.index)
            if len(texts) == 2:
                yield texts[0], texts[1]

    def range(self, name: str, longest: int) -> Range:
        """The sizes up to `longest` that `name` may have whatever the others are; all, where they are no range."""

        def alone(dims: Iterable[Size]) -> bool:
            return {str(s) for dim in dims for s in getattr(dim, "free_symbols", ())} == {name}

        own = Requirements(
            (name,),
            tuple(filter(alone, self.equal)),
            tuple(filter(alone, self.broadcast)),
            tuple(dim for dim in self.sizes if alone((dim,))),
        )
        sizes = np.flatnonzero(own.allow(np.arange(1, longest + 1)[:, None])) + 1
        steps = set(np.diff(sizes).tolist())
        if not sizes.size or len(steps) > 1:
            return FREE
        step, last = max(steps, default=1), int(sizes[-1])
        return Range(int(sizes[0]), None if last + step > longest else last, step)


def _evaluate(expressions: Sequence[Size], names: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """The value of every expression at every row; NaN where it has none, or none that is whole."""
    columns = dict(zip(names, rows.T.astype(np.float64), strict=True))
    formulas = list(dict.fromkeys(e for e in expressions if not isinstance(e, int)))
    symbols = sorted({s for formula in formulas for s in formula.free_symbols}, key=str)
    # An axis may be called as a function is
    compiled = sympy.lambdify(symbols, formulas, [{"floor": _floor}, "numpy"], dummify=True)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = dict(zip(formulas, compiled(*(columns[str(s)] for s in symbols)), strict=True))
    found = np.full((len(expressions), len(rows)), np.nan)
    for index, expression in enumerate(expressions):
        found[index] = expression if isinstance(expression, int) else values[expression]
    whole = np.rint(found)
    return np.where(np.abs(found - whole) < SLACK, whole, np.nan)


def _floor(x: np.ndarray) -> np.ndarray:
    return np.floor(x + SLACK)


def left_in_table(node: ir.Node) -> Iterator[Size]:
    """Where `node` looks up positions along an axis in a table: one more than the rows behind the last of them."""
    if not is_onnx(node, "Gather"):
        return
    table, last = _dims(input_of(node, 0)), _last(input_of(node, 1))
    if table is not None and last is not None:
        yield table[attribute(node, "axis", 0)] - last


def _last(positions: ir.Value) -> Size | None:
    """The largest of what is counted on from some number, in whatever shape; None of anything else."""
    node = positions.producer()
    if node is None or node.domain:
        return None
    if node.op_type == "Range":
        _, limit, step = map(_one, inputs_of(node))
        return None if limit is None or step != 1 else limit - 1
    if node.op_type == "Add":
        pairs = [(_last(a), _one(b)) for a, b in itertools.permutations(inputs_of(node))]
        return next((last + more for last, more in pairs if last is not None and more is not None), None)
    return _last(input_of(node, 0)) if node.op_type in SHAPING else None


def _one(value: ir.Value) -> Size | None:
    """The one integer in `value`, where it is known or a size."""
    found = symbolic_contents(value)
    if found is None or len(found) != 1:
        return None
    return found[0] if isinstance(found[0], int) else formula(found[0])


def _dims(value: ir.Value | None) -> tuple[Size, ...] | None:
    if value is None or value.shape is None:
        return None
    return tuple(
        d if isinstance(d, int) else sympy.Dummy() if formula(d) is None else formula(d) for d in value.shape
    )


def _equal(node: ir.Node, shapes: list[tuple[Size, ...] | None]) -> Iterator[Pair]:
    """The sizes that have to be the same for `node` to run."""
    known = [shape for shape in shapes if shape is not None]
    first, second = (shapes + [None, None])[:2]
    if node.op_type == "Concat":
        axis = node.attributes["axis"].as_int() % len(known[0]) if known else 0
        for other in known[1:]:
            yield from (pair for i, pair in enumerate(zip(known[0], other, strict=False)) if i != axis)
    elif node.op_type in ("MatMul", "Linear", "Gemm") and first and second:
        turned = [node.attributes[n].as_int() if n in node.attributes else 0 for n in ("transA", "transB")]
        yield first[-2 if turned[0] else -1], second[-1 if turned[1] or len(second) == 1 else -2]
    elif node.op_type == "Reshape" and first is not None:
        made = _dims(node.outputs[0])
        if made is not None:
            yield math.prod(first), math.prod(made)
    elif (layer := _recurrent(node)) is not None and layer.given_state and first is not None:
        states = shapes[-layer.directions * len(STATES[layer.mode]) :]
        yield from ((first[1 if layer.is_projected else 0], state[-2]) for state in states if state)
    elif node.op_type == "Squeeze" and first is not None:
        yield from ((first[axis], 1) for axis in squeezed_axes(node) or ())
    elif node.op_type == "GatherND" and first and second:  # which onnxruntime does not ask for
        count = node.attributes["batch_dims"].as_int() if "batch_dims" in node.attributes else 0
        yield from zip(first[:count], second[:count], strict=True)
    elif node.op_type in ("Conv", "ConvTranspose") and first and second:
        group = node.attributes["group"].as_int() if "group" in node.attributes else 1
        yield first[1], second[1] * group if node.op_type == "Conv" else second[0]


def _recurrent(node: ir.Node) -> RecurrentOp | None:
    return RECURRENT.get(node.op_type) if node.domain == DOMAIN else None


def _aligned(shapes: Sequence[tuple[Size, ...]]) -> Iterator[Pair]:
    """The sizes that broadcasting puts beside one another."""
    rank = max(map(len, shapes), default=0)
    for place in range(1, rank + 1):
        dims = [shape[-place] for shape in shapes if len(shape) >= place]
        yield from ((dims[0], other) for other in dims[1:] if other != dims[0])
