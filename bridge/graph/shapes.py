"""What shape inference found of a graph's values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fractions import Fraction
from typing import TypeAlias

import onnx
import onnx_ir as ir
import onnx_shape_inference
import sympy
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from bridge.errors import Refusal, UnsupportedError
from bridge.graph.functions import is_foreign
from bridge.graph.provenance import refusal
from bridge.graph.rewriting import integers, owner_graph
from bridge.graph.walk import nodes_in

Dim: TypeAlias = int | ir.SymbolicDim  # a size: a number, or known by its name or formula alone
ENDS = {"EyeLike", "RegexFullMatch"}  # of which onnx's inference ends the process where an input has no type
FAR = 1 << 30  # an index along an axis beyond it means: to the end


def formula(dim: ir.SymbolicDim) -> sympy.Expr | None:
    """The expression of sympy behind a size, or None where its name is no formula."""
    return dim._expr


class _Written(StrPrinter):
    """Divisions of integers as Python writes them, rounded down."""

    def _print_floor(self, expression: sympy.Expr) -> str:
        top, bottom = sympy.fraction(sympy.together(expression.args[0]))
        parts = (self.parenthesize(part, PRECEDENCE["Mul"], strict=True) for part in (top, bottom))
        return f"({' // '.join(parts)})"


def written(dim: Dim) -> str:
    """A size for people to read: `(width // 2) + 1`; `?` where nothing is known of it."""
    if isinstance(dim, int) or dim.value is None:
        return "?" if isinstance(dim, ir.SymbolicDim) else str(dim)
    try:
        return str(_Written().doprint(formula(dim)))
    except ValueError:  # it is in functions of whoever wrote it
        return str(dim)


def symbolic_contents(value: ir.Value) -> list[int | ir.SymbolicDim] | None:
    """The integers in `value`, some of them symbolic, from shape inference; None if not known."""
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        numbers = tensor.numpy().reshape(-1).tolist()
        return [int(item) for item in numbers] if all(float(item).is_integer() for item in numbers) else None
    text = value.metadata_props.get(onnx_shape_inference.SYM_DATA_KEY)
    if text is None:
        return None
    return [item if isinstance(item, int) else ir.SymbolicDim(item) for item in json.loads(text)]


def surely_covers(length: int | ir.SymbolicDim, count: int, size: int | ir.SymbolicDim) -> bool:
    """Whether `count` parts of this length cover a size for certain, whatever the free sizes are."""
    if any(isinstance(dim, ir.SymbolicDim) and dim.value is None for dim in (length, size)):
        return False
    least = count * _least(_expression(length)) - _expression(size)
    return bool(sympy.simplify(least).is_nonnegative)


def _least(length: sympy.Expr) -> sympy.Expr:
    """No more than `length`: a division of integers rounded down loses less than one, one rounded up nothing."""
    if isinstance(-length, sympy.floor):
        return -(-length).args[0]
    if isinstance(length, sympy.floor):
        dividend, divisor = sympy.fraction(sympy.together(length.args[0]))
        return (dividend - divisor + 1) / divisor if divisor.is_Integer else length
    return length


def _expression(dim: int | ir.SymbolicDim) -> sympy.Expr:
    return sympy.Integer(dim) if isinstance(dim, int) else dim._expr


def shape_of(value: ir.Value) -> tuple[Dim, ...]:
    """The sizes of the axes of `value`. Raises `UnsupportedError` where not even their number is known, with the
    operators that may be at fault."""
    if value.shape is None:
        raise UnsupportedError(_why_unknown(value))
    return tuple(value.shape)


def _why_unknown(value: ir.Value) -> list[Refusal]:
    maker, reason = value.producer(), f"the rank of {value.name} is not known"
    if maker is None:
        return [Refusal("value", str(value.name), reason)]
    untyped = (node for node in owner_graph(maker) if is_foreign(node) and node.outputs[0].shape is None)
    return list(map(refusal, untyped)) or [refusal(maker, reason)]


def rank(value: ir.Value) -> int:
    """How many axes `value` has. Raises `UnsupportedError` where that is not known."""
    return len(shape_of(value))


def kept_ratio(policy: str, sizes: Iterable[tuple[int, int]]) -> Fraction:
    """The one scale of all axes of a Resize that keeps their ratio, of the sizes asked for and those that there are."""
    scales = [Fraction(wanted, given) for wanted, given in sizes]
    return min(scales) if policy == "not_larger" else max(scales)


def squeezed_axes(node: ir.Node) -> list[int] | None:
    """The axes that a Squeeze takes away: those that it names, or all that are known to be one. None where the graph
    computes them, or the rank is not known."""
    data, *axes = node.inputs
    if data is None or data.shape is None:
        return None
    if not axes or axes[0] is None:
        return [axis for axis, dim in enumerate(data.shape) if dim == 1]
    named = integers(axes[0])
    return None if named is None else sorted(axis % data.shape.rank() for axis in named)


def typed_by_onnx(model: onnx.ModelProto, **options: bool) -> onnx.ModelProto:
    """`model` with the types and shapes that onnx infers; as it is where an operator that it does not know, whose
    results have no type, stands beside one of `ENDS`. Raises what onnx does."""
    nodes = [node for owner in (model.graph, *model.functions) for node in nodes_in(owner)]
    untyped = any(node.domain not in ("", "ai.onnx") for node in nodes)
    if untyped and any(node.op_type in ENDS for node in nodes):
        return model
    return onnx.shape_inference.infer_shapes(model, **options)
