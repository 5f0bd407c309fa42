"""Switching `bridge` wrong: one expression of one of its functions, for as long as a conversion takes.

Only the code of a function is put in another's place, so that whoever holds the function runs it, and nothing is
imported again.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
import gc
import random
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bridge

ROOT = Path(bridge.__file__).parent
SWITCHED = (  # of the package's files
    "ops/", "passes/", "axes", "windows", "frontend/onnx_", "frontend/torch_", "plan", "recipes", "weights", "build",
    "layers",
)  # fmt: skip
NOT = (  # read no model, or are what it is compared with
    "ops/registry.py", "ops/catalogue.py", "frontend/onnx_read.py", "frontend/torch_module.py", "passes/settle.py",
    "passes/bounds.py",
)  # fmt: skip
FOLDERS = (
    "ops",
    "passes",
    "ops",
    "",
    "ops",
    "frontend",
)  # in turn; wrong builders make the most wrong models
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
ORDERING = ("sorted", "reversed", "list", "tuple")  # functions of one argument, which may stand for itself
Line = tuple[str, int]  # of a file
Place = tuple[str, int, int]  # a file, a function of it, and an expression of that by its number
Function = tuple[ast.ClassDef | None, ast.FunctionDef]


@dataclass(frozen=True)
class Switch:
    """One expression of a function, and what stands there instead."""

    file: str
    name: str  # of the function
    line: int
    before: str
    after: str
    wrong: list[tuple[types.FunctionType, types.CodeType]]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.before} -> {self.after}"

    @contextmanager
    def thrown(self) -> Iterator[None]:
        right = [(function, function.__code__) for function, _ in self.wrong]
        _put(self.wrong)
        try:
            yield
        finally:
            _put(right)


def switches(lines: set[Line], seed: int) -> Iterator[Switch]:
    """Switches on those lines, none twice: the folders in turn, and of each its functions at random, so that long ones
    are not drawn more often."""
    rng = random.Random(seed)
    places: dict[tuple[str, int], list[int]] = {}
    for file, line in sorted(lines):
        for number, index in _on_line(file).get(line, ()):
            places.setdefault((file, number), []).append(index)
    while places:
        for folder in FOLDERS:
            functions = [place for place in places if Path(place[0]).parent == ROOT / folder]
            if not functions:
                continue
            file, number = rng.choice(functions)
            left = places[file, number]
            switch = _switch((file, number, left.pop(rng.randrange(len(left)))), rng)
            if not left:
                del places[file, number]
            if switch is not None:
                yield switch


@contextmanager
def traced(lines: set[Line]) -> Iterator[None]:
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
    return name.startswith(SWITCHED) and name not in NOT


def _put(codes: list[tuple[types.FunctionType, types.CodeType]]) -> None:
    """Give functions their code, and let their modules forget what they remember of earlier calls."""
    for function, code in codes:
        function.__code__ = code
    for names in {id(function.__globals__): function.__globals__ for function, _ in codes}.values():
        for member in names.values():
            if isinstance(member, functools._lru_cache_wrapper):
                member.cache_clear()


# --- what can be switched --------------------------------------------------------------------------------------------


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


def _variants(node: ast.AST) -> Iterator[ast.AST]:
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
        case ast.If(test=ast.Name() | ast.Call() | ast.Attribute()):
            yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Constant(value=value):
            yield from (_with(node, value=other) for other in _other_constants(value))
        case ast.Attribute(attr=name) if name in OTHER:
            yield _with(node, attr=OTHER[name])
        case ast.Tuple(ctx=ast.Load()) | ast.List(ctx=ast.Load()) if len(node.elts) > 1:
            yield _with(node, elts=[*node.elts[:-2], *node.elts[:-3:-1]])
        case ast.Call():
            yield from _other_calls(node)


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
            yield _with(node, keywords=node.keywords[:index] + node.keywords[index + 1 :])
    name = getattr(node.func, "id", "")
    if len(node.args) == 1 and not node.keywords and (not name or name in ORDERING):
        yield node.args[0]
    if len(node.args) == 2 and not hasattr(builtins, name):
        yield _with(node, args=node.args[::-1])


def _with(node: Any, **fields: Any) -> Any:
    """A copy of `node` with other fields."""
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


# --- its code ------------------------------------------------------------------------------------------------------


def _switch(place: Place, rng: random.Random) -> Switch | None:
    """The switch of one expression of a function; None if no function that is there runs it."""
    file, number, index = place
    tree, functions = _functions(file)
    owner, function = functions[number]
    wrong = copy.deepcopy(function)
    target = list(ast.walk(wrong))[index]
    other = rng.choice(list(_variants(target)))
    before, after = (ast.unparse(node).split("\n")[0] for node in (target, other))
    body = [_Swap(target, other).visit(wrong) if node is function else node for node in (owner or tree).body]
    whole = _with(tree, body=body)
    if owner is not None:
        whole = _with(tree, body=[_with(owner, body=body) if node is owner else node for node in tree.body])
    codes = _codes(compile(ast.fix_missing_locations(whole), file, "exec"))
    name = f"{owner.name}.{function.name}" if owner else function.name
    codes = {key: code for key, code in codes.items() if key[0] == name or key[0].startswith(f"{name}.")}
    wrongs = [(live, code) for live in _live(file) if (code := codes.get(_key(live.__code__))) is not None]
    if not wrongs or any(live.__code__.co_freevars != code.co_freevars for live, code in wrongs):
        return None
    relative = str(Path(file).relative_to(ROOT))
    return Switch(relative, function.name, target.lineno, before, after, wrongs)  # type: ignore[attr-defined]


class _Swap(ast.NodeTransformer):
    def __init__(self, target: ast.AST, other: ast.AST):
        self.target, self.other = target, other

    def visit(self, node: ast.AST) -> ast.AST:
        return ast.copy_location(self.other, node) if node is self.target else self.generic_visit(node)


def _key(code: types.CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _codes(outer: types.CodeType) -> dict[tuple[str, int], types.CodeType]:
    """All code within `outer`, however deep."""
    inner = [constant for constant in outer.co_consts if isinstance(constant, types.CodeType)]
    return {key: code for part in inner for key, code in {_key(part): part, **_codes(part)}.items()}


def _live(file: str) -> list[types.FunctionType]:
    """The functions of a file, those among them that others of it made and that decorators hide."""
    if file not in _all():
        _all.cache_clear()  # it has been imported since
    return _all()[file]


@functools.cache
def _all() -> dict[str, list[types.FunctionType]]:
    """The functions that are there now, by the file."""
    found: dict[str, list[types.FunctionType]] = {}
    for item in gc.get_objects():
        if type(item) is types.FunctionType:  # isinstance asks objects that only pretend, some of which warn
            found.setdefault(item.__code__.co_filename, []).append(item)
    return found
