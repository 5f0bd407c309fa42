"""Choices of sizes for the free axes: those that a graph can take, and others than the ones that a source ran at."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import sympy

from bridge.graph.ranges import FREE, Range
from bridge.graph.shapes import Dim, formula, shape_of
from bridge.verification.inputs.requirements import Requirements, left_in_table

Sizes = dict[str, int]

STEPS = (1, 2, 4, 8, 16, 32, 64)
LONGEST_TRIED = 1024  # a longest size beyond it is not tried, nor beyond it searched
LONGEST_TABLE = 1 << 20  # rows
LARGE = 1 << 22  # elements of all inputs beyond which sizes are not tried
SCAN = 3000  # random choices that are held against the requirements
FITTED = 100  # choices of sizes, next to which are those that fit
SMALL_SIZES = (1, 2, 3, 4, 5, 6, 8, 12, 16, 32)  # what they are drawn from, beside the graph's own numbers


def sizes_text(sizes: Sizes) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "as exported"


def symbols(values: Iterable[ir.Value]) -> list[str]:
    """The names of the free axes, in order."""
    dims = (dim for value in values for dim in shape_of(value) if not isinstance(dim, int))
    return list(dict.fromkeys(s for dim in dims for s in sorted(dim.free_symbols())))


def evaluate(dim: Dim, sizes: Mapping[str, int]) -> int:
    size = dim if isinstance(dim, int) else dim.evaluate(sizes)
    assert isinstance(size, int), f"{dim} at {sizes}"
    return size


def solve(values: Sequence[ir.Value], arrays: Sequence[np.ndarray]) -> Sizes:
    """The sizes of the free axes of `arrays`; those of a dim such as 4*w too."""
    found: Sizes = {}
    pairs = [
        pair for v, a in zip(values, arrays, strict=True) for pair in zip(shape_of(v), a.shape, strict=True)
    ]
    for dim, size in pairs:
        if not isinstance(dim, int) and dim.value in dim.free_symbols():
            found.setdefault(dim.value, size)
    for dim, size in pairs:
        if isinstance(dim, int) or len(missing := dim.free_symbols() - found.keys()) != 1:
            continue
        expression = formula(dim)
        assert expression is not None  # as it has a symbol
        (symbol,) = (s for s in expression.free_symbols if str(s) in missing)
        for number in sympy.solve(expression - size, symbol)[:1]:
            if number.is_Integer:
                found[str(symbol)] = int(number)
    return {name: found[name] for name in symbols(values) if name in found}


def batch_axis(values: Sequence[ir.Value]) -> str | None:
    """The axis that grows slowly where there are several: the first one of the first input that has any."""
    names = symbols(values)
    return names[0] if len(names) > 1 else None


# --- around sizes that the source runs at -------------------------------------------------------------------------


def other_sizes(
    values: Sequence[ir.Value], base: Sizes, ranges: Mapping[str, Range], spare: Sequence[Sizes] = ()
) -> Iterator[list[Sizes]]:
    """Groups of other sizes: longer, a batch of one and much longer, the shortest, in between, the longest. The first
    of each group that the source runs at is to be taken. `spare` comes last in each."""
    first = batch_axis(values)

    def group(few: int | None, *rules: Callable[[str, int], int]) -> list[Sizes]:
        rows = [
            {n: few if n == first and few else rule(n, size) for n, size in base.items()} for rule in rules
        ]
        return [_within(row, ranges) for row in rows] + list(spare)

    if not base:
        return
    low = {name: ranges.get(name, FREE).low for name in base}
    steps = [lambda _, n, s=s: n + s for s in STEPS]
    lower = [lambda _, n, s=s: max(n - s, 1) for s in STEPS]
    small = [lambda name, n, s=s: min(low[name] + s, n) for s in (0, 1, 3, 7, 15, 31)]
    at = base.get(first or "", 0)
    yield group(at + 1, *steps, lambda _, n: 2 * n)
    yield group(1, lambda _, n: 3 * n, lambda _, n: 2 * n, *steps) + group(None, lambda _, n: 3 * n)
    yield group(2, *small)
    yield group(at + 2, lambda _, n: max(n // 2, 1), *lower)
    tops = {name: high for name in base if (high := ranges.get(name, FREE).high) is not None}
    if any(base[name] < high <= LONGEST_TRIED for name, high in tops.items()):
        yield group(
            None, lambda name, n: max(n, tops.get(name, n) if tops.get(name, n) <= LONGEST_TRIED else n)
        )


def _within(sizes: Sizes, ranges: Mapping[str, Range]) -> Sizes:
    return {name: ranges.get(name, FREE).nearest(n) for name, n in sizes.items()}


def count_elements(values: Sequence[ir.Value], sizes: Sizes) -> int:
    return sum(math.prod(evaluate(dim, sizes) for dim in shape_of(value)) for value in values)


# --- where no sizes are known ---------------------------------------------------------------------------------


def search(values: Sequence[ir.Value], graph: ir.Graph, seed: int) -> Iterator[Sizes]:
    """Sizes to try, small ones that differ first, then those that the graph's own requirements allow, the more
    regular the earlier, then what is left."""
    names = symbols(values)
    if not names:
        yield {}
        return
    asked = Requirements.of(ir.traversal.RecursiveGraphIterator(graph), names)
    ranges = {name: asked.range(name, LONGEST_TRIED) for name in names}
    first, *more = dict.fromkeys(_rows(values, names, _numbers(graph), seed))
    fitted = (asked.fit(row, ranges) for row in (first, *more[:FITTED]))
    rows = np.array(list(dict.fromkeys([first, *fitted, *more])), dtype=np.int64)
    allowed = asked.allow(rows)
    order = [0, *np.flatnonzero(allowed), *np.flatnonzero(~allowed)]
    for index in dict.fromkeys(map(int, order)):
        sizes = dict(zip(names, map(int, rows[index]), strict=True))
        if count_elements(values, sizes) <= LARGE:
            yield sizes


def allowed_sizes(graph: ir.Graph) -> dict[str, Range]:
    """The sizes that a graph itself allows each of its free axes, whatever those of the others are."""
    names = symbols(graph.inputs)
    asked = Requirements.of(graph, names)  # what stands in a branch is asked where that is taken only
    found = {name: asked.range(name, LONGEST_TRIED) for name in names}
    return {name: sizes for name, sizes in found.items() if sizes != FREE}


def sizes_within_tables(graph: ir.Graph) -> dict[str, Range]:
    """The sizes of each free axis at which positions along it are within the tables that they are looked up in."""
    left = tuple(size for node in graph for size in left_in_table(node) if not isinstance(size, int))
    names = symbols(graph.inputs) if left else []
    asked = Requirements(names, (), (), left)
    found = {name: asked.range(name, LONGEST_TABLE) for name in names}
    return {name: sizes for name, sizes in found.items() if sizes != FREE}


def _rows(
    values: Sequence[ir.Value], names: list[str], numbers: list[int], seed: int
) -> Iterator[tuple[int, ...]]:
    yield tuple(3 + 2 * i for i in range(len(names)))
    heads = {dim.value for v in values for dim in list(shape_of(v))[:1] if not isinstance(dim, int)} & set(
        names
    )
    if len(heads) == len(names):
        heads = set(names[: len(names) > 1])
    place = {name: i for i, name in enumerate(n for n in names if n not in heads)}
    for few in (3, 1):
        steps = (*STEPS, *numbers)
        yield from (tuple(few if n in heads else s * (2 + place[n]) for n in names) for s in steps)
        yield from (tuple(few if n in heads else size for n in names) for s in steps for size in (2 * s, s))
    yield from _partitions(names)
    for few in (3, 1):
        yield from (tuple(few if n in heads else size for n in names) for size in range(1, LONGEST_TRIED + 1))
    rng = np.random.default_rng([seed, 1])
    pool = np.array(sorted({*SMALL_SIZES, *numbers}))
    yield from map(tuple, rng.choice(pool, (SCAN, len(names))).tolist())


def _partitions(names: list[str]) -> Iterator[tuple[int, ...]]:
    """Small sizes, some of them equal to one another."""
    if len(names) <= 4:
        for row in itertools.product(range(len(names)), repeat=len(names)):
            yield tuple(3 + 2 * i for i in row)
    yield (4,) * len(names)


def _numbers(graph: ir.Graph) -> list[int]:
    """What the graph's own constants and weights say of sizes."""
    found: set[int] = set()
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None:
            continue
        found.update(tensor.shape.numpy())
        if tensor.dtype.is_integer() and tensor.size <= 16:
            found.update(int(n) for n in tensor.numpy().flat)
    return sorted(n for n in found if 1 < n <= LONGEST_TRIED)[:32]
