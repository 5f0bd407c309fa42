"""What may stand wrongly in the place of an expression."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any

SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or,
    ast.Or: ast.And,
}  # fmt: skip
COUSINS = [
    "floor ceil", "minimum maximum", "min max", "amin amax", "less less_equal", "greater greater_equal", "add subtract",
    "logical_and logical_or", "argmax argmin", "exp expm1", "log log1p", "sin cos", "sinh cosh", "round floor",
    "sum mean", "zeros_like ones_like", "relu relu6", "divide multiply", "equal not_equal", "sigmoid hard_sigmoid",
    "constant reflect", "edge reflect", "same valid", "nearest bilinear", "Add Sub", "Mul Div", "Less LessOrEqual",
    "Min Max", "Floor Ceil", "Greater GreaterOrEqual", "ReduceMax ReduceMin", "tanh sigmoid", "half_pixel asymmetric",
]  # fmt: skip
OTHER = {name: other for pair in COUSINS for name, other in (pair.split(), pair.split()[::-1])}
ORDERING = ("sorted", "reversed")  # functions of one argument, which may stand for itself
OPERATORS = "op ops keras.ops torch np nn core aten emit layers function compute compare reduce".split()


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand wrongly in the place of an expression."""
    match node:
        case ast.BinOp() | ast.BoolOp():
            if type(node.op) in SWAPS:
                yield changed(node, op=SWAPS[type(node.op)]())
        case ast.Compare(ops=[only]) if type(only) in SWAPS:
            yield changed(node, ops=[SWAPS[type(only)]()])
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.IfExp():
            yield changed(node, body=node.orelse, orelse=node.body)
        case ast.If(test=ast.Name() | ast.Call() | ast.Attribute()):
            yield changed(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Constant(value=value):
            yield from (changed(node, value=other) for other in _other_constants(value))
        case ast.Attribute(attr=name) if name in OTHER:
            yield changed(node, attr=OTHER[name])
        case ast.Tuple(ctx=ast.Load()) | ast.List(ctx=ast.Load()) if _differ(node.elts[-2:]):
            yield changed(node, elts=[*node.elts[:-2], *node.elts[:-3:-1]])
        case ast.Call():
            yield from _other_calls(node)


def telling(node: ast.AST) -> bool:
    """Whether it is likely that other numbers come of it, rather than an error or the same."""
    match node:
        case ast.BinOp() | ast.UnaryOp(op=ast.USub()) | ast.Attribute():
            return True
        case ast.Constant(value=value):
            return isinstance(value, float | str)
        case ast.Call():
            return ast.unparse(getattr(node.func, "value", node.func)) in OPERATORS
    return False


def _differ(ends: list[ast.expr]) -> bool:
    """Whether they are two values; names beside one another are mostly types."""
    return len(ends) == 2 and not all(isinstance(x, ast.Name | ast.Attribute | ast.Starred) for x in ends)


def _other_constants(value: Any) -> Iterator[Any]:
    match value:
        case bool():
            yield not value
        case int():
            yield value + 1
        case float():
            yield value * 1.1 + 0.01
        case str() if value in OTHER:
            yield OTHER[value]
        case str() if "->" in value:  # an einsum or a rearrangement: two axes the other way round
            head, arrow, tail = value.rpartition("->")
            letters = [place for place, letter in enumerate(tail) if letter.isalpha()]
            if len(letters) > 1:
                a, b = letters[-2:]
                yield head + arrow + tail[:a] + tail[b] + tail[a + 1 : b] + tail[a] + tail[b + 1 :]


def _other_calls(node: ast.Call) -> Iterator[ast.expr]:
    for index, keyword in enumerate(node.keywords):
        if keyword.arg:
            yield changed(node, keywords=node.keywords[:index] + node.keywords[index + 1 :])
    name, owner = getattr(node.func, "id", ""), ast.unparse(getattr(node.func, "value", node.func))
    if len(node.args) == 1 and not node.keywords and (name in ORDERING or owner in OPERATORS):
        yield node.args[0]
    if len(node.args) == 2 and not any(isinstance(x, ast.Starred) for x in node.args) and owner in OPERATORS:
        yield changed(node, args=node.args[::-1])


def changed(node: Any, **fields: Any) -> Any:
    """A copy of `node` with other fields."""
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other
