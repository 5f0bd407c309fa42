"""What a graph may ask for: how large a value may be, and how long the algebra of its sizes.

All of it is known from shapes, before a byte is allocated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from bridge.errors import SourceError
from bridge.graph.axes import MAX_RANK
from bridge.graph.shapes import Dim
from bridge.passes.normal_form import depth, plain_symbol
from bridge.passes.work import FAST, SLOW, products

# By how they read: sizes, times, whose
Products: TypeAlias = dict[tuple[str, ...], tuple[tuple[Dim, ...], int, str]]
MAX_VALUE_BYTES = 1 << 30  # of one value, where every free size is 1
MAX_RUN_BYTES = 1 << 28  # of one value, at sizes that nobody asked for
UNSIZED = (ir.DataType.STRING, ir.DataType.UNDEFINED)  # types whose values have no size of their own
MAX_STEPS = 10**11  # of all nodes, at sizes that nobody asked for: seconds
MAX_OF_ALL = 2 * 10**11  # of them, at any
MAX_COMPARED = 1 << 24  # numbers in outputs, at sizes that nobody asked for
MAX_CONTENTS = 1024  # elements of shape arithmetic that are followed
MAX_TEXT = 400  # characters of the formula of a size
MAX_DEPTH = 12  # of roundings and choices within one another in such a formula
ROOM = "room"  # in a model's meta: what its values take
HUGE = re.compile(r"\d{19}|\*\*\d\d")  # in such a formula: numbers of no size
LARGE = re.compile(r"\d{4}")


class Bounded(ShapeInferenceContext):
    """Shape inference that writes formulas in their normal form, and gives one up, for a symbol of its own, before it
    grows out of hand."""

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self._names: dict[str, ir.SymbolicDim] = {}

    def create_child(self, opset_imports=None, *, resolved_attrs=None):
        imports = self.opset_imports if opset_imports is None else opset_imports
        child = Bounded(imports, self.policy, resolved_attrs, allocator=self._allocator)
        child._names = self._names
        return child

    def set_shape(self, value: ir.Value, shape: ir.Shape) -> bool:
        if len(shape) > MAX_RANK:
            raise SourceError(f"{value.name} has {len(shape)} axes; numpy's arrays have at most {MAX_RANK}")
        return super().set_shape(value, ir.Shape([self._short(dim) for dim in shape]))

    def set_symbolic_value(self, value: ir.Value, data: list[Dim]) -> None:
        if len(data) > MAX_CONTENTS or any(
            isinstance(d, int) and not -(1 << 63) <= d < 1 << 63 for d in data
        ):
            return
        super().set_symbolic_value(value, [self._short(dim) for dim in data])

    def get_symbolic_value(self, value: ir.Value) -> list[Dim] | None:
        tensor = ir.convenience.get_const_tensor(value)
        return (
            None if tensor is not None and tensor.size > MAX_CONTENTS else super().get_symbolic_value(value)
        )

    def _short(self, dim: Dim) -> Dim:
        if isinstance(dim, int) or dim.value is None:
            return dim
        if len(dim.value) > MAX_TEXT or HUGE.search(dim.value):
            return self._renamed(dim.value)
        short = plain_symbol(dim)
        if isinstance(short, int) or depth(short) <= MAX_DEPTH:
            return short
        return self._renamed(str(short.value))

    def _renamed(self, formula: str) -> ir.SymbolicDim:
        """The symbol that stands for `formula`, wherever it comes up."""
        if formula not in self._names:
            self._names[formula] = self.new_symbolic_dim()
        return self._names[formula]


def require_bounds(graph: ir.Graph) -> None:
    """Raise `SourceError` if a value of `graph` has a negative size, or is larger than memory should be asked for
    whatever the free sizes."""
    for value, where in _values(graph):
        if value.shape is not None and any(isinstance(dim, int) and dim < 0 for dim in value.shape):
            raise SourceError(f"{where} has an axis of a negative size")
        size = least_bytes(value)
        if size > MAX_VALUE_BYTES:
            raise SourceError(
                f"{where} takes {size / (1 << 30):,.0f} GiB or more; values of more than {MAX_VALUE_BYTES >> 30} GiB "
                f"are not built"
            )


@dataclass(frozen=True)
class Room:
    """What a graph takes at given sizes: memory for its values, steps of its nodes, numbers to be compared."""

    values: Products  # bytes
    nodes: Products  # steps
    outputs: Products  # numbers

    @classmethod
    def of(cls, graph: ir.Graph) -> Room:
        values: Products = {}
        for value, where in _values(graph):
            dims, size = tuple(value.shape or ()), _itemsize(value.dtype)
            if any(not isinstance(dim, int) for dim in dims):
                values[tuple(map(str, dims))] = dims, size, where
        nodes: Products = {}
        for node in graph:
            for dims in products(node):
                slower = 1 if node.op_type in FAST else SLOW
                _add(nodes, dims, slower, f"{node.op_type} {node.outputs[0].name}")
        outputs: Products = {}
        for value in graph.outputs:
            _add(outputs, tuple(value.shape or ()), 1, f"output {value.name}")
        return cls(values, nodes, outputs)

    def beyond(self, sizes: Mapping[str, int]) -> str | None:
        """Why the graph is not run at `sizes`, or None: a value takes more than `MAX_RUN_BYTES`, the nodes more than
        `MAX_STEPS`, or outputs have more than `MAX_COMPARED` numbers. A graph that takes half as much at sizes of 1
        may take as much."""
        size, where = max(_taken(self.values, sizes), default=(0, ""))
        if size > MAX_RUN_BYTES:
            return f"{where} would take {size / (1 << 20):,.0f} MiB"
        for rows, limit, what in (
            (self.nodes, MAX_STEPS, "its nodes would take {:,} steps"),
            (self.outputs, MAX_COMPARED, "its outputs would have {:,} numbers"),
        ):
            least = sum(count for count, _ in _taken(rows))
            found = list(_taken(rows, sizes))
            total = sum(count for count, _ in found)
            if total > min(max(limit, 2 * least), MAX_OF_ALL):
                return f"{what.format(total)}, most of them {max(found)[1]}"
        return None


def _add(rows: Products, dims: tuple[Dim, ...], factor: int, where: str) -> None:
    """`factor` times the product of `dims` more; what is alike is counted in one row."""
    key = tuple(map(str, dims))
    before = rows[key][1] if key in rows else 0
    rows[key] = dims, before + factor, where


def _taken(rows: Products, sizes: Mapping[str, int] | None = None) -> Iterator[tuple[int, str]]:
    """What each row comes to at `sizes`, or at 1 of each, and whose it is."""
    known: dict[str, int] = {}
    for dims, factor, where in rows.values():
        for dim in dims:
            if str(dim) not in known:
                known[str(dim)] = _least(dim, sizes)
        yield math.prod(known[str(dim)] for dim in dims) * factor, where


def _values(graph: ir.Graph) -> Iterator[tuple[ir.Value, str]]:
    yield from ((value, f"input {value.name}") for value in graph.inputs)
    for node in graph:
        yield from ((value, f"output {value.name} of {node.op_type}") for value in node.outputs)


def least_bytes(value: ir.Value) -> int:
    """The bytes that `value` takes where every free size is 1; 0 if its shape is not known."""
    if value.shape is None:
        return 0
    return math.prod(map(_least, value.shape)) * _itemsize(value.dtype)


def known_bytes(value: ir.Value) -> int | None:
    """The bytes that `value` takes, or None where a size of it is not known."""
    if value.shape is None or not all(isinstance(dim, int) for dim in value.shape):
        return None
    return least_bytes(value)


def _itemsize(dtype: ir.DataType | None) -> int:
    return 8 if dtype is None or dtype in UNSIZED else max(1, math.ceil(dtype.itemsize))


def _least(dim: Dim, sizes: Mapping[str, int] | None = None) -> int:
    """At `sizes`; where none are given, at 1 of each. 1 where it is not known."""
    if isinstance(dim, int):
        return max(dim, 0)
    if dim.value is None or sizes is None and not LARGE.search(dim.value):
        return 1
    try:
        least = dim.evaluate(dict.fromkeys(dim.free_symbols(), 1) | dict(sizes or {}))
        return max(int(least), 1) if isinstance(least, int) else 1
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        return 1  # text that is no formula, or has no value there
