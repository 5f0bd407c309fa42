"""What torch took for granted of the sizes of the inputs while it traced.

torch answers a question about a free size (`if x.size(1) > 100`) as the example does, and writes down what it took for
granted: a range of the size, or a condition such as `Ne(s, 1)` or `Eq(Mod(s, 2), 0)`. Most of them change nothing
(which kernel is the fastest); `verification.ranges` finds out which do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir
import sympy
import torch

Bounds = tuple[int, int | None]  # the smallest and the largest size, None where there is none
Names = dict[sympy.Symbol, str]  # torch's symbols, as the graph calls them


@dataclass(frozen=True)
class Assumption:
    """A condition on sizes, by the names that they have in the graph."""

    expression: sympy.Basic
    names: Names = field(compare=False)

    @property
    def sizes(self) -> list[str]:
        """The names of the sizes that it is about."""
        return sorted(self.names[symbol] for symbol in self.expression.free_symbols)

    @property
    def numbers(self) -> set[int]:
        """The numbers in it, near which it may turn."""
        return {int(number) for number in self.expression.atoms(sympy.Integer)}

    @property
    def step(self) -> int | None:
        """The number of which it says that a size is a multiple, if that is what it says."""
        if not isinstance(self.expression, sympy.Eq) or self.expression.rhs != 0:
            return None
        rest: Any = self.expression.lhs
        divides = type(rest).__name__ in ("Mod", "PythonMod") and rest.args[0].is_Symbol
        return int(rest.args[1]) if divides and rest.args[1].is_Integer else None

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether it holds at `sizes`; where it cannot be said, as after a division by zero, it does not."""
        values = {symbol: sympy.Integer(sizes[self.names[symbol]]) for symbol in self.expression.free_symbols}
        try:
            return bool(self.expression.xreplace(values) == sympy.true)
        except (ZeroDivisionError, ValueError, AssertionError):
            return False

    def __str__(self) -> str:
        named = {symbol: sympy.Symbol(name) for symbol, name in self.names.items()}
        return str(self.expression.xreplace(named))


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
                asserts = size.node.shape_env.deferred_runtime_asserts.values()
                conditions = [found.expr for several in asserts for found in several]
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


def guards(program: torch.export.ExportedProgram) -> tuple[str, ...]:
    """What to say of the conditions on sizes outside of which `program` refuses to run."""
    conditions = (re.sub(r"L\['(\w+)'\]", r"\1", guard) for guard in getattr(program, "_guards_code", ()))
    return tuple(f"the program holds where {condition}" for condition in conditions)


def declared(model: ir.Model, axes: Iterator[dict[int, Any]]) -> dict[str, Bounds]:
    """The bounds that the user gave with `Dim(name, min=…, max=…)`; `axes` are the leaves of `dynamic_shapes`."""
    found: dict[str, Bounds] = {}
    for value, dims in zip(model.graph.inputs, axes, strict=False):
        for axis, asked in dims.items():
            dim, root = value.shape[axis], getattr(asked, "root", asked)
            low, high = getattr(root, "min", None), getattr(root, "max", None)
            if isinstance(dim, ir.SymbolicDim) and len(dim.free_symbols()) == 1:
                finite = isinstance(high, int) and high < 1 << 31
                found[next(iter(dim.free_symbols()))] = max(low or 1, 1), high if finite else None
    return found
