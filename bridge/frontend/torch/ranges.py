"""What torch took for granted of the sizes of the inputs while it traced.

torch answers a question about a free size (`if x.size(1) > 100`) as the example does, and writes down what it took for
granted: a range of the size, or a condition such as `Ne(s, 1)` or `Eq(Mod(s, 2), 0)`. Most of them change nothing
(which kernel is the fastest); `verification.ranges` finds out which do.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir
import sympy
import torch

from bridge.frontend.torch.shapes import Axes
from bridge.graph.ranges import Range
from bridge.graph.shapes import shape_of

Names = dict[sympy.Symbol, str]  # torch's symbols, as the graph calls them


COMPARED: dict[type, Callable[[sympy.Expr, sympy.Expr], sympy.Basic]] = {
    ast.Eq: sympy.Eq, ast.NotEq: sympy.Ne, ast.Lt: sympy.Lt, ast.LtE: sympy.Le, ast.Gt: sympy.Gt, ast.GtE: sympy.Ge,
}  # fmt: skip
COMPUTED: dict[type, Callable[[sympy.Expr, sympy.Expr], sympy.Expr]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Mod: sympy.Mod,
    ast.FloorDiv: lambda a, b: sympy.floor(a / b),
}  # fmt: skip


@dataclass(frozen=True)
class Assumption:
    """A condition on sizes, by the names that they have in the graph."""

    expression: sympy.Basic
    names: Names = field(compare=False)

    @property
    def sizes(self) -> list[str]:
        """The names of the sizes that it is about."""
        return sorted(map(str, self._named.free_symbols))

    @property
    def numbers(self) -> set[int]:
        """The numbers in it, near which it may turn."""
        return {int(number) for number in self.expression.atoms(sympy.Integer)}

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether it holds at `sizes`; where it cannot be said, as after a division by zero, it does not."""
        values = {symbol: sympy.Integer(sizes[self.names[symbol]]) for symbol in self.expression.free_symbols}
        try:
            return bool(self.expression.xreplace(values) == sympy.true)
        except (ZeroDivisionError, ValueError, TypeError, AssertionError):
            return False

    @property
    def sum(self) -> tuple[str, str] | None:
        """A size and the sum of others that it is where the two sides are equal, if there is one."""
        if not isinstance(self._named, sympy.Eq | sympy.Ge | sympy.Le):
            return None
        zero = sympy.expand(self._named.lhs - self._named.rhs)
        for symbol in sorted(zero.free_symbols, key=str):
            factor = zero.coeff(symbol)
            terms = sympy.expand(symbol - zero / factor).as_coefficients_dict() if factor else {}
            if symbol not in sympy.Add(*terms).free_symbols and len(terms) > 1 and min(terms.values()) > 0:
                return str(symbol), str(sympy.Add(*(n * term for term, n in terms.items())))
        return None

    def __str__(self) -> str:
        return str(self._named)

    @property
    def _named(self) -> sympy.Basic:
        sizes = self.names.items()
        named = {symbol: sympy.Symbol(name, integer=True, positive=True) for symbol, name in sizes}
        return self.expression.xreplace(named)


def larger_than_one(name: str) -> Assumption:
    """What is taken for granted of a size whose axis a Squeeze without axes leaves."""
    symbol = sympy.Symbol(name, integer=True, positive=True)
    return Assumption(sympy.Gt(symbol, 1), {symbol: name})


@dataclass(frozen=True)
class Sizes:
    """The sizes of the inputs of an exported program, and what torch knows of them."""

    names: Names
    ranges: dict[sympy.Basic, Any]  # torch's ValueRanges
    conditions: list[sympy.Basic]

    @classmethod
    def of(cls, model: ir.Model, program: torch.export.ExportedProgram) -> Sizes:
        """For `program`, of which `model` was made, the inputs still called as torch calls them."""
        traced = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
        names: Names = {}
        conditions: list[sympy.Basic] = []
        for value in model.graph.inputs:
            tensor = traced.get(value.name)
            for dim, size in zip(value.shape or (), getattr(tensor, "shape", ()), strict=False):
                if not isinstance(size, torch.SymInt) or isinstance(dim, int) or dim.value is None:
                    continue
                known = size.node.shape_env
                asserts = known.deferred_runtime_asserts.values()
                conditions = [known.replace(found.expr) for several in asserts for found in several]
                symbols, called = size.node.expr.free_symbols, sorted(dim.free_symbols())
                if len(symbols) == len(called) == 1:
                    names.setdefault(next(iter(symbols)), called[0])
        return cls(names, program.range_constraints, conditions)

    @property
    def fixed(self) -> dict[str, int]:
        """The sizes that can be one number only, by name."""
        ranges = self.ranges.items()
        return {self.names.get(s, str(s)): int(r.lower) for s, r in ranges if r.lower == r.upper}

    def assumptions(self) -> tuple[Assumption, ...]:
        """Everything that torch takes for granted of these sizes."""
        found = (e for e in (*self._bounds(), *self.conditions) if e.free_symbols)
        known = (e for e in found if e.free_symbols <= set(self.names))
        return tuple(Assumption(expression, self.names) for expression in dict.fromkeys(known))

    def _bounds(self) -> Iterator[sympy.Basic]:
        for symbol, allowed in self.ranges.items():
            if symbol in self.names and allowed.lower != allowed.upper:
                if allowed.lower > 1:
                    yield sympy.Ge(symbol, int(allowed.lower))
                if allowed.upper.is_Integer:
                    yield sympy.Le(symbol, int(allowed.upper))


def guards(program: torch.export.ExportedProgram, model: ir.Model) -> tuple[list[Assumption], list[str]]:
    """The conditions on sizes outside of which `program` refuses to run: those that can be read, and what to say of the
    others."""
    dims = {
        f"{value.name}.size()[{axis}]": dim
        for value in model.graph.inputs
        for axis, dim in enumerate(value.shape or ())
    }
    names = {
        sympy.Symbol(n, integer=True, positive=True): n for d in _symbolic(dims) for n in d.free_symbols()
    }
    symbols = {name: symbol for symbol, name in names.items()}
    sizes = {
        text: sympy.Integer(dim) if isinstance(dim, int) else symbols[str(dim)]
        for text, dim in dims.items()
        if isinstance(dim, int) or str(dim) in symbols
    }
    read, told = [], []
    for guard in getattr(program, "_guards_code", ()):
        condition = re.sub(r"L\['(\w+)'\]", r"\1", guard)
        expression = _condition(condition, sizes)
        if expression is None:
            told.append(f"the program holds where {condition}")
        elif expression.free_symbols:
            read.append(Assumption(expression, names))
    return read, told


def _symbolic(dims: Mapping[str, object]) -> list[ir.SymbolicDim]:
    return [dim for dim in dims.values() if isinstance(dim, ir.SymbolicDim)]


def _condition(text: str, sizes: Mapping[str, sympy.Basic]) -> sympy.Basic | None:
    """A comparison of sizes, which are called as in `sizes`, or None."""
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        return None
    if not isinstance(tree, ast.Compare) or len(tree.ops) != 1 or type(tree.ops[0]) not in COMPARED:
        return None
    sides = [_term(side, sizes) for side in (tree.left, *tree.comparators)]
    return None if None in sides else COMPARED[type(tree.ops[0])](*sides)


def _term(tree: ast.expr, sizes: Mapping[str, sympy.Basic]) -> sympy.Basic | None:
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int):
        return sympy.Integer(tree.value)
    if isinstance(tree, ast.BinOp) and type(tree.op) in COMPUTED:
        sides = [_term(side, sizes) for side in (tree.left, tree.right)]
        return None if None in sides else COMPUTED[type(tree.op)](*sides)
    return sizes.get(ast.unparse(tree))


def declared(model: ir.Model, axes: Sequence[Axes]) -> dict[str, Range]:
    """The bounds that the user gave with `Dim(name, min=…, max=…)` for the free `axes` of each input."""
    found: dict[str, Range] = {}
    for value, dims in zip(model.graph.inputs, axes, strict=False):
        for axis, asked in dims.items():
            dim, root = shape_of(value)[axis], getattr(asked, "root", asked)
            low, high = getattr(root, "min", None), getattr(root, "max", None)
            if isinstance(dim, ir.SymbolicDim) and len(dim.free_symbols()) == 1:
                finite = isinstance(high, int) and high < 1 << 31
                found[next(iter(dim.free_symbols()))] = Range(max(low or 1, 1), high if finite else None)
    return found
