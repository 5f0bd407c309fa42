"""Whether the proof sees a wrong product: a random graph is converted while one line of `bridge` is switched wrong.

Adapters, passes, the plan and the builders are switched, one expression at a time, on a line that the graph runs
through. A switch that makes the conversion end in a mismatch is caught; one that stops it is no wrong model; one
after which the model still equals its source is harmless; one that makes a wrong model under a proof is a hole in it.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import inspect
import random
import signal
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bridge
from benchmarks.fuzz import graphs
from benchmarks.fuzz.workers import ALARM, CAUGHT, CRASHED, EQUAL, INVALID, LOST, REFUSED, WRONG, Outcome
from bridge.errors import InternalError

ROOT = Path(bridge.__file__).parent
SWITCHED = ("ops/", "passes/", "axes", "windows", "frontend/onnx_opsets")  # of the package's files
CONTRACTS = ("ops/registry.py", "ops/catalogue.py")
SECONDS = 10  # for the conversion under one switch
TRIES = 20  # switches for one graph, until one makes a wrong model
ENDS = {ALARM: CAUGHT, EQUAL: EQUAL, WRONG: WRONG, REFUSED: REFUSED, CRASHED: REFUSED, LOST: REFUSED}
SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
COUSINS = [
    "floor ceil", "minimum maximum", "min max", "amin amax", "less less_equal", "greater greater_equal", "add subtract",
    "logical_and logical_or", "argmax argmin", "exp expm1", "log log1p", "sin cos", "sinh cosh", "round floor",
    "sum mean", "zeros_like ones_like", "relu relu6", "divide multiply", "equal not_equal", "sigmoid hard_sigmoid",
]  # fmt: skip
OTHER = {name: other for pair in COUSINS for name, other in (pair.split(), pair.split()[::-1])}
Line = tuple[str, int]  # of a file


@dataclass
class Mutant:
    """A graph, and the seed of the switch that is thrown while it is converted."""

    graph: graphs.Graph
    seed: int
    switched: str = ""  # file and function

    @property
    def groups(self) -> tuple[str, ...]:
        return (self.switched,) if self.switched else ()

    def run(self) -> Outcome:
        lines: set[Line] = set()
        with _traced(lines):
            sound = self.graph.run()
        if sound.kind != EQUAL:
            return Outcome(INVALID, f"the graph itself is {sound.kind}")
        rng, outcome = random.Random(self.seed), Outcome(INVALID, "nothing to switch")
        for _ in range(TRIES):
            switch = _drawn(lines, rng)
            if switch is None:
                continue
            self.switched = f"{switch.file} {switch.name}"
            with switch.thrown(), _bounded(SECONDS):
                found = self.graph.run()
            outcome = Outcome(ENDS.get(found.kind, found.kind), f"{switch}: {found.text}")
            if outcome.kind in (CAUGHT, WRONG):
                break
        return outcome

    def shrunk(self, fails: Callable[[Any], bool]) -> Mutant:
        return self

    def shown(self) -> str:
        return self.graph.shown()


def case(seed: int) -> Mutant:
    return Mutant(graphs.case(seed), seed)


@dataclass(frozen=True)
class Switch:
    """One expression of a function, and what stands there instead."""

    file: str
    name: str  # of the function
    line: int
    before: str
    after: str
    function: types.FunctionType
    code: types.CodeType

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.before} -> {self.after}"

    @contextmanager
    def thrown(self) -> Iterator[None]:
        right = self.function.__code__
        self.function.__code__ = self.code
        try:
            yield
        finally:
            self.function.__code__ = right


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Raises `InternalError` in what is switched so that it does not end."""

    def ring(*_: Any) -> None:
        raise InternalError("does not end")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def _traced(lines: set[Line]) -> Iterator[None]:
    """The lines of the files to be switched that are run."""

    def step(frame: types.FrameType, event: str, _: Any) -> Any:
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return step

    def enter(frame: types.FrameType, event: str, _: Any) -> Any:
        return step if _is_switched(frame.f_code.co_filename) else None

    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(None)


@functools.cache
def _is_switched(file: str) -> bool:
    path = Path(file)
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else ""
    return name.startswith(SWITCHED) and name not in CONTRACTS


def _drawn(lines: set[Line], rng: random.Random) -> Switch | None:
    """One switch on one of the lines: a folder first, then a function, so that long ones are not drawn more often."""
    places: dict[tuple[str, int], list[int]] = {}
    for file, line in sorted(lines):
        for number, index in _on_line(file).get(line, ()):
            places.setdefault((file, number), []).append(index)
    if not places:
        return None
    folder = rng.choice(sorted({Path(file).parent for file, _ in places}))
    file, number = rng.choice([place for place in places if Path(place[0]).parent == folder])
    return _switch(file, number, rng.choice(places[file, number]), rng)


Function = tuple[ast.ClassDef | None, ast.FunctionDef]


@functools.cache
def _functions(file: str) -> tuple[ast.Module, list[Function]]:
    """A file, and the functions of it and of its classes."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    found: list[Function] = [(None, node) for node in tree.body if isinstance(node, ast.FunctionDef)]
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found += [(node, method) for method in node.body if isinstance(method, ast.FunctionDef)]
    return tree, found


@functools.cache
def _on_line(file: str) -> dict[int, list[tuple[int, int]]]:
    """The expressions on each line that can be switched: the number of the function, and theirs within it."""
    found: dict[int, list[tuple[int, int]]] = {}
    for number, (_, function) in enumerate(_functions(file)[1]):
        inside = {id(node) for statement in function.body for node in ast.walk(statement)}
        for index, node in enumerate(ast.walk(function)):
            if id(node) in inside and next(_variants(node), None) is not None:
                found.setdefault(node.lineno, []).append((number, index))  # type: ignore[attr-defined]
    return found


def _variants(node: ast.AST) -> Iterator[ast.expr]:
    """What may stand wrongly in the place of an expression."""
    match node:
        case ast.BinOp() | ast.BoolOp():
            if type(node.op) in SWAPS:
                yield _with(node, op=SWAPS[type(node.op)]())
        case ast.Compare(ops=[only]) if type(only) in SWAPS:
            yield _with(node, ops=[SWAPS[type(only)]()])
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.IfExp():
            yield _with(node, body=node.orelse, orelse=node.body)
        case ast.Constant(value=bool(value)):
            yield _with(node, value=not value)
        case ast.Constant(value=int(value)):
            yield _with(node, value=value + 1)
        case ast.Constant(value=float(value)):
            yield _with(node, value=value * 1.1 + 0.01)
        case ast.Attribute(attr=name) if name in OTHER:
            yield _with(node, attr=OTHER[name])
        case ast.Call():
            for index, keyword in enumerate(node.keywords):
                if keyword.arg:
                    yield _with(node, keywords=node.keywords[:index] + node.keywords[index + 1 :])
            if len(node.args) == 1 and not node.keywords and isinstance(node.func, ast.Attribute):
                yield node.args[0]
            if len(node.args) == 2 and isinstance(node.func, ast.Attribute):
                yield _with(node, args=node.args[::-1])


def _with(node: Any, **fields: Any) -> Any:
    """A copy of `node` with other fields."""
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def _switch(file: str, number: int, index: int, rng: random.Random) -> Switch | None:
    """The switch of one expression of a function; None if the function cannot be reached by its name."""
    tree, functions = _functions(file)
    owner, function = functions[number]
    wrong = copy.deepcopy(function)
    target = list(ast.walk(wrong))[index]
    other = rng.choice(list(_variants(target)))
    before, after = ast.unparse(target), ast.unparse(other)
    body = [_Swap(target, other).visit(wrong) if node is function else node for node in (owner or tree).body]
    whole = _with(tree, body=body)
    if owner is not None:
        whole = _with(tree, body=[_with(owner, body=body) if node is owner else node for node in tree.body])
    path = [owner.name, function.name] if owner else [function.name]
    code = _code(compile(ast.fix_missing_locations(whole), file, "exec"), ".".join(path))
    relative = Path(file).relative_to(ROOT)
    found: Any = importlib.import_module(".".join(["bridge", *relative.with_suffix("").parts]))
    for name in path:
        found = inspect.getattr_static(found, name)
    found = inspect.unwrap(getattr(found, "fget", None) or getattr(found, "func", None) or found)
    if code is None or not isinstance(found, types.FunctionType):
        return None
    if (found.__code__.co_firstlineno, found.__code__.co_freevars) != (code.co_firstlineno, code.co_freevars):
        return None
    return Switch(str(relative), function.name, target.lineno, before, after, found, code)  # type: ignore[attr-defined]


class _Swap(ast.NodeTransformer):
    def __init__(self, target: ast.AST, other: ast.AST):
        self.target, self.other = target, other

    def visit(self, node: ast.AST) -> ast.AST:
        return ast.copy_location(self.other, node) if node is self.target else self.generic_visit(node)


def _code(module: types.CodeType, name: str) -> types.CodeType | None:
    """The code of the function of that qualified name; of several the last, as when the module is run."""
    inner = [constant for constant in module.co_consts if isinstance(constant, types.CodeType)]
    codes = [
        *inner,
        *(code for outer in inner for code in outer.co_consts if isinstance(code, types.CodeType)),
    ]
    return next((code for code in reversed(codes) if code.co_qualname == name), None)
