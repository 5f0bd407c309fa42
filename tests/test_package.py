"""The public interface, and what importing it loads."""

import ast
import builtins
import importlib.metadata
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

import bridge
from bridge import BridgeError


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_every_public_name_is_there():
    assert sorted(bridge.__all__) == bridge.__all__
    assert all(getattr(bridge, name) is not None for name in bridge.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bridge.nothing


def _documented():
    """The public names, and the methods of the classes among them that are defined here."""
    for name in bridge.__all__:
        thing = getattr(bridge, name)
        yield name, thing
        for method, held in vars(thing).items() if isinstance(thing, type) else ():
            if not method.startswith("_") and isinstance(held, FunctionType | classmethod):
                yield f"{name}.{method}", getattr(thing, method)


PLAIN = {
    "ExportError",
    "InternalError",
    "MissingPackageError",
    "OutputError",
    "ProcessError",
    "Refusal",
    "SourceError",
    "WeightsError",
}


def test_every_public_name_says_what_it_takes_and_gives_and_shows_how():
    documented = dict(_documented())
    assert documented.keys() >= {"Conversion.save", "Report.from_json", "WeightMap.to_torch", "convert"}
    for name, thing in documented.items():
        text = inspect.getdoc(thing)
        assert name in PLAIN or "Examples:\n    >>> " in text, name
        if callable(thing) and not isinstance(thing, type):
            signature = inspect.signature(thing)
            taken = set(signature.parameters) - {"self"}
            assert all(re.search(rf"^    .*\b{parameter}\b.*: ", text, re.M) for parameter in taken), name
            assert signature.return_annotation == "None" or "Returns:\n    " in text, name


TREES = {path: ast.parse(path.read_text()) for path in sorted(Path(bridge.__file__).parent.rglob("*.py"))}
ERRORS = {name for name in bridge.__all__ if isinstance(getattr(bridge, name), type(BridgeError))}


def _raised(function):
    """Names of our errors that a function raises, or the functions of its module that it calls, and those they call."""
    own = {
        n.name: n
        for n in ast.walk(TREES[Path(inspect.getsourcefile(function))])
        if isinstance(n, ast.FunctionDef)
    }
    waiting, seen = [function.__name__], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for node in ast.walk(own[name]):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                yield ast.unparse(node.exc.func)
            if isinstance(node, ast.Call):
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                waiting += {called} & own.keys() - seen


def test_every_public_function_says_what_it_raises():
    told_by_any = set()
    for name, thing in _documented():
        if isinstance(thing, type) or not callable(thing):
            continue
        _, _, section = inspect.getdoc(thing).partition("Raises:\n")
        told = {
            one
            for row in re.findall(r"^    (\w[\w, ]*): ", section.partition("\n\n")[0], re.M)
            for one in row.split(", ")
        }
        assert told <= {*ERRORS, *vars(builtins)}, name
        kinds = tuple(getattr(bridge, one) for one in told & ERRORS)
        untold = [one for one in ERRORS & {*_raised(thing)} if not issubclass(getattr(bridge, one), kinds)]
        assert not untold, f"{name} raises {untold}"
        told_by_any |= told
    assert told_by_any >= {"ExportError", "MismatchError", "SourceError", "UnsupportedError", "WeightsError"}


LINES = {"module": 350, "function": 40}  # at most, of a function without its docstring
LONG = {"weights/recipes.py"}  # one algebra


@pytest.mark.parametrize("path", TREES, ids=lambda path: str(path.relative_to(Path(bridge.__file__).parent)))
def test_nothing_is_longer_than_is_read_in_one_go(path, request):
    assert len(path.read_text().splitlines()) <= LINES["module"] or request.node.callspec.id in LONG
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
            assert node.end_lineno - node.lineno + 1 - docstring <= LINES["function"], node.name


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_torch_exports_beside_tensorflow_that_was_loaded_first():
    run = python(
        "import tensorflow, torch, bridge; "
        "bridge.convert(torch.nn.Linear(3, 4).eval(), torch.randn(2, 3), verify=False)"
    )
    assert run.returncode == 0, run.stderr


def test_import_loads_no_framework():
    result = python("import sys, bridge; print(*sys.modules)")
    assert {"keras", "torch", "onnx", "numpy"}.isdisjoint(result.stdout.split())


@pytest.mark.parametrize("first", ["bridge.conversion", "bridge.handwritten.transfer"])
def test_functions_are_there_whatever_was_imported_first(first):
    result = python(f"import bridge, {first}\nassert callable(bridge.convert) and callable(bridge.transfer)")
    assert result.returncode == 0, result.stderr


def test_the_version_is_that_of_the_package():
    assert bridge.__version__ == importlib.metadata.version("onnx-keras-bridge")
    assert not hasattr(bridge, "__nothing__")
