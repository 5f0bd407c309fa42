"""A `.pt2` file from a stranger, which is a program: read only if nothing in it can do anything but compute.

torch unpickles the example inputs, looks operators up by any dotted name, evaluates the texts of sizes, and runs
guards and names as Python. Whatever is not of the few plain forms that torch itself writes needs the user's trust.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.export.pt2_archive._package import PT2ArchiveReader

from bridge.errors import SourceError, short_message
from bridge.files.archives import open_measured, read_json
from bridge.files.checkpoints import require_tensors

WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch's own switch: no pickle gives more than tensors
MAX_ELEMENTS = 1 << 28  # of one tensor
MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/\w+|\.format_version|models/[^/]+\.json|"
    r"data/(weights|constants|sample_inputs)/[^/]+|extra/[^/]+"
)
OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|bridge|torchvision|higher_order)\.(?!from_file\b)\w+(\.\w+)?|_operator\.[a-z]\w*|"
    r"math\.\w+|torch\.sym_\w+|torch\._sym_\w+|torch\.fx\.experimental\.symbolic_shapes\.\w+"
)
EXPONENT = re.compile(r"(Integer\()?-?\d{1,2}\)?")
MAX_POWERS = 4  # in one formula
NAME = re.compile(r"[\w.]*")
NAMES = {
    "name",
    "as_name",
    "user_input_name",
    "forward_arg_names",
    "input_names",
    "output_names",
    "field_names",
}
SPECS = {"in_spec", "out_spec"}  # JSON in a text, in which such texts stand again
FUNCTIONS = {
    "Abs", "Add", "And", "CeilDiv", "CeilToInt", "CleanDiv", "Eq", "FloatTrueDiv", "FloorDiv", "FloorToInt", "Ge", "Gt",
    "IntTrueDiv", "Le", "Lt", "Max", "Min", "Mod", "ModularIndexing", "Mul", "Ne", "Not", "Or", "PythonMod",
    "RoundToInt", "ToFloat", "TruncToFloat", "TruncToInt", "Where", "ceiling", "floor", "size", "stride",
    "storage_offset", "numel", "dim", "Symbol", "Integer", "Rational", "Pow",
}  # fmt: skip
FORMULA = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Constant, ast.Name, ast.Subscript, ast.Call,
    ast.Attribute, ast.Load, ast.keyword, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip


def require_harmless(path: Path) -> None:
    """Raise `SourceError` if the file could do anything but compute when torch reads and runs it."""
    try:
        with open_measured(path) as archive:
            if "version" in archive.namelist():
                raise _Harm("it is of the old format, which is read by unpickling")
        reader = PT2ArchiveReader(str(path))
        for name in reader.get_file_names():
            if not MEMBERS.fullmatch(name):
                raise _Harm(f"it holds {name}")
            if name.startswith("models/"):
                _require_plain(read_json(reader.read_bytes(name)))
            elif name.endswith("_config.json"):
                _require_tensors(read_json(reader.read_bytes(name)))
            elif name.startswith("data/sample_inputs/"):
                require_tensors(io.BytesIO(reader.read_bytes(name)))
    except _Harm as error:
        raise SourceError(
            f"{path}: it can run code: {short_message(error)}; if you trust where it comes from, say --trust, or give "
            f"bridge.convert(torch.export.load(path))"
        ) from None
    except Exception as error:  # of zipfile, json and torch
        raise SourceError(
            f"{path}: not an ExportedProgram that torch can read: {short_message(error)}"
        ) from error


@contextlib.contextmanager
def weights_only() -> Iterator[None]:
    """torch unpickles tensors and plain containers, and nothing else."""
    kept = os.environ.get(WEIGHTS_ONLY)
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        if kept is None:
            del os.environ[WEIGHTS_ONLY]
        else:
            os.environ[WEIGHTS_ONLY] = kept


class _Harm(Exception):
    """What in the file is more than a computation."""


def _require_tensors(config: dict[str, Any]) -> None:
    """Weights and constants are tensors; what else could be there is unpickled."""
    for name, entry in config["config"].items():
        if not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
            raise _Harm(f"{name} is an object")
        sizes = [size.get("as_int", 1) for size in (entry.get("tensor_meta") or {}).get("sizes", ())]
        if math.prod(sizes) > MAX_ELEMENTS:
            raise ValueError(f"{name} has the sizes {sizes}")


def _require_plain(program: object) -> None:
    """Operators, sizes, guards and names are of the forms that torch writes."""
    for key, value in _entries(program):
        if key == "as_custom_obj" or key == "class_fqn":
            raise _Harm("it holds objects")
        if not isinstance(value, str):
            continue
        if key in ("target", "as_operator") and not OPERATOR.fullmatch(value):
            raise _Harm(f"it calls {value!r}")
        if key in ("expr_str", "guards_code") and not _is_formula(value):
            raise _Harm(f"it evaluates {value!r}")
        if key in NAMES | SPECS:
            _require_names(value, key in SPECS)


def _require_names(text: str, nested: bool) -> None:
    """`text` is a name; with `nested` also JSON that holds names, and such texts."""
    waiting = [text]
    while waiting:
        text = waiting.pop()
        if nested and text.startswith(("[", "{")):
            waiting.extend(inner for _, inner in _entries(json.loads(text)) if isinstance(inner, str))
        elif not NAME.fullmatch(text):
            raise _Harm(f"it names something {text!r}")


def _entries(data: object) -> Iterator[tuple[str, object]]:
    """Every value in `data` with the key under which it or its list stands; keys of dicts that name things too."""
    waiting = [("", data)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.items())
            yield from (("name", inner) for inner in value if key.endswith("_values"))
        elif isinstance(value, list):
            waiting.extend((key, item) for item in value)
        elif value is not None:
            yield key, value


def _is_formula(text: str) -> bool:
    """Whether `text` only computes with sizes: no names with underscores before them, no large powers."""
    if len(text) > 2000:
        return False
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(map(_is_plain, nodes)) and sum(map(_is_power, nodes)) <= MAX_POWERS


def _is_power(node: ast.AST) -> bool:
    return isinstance(node, ast.Pow) or isinstance(node, ast.Name) and node.id == "Pow"


def _is_plain(node: ast.AST) -> bool:
    match node:
        case ast.BinOp(op=ast.Pow(), right=power) | ast.Call(func=ast.Name(id="Pow"), args=[_, power]):
            return EXPONENT.fullmatch(ast.unparse(power)) is not None
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in FUNCTIONS and name != "Pow"
        case ast.keyword(arg=name, value=value):
            return name in ("positive", "integer", "nonnegative") and isinstance(value, ast.Constant)
        case ast.Attribute(attr=name):
            return name in FUNCTIONS or name in ("shape", "inf")
        case ast.Name(id=name) | ast.Constant(value=str(name)):
            return name.isidentifier() and not name.startswith("_")
        case ast.Constant(value=value):
            return isinstance(value, bool | int | float) and len(str(value)) <= 20
    return isinstance(node, FORMULA)
