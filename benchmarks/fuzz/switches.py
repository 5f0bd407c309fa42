"""Switching `bridge` wrong: one expression of one of its functions or tables, for as long as a conversion takes.

Only the code of a function is put in another's place, so that whoever holds the function runs it, and nothing is
imported again. A table is put in another's place wherever `bridge` has it by its name.
"""

from __future__ import annotations

import ast
import copy
import functools
import gc
import random
import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bridge
from benchmarks.fuzz.variants import changed, telling, variants

ROOT = Path(bridge.__file__).parent
SWITCHED = (  # of the package's files
    "ops/", "passes/", "graph/axes", "graph/functions", "graph/recurrent", "graph/rewriting", "graph/windows",
    "frontend/onnx/", "frontend/torch/", "plan/", "weights/", "build/", "layers",
)  # fmt: skip
NOT = (  # read no model, or are what it is compared with
    "ops/registry.py", "ops/catalogue.py", "frontend/onnx/read.py", "frontend/torch/module.py", "passes/fixed_point.py",
    "passes/bounds.py", "frontend/torch/registry.py", "frontend/torch/refusals.py", "frontend/onnx/functions.py",
    "frontend/onnx/names.py", "frontend/torch/pt2.py", "frontend/torch/traced.py",
)  # fmt: skip
Start = str | tuple[str, ...]  # of the names of files, one of several
Put = tuple[Any, str, Any]  # an object, an attribute of it, and what that is
Line = tuple[str, int]  # of a file
Place = tuple[str, int, int]  # a file, a function or table of it, and an expression of that by its number
Part = tuple[ast.ClassDef | None, ast.FunctionDef | ast.Assign]


@dataclass(frozen=True)
class Switch:
    """One expression of a function or table, and what stands there instead."""

    file: str
    name: str  # of the function or table
    line: int
    before: str
    after: str
    wrong: list[Put]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.before} -> {self.after}"

    @contextmanager
    def thrown(self) -> Iterator[None]:
        right = [(owner, name, getattr(owner, name)) for owner, name, _ in self.wrong]
        _put(self.wrong)
        try:
            yield
        finally:
            _put(right)


def switches(lines: set[Line], seed: int, files: Sequence[Start]) -> Iterator[Switch]:
    """Switches on those lines, none twice: of `files`, given as for `_within`, in turn, and of each its functions at
    random, so that long ones are not drawn more often; of a function those first that are likely to make a model."""
    rng = random.Random(seed)
    places: dict[tuple[str, int], list[int]] = {}
    for file, line in sorted(lines):
        for number, index in _on_line(file).get(line, ()):
            if index not in (found := places.setdefault((file, number), [])):
                found.append(index)
    while any(_within(places, start) for start in files):
        for start in files:
            if not (inside := _within(places, start)):
                continue
            file, number = rng.choice(inside)
            left = places[file, number]
            nodes = _nodes(file, number)
            chosen = rng.choice([index for index in left if telling(nodes[index])] or left)
            left.remove(chosen)
            switch = _switch((file, number, chosen), rng)
            if not left:
                del places[file, number]
            if switch is not None:
                yield switch


def _within(places: Iterable[tuple[str, int]], start: Start) -> list[tuple[str, int]]:
    """The places in the files whose names begin so."""
    return [place for place in places if str(Path(place[0]).relative_to(ROOT)).startswith(start)]


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


def forget(names: dict[str, Any]) -> None:
    """Let a module forget what it remembers of earlier calls."""
    for member in names.values():
        if isinstance(member, functools._lru_cache_wrapper):
            member.cache_clear()


def _put(puts: list[Put]) -> None:
    """Give functions their code and modules their tables; what they remember of earlier calls is forgotten."""
    for owner, name, value in puts:
        setattr(owner, name, value)
        forget(owner.__globals__ if isinstance(owner, types.FunctionType) else vars(owner))


# --- what can be switched --------------------------------------------------------------------------------------------


@functools.cache
def _parts(file: str) -> tuple[ast.Module, list[Part]]:
    """A file, the functions of it and of its classes, and its tables."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    found: list[Part] = [(None, node) for node in tree.body if isinstance(node, ast.FunctionDef)]
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found += [(node, method) for method in node.body if isinstance(method, ast.FunctionDef)]
    return tree, found + [(None, node) for node in tree.body if isinstance(node, ast.Assign)]


@functools.cache
def _on_line(file: str) -> dict[int, list[tuple[int, int]]]:
    """The expressions on each line that can be switched, those of tables where functions read them: the number of the
    part of the file, and theirs within it."""
    found: dict[int, list[tuple[int, int]]] = {}
    parts = _parts(file)[1]
    functions = [part for _, part in parts if isinstance(part, ast.FunctionDef)]
    reads = [node for part in functions for node in ast.walk(part) if isinstance(node, ast.Name)]
    for number, (_, part) in enumerate(parts):
        statements = part.body if isinstance(part, ast.FunctionDef) else [part.value]
        inside = {id(node) for statement in statements for node in ast.walk(statement)}
        readers = {node.lineno for node in reads if isinstance(part, ast.Assign) and node.id == _named(part)}
        for index, node in enumerate(ast.walk(part)):
            if id(node) in inside and next(variants(node), None) is not None:
                for line in readers if isinstance(part, ast.Assign) else (node.lineno,):  # type: ignore[attr-defined]
                    found.setdefault(line, []).append((number, index))
    return found


@functools.cache
def _nodes(file: str, number: int) -> list[ast.AST]:
    return list(ast.walk(_parts(file)[1][number][1]))


def _named(part: ast.FunctionDef | ast.Assign) -> str:
    return part.name if isinstance(part, ast.FunctionDef) else ast.unparse(part.targets[0])


# --- its code ------------------------------------------------------------------------------------------------------


def _switch(place: Place, rng: random.Random) -> Switch | None:
    """The switch of one expression; None if nothing that is there runs or reads it."""
    file, number, index = place
    owner, part = _parts(file)[1][number]
    wrong = copy.deepcopy(part)
    target = list(ast.walk(wrong))[index]
    other = rng.choice(list(variants(target)))
    before, after = (ast.unparse(node).split("\n")[0] for node in (target, other))
    swapped = ast.fix_missing_locations(_Swap(target, other).visit(wrong))
    try:
        puts = _tables(file, swapped) if isinstance(part, ast.Assign) else _code(file, owner, part, swapped)
    except SyntaxError:  # it cannot stand there
        return None
    relative = str(Path(file).relative_to(ROOT))
    line = target.lineno  # type: ignore[attr-defined]
    return Switch(relative, _named(part), line, before, after, puts) if puts else None


def _code(
    file: str, owner: ast.ClassDef | None, function: ast.FunctionDef, wrong: ast.FunctionDef
) -> list[Put]:
    """The functions that run `function`, with the code of `wrong`."""
    tree = _parts(file)[0]
    body = [wrong if node is function else node for node in (owner or tree).body]
    if owner is not None:
        body = [changed(owner, body=body) if node is owner else node for node in tree.body]
    codes = _codes(compile(changed(tree, body=body), file, "exec"))
    name = f"{owner.name}.{function.name}" if owner else function.name
    codes = {key: code for key, code in codes.items() if key[0] == name or key[0].startswith(f"{name}.")}
    pairs = [(live, code) for live in _live(file) if (code := codes.get(_key(live.__code__))) is not None]
    if any(live.__code__.co_freevars != code.co_freevars for live, code in pairs):
        return []
    return [(live, "__code__", code) for live, code in pairs]


def _tables(file: str, wrong: ast.Assign) -> list[Put]:
    """The modules that have the table, with the wrong one."""
    modules = [module for name, module in sys.modules.items() if name.startswith("bridge")]
    home = next(module for module in modules if getattr(module, "__file__", "") == file)
    names = dict(vars(home))
    try:
        exec(compile(ast.Module([wrong], []), file, "exec"), names)
    except Exception:  # it cannot be read so
        return []
    name = _named(wrong)
    right = getattr(home, name, None)
    return [(module, name, names[name]) for module in modules if getattr(module, name, None) is right]


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
