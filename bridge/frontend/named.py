"""SOURCE of the command line, and of a zoo, as `bridge.convert` takes it: model, example inputs, dynamic shapes."""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from bridge.errors import MissingPackageError, SourceError, installing, short_message

ATTRIBUTE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")  # also of a module's name
OURS = str(Path(__file__).parents[1])
RETURNS = "has to return (module, args) or (module, args, dynamic_shapes)"


def read_source(source: str, trust: bool) -> tuple[object, object, object]:
    """SOURCE: the path of a file, or what returns a module and its inputs, in a module or a file of Python.

    A `.pt2` file is read here, by torch alone, where the user trusts it. Raises `SourceError`, and
    `MissingPackageError` for a package that the user's module needs.
    """
    if trust and Path(source).suffix == ".pt2":
        from bridge.frontend.source import trusted_program

        return trusted_program(Path(source)), None, None
    where, _, attribute = source.rpartition(":")
    python = where.endswith(".py")
    if (
        os.path.exists(source)  # of what cannot be a name it is false
        or not ATTRIBUTE.fullmatch(attribute)
        or not (python or ATTRIBUTE.fullmatch(where))
    ):
        return source, None, None
    with _running(source, where):
        module = _from_file(Path(where)) if python else _imported(where)
        made = _attribute(module, where, attribute)
        is_module = hasattr(made, "forward")  # or the class of one
        returned = made() if callable(made) and not is_module else made
    if not isinstance(returned, tuple) or len(returned) not in (2, 3):
        name = made.__name__ if isinstance(made, type) else type(returned).__name__
        raise SourceError(
            f"{source} {'is' if is_module else 'gives'} a {name}: name a function, which {RETURNS}"
        )
    return (*returned, None)[:3]


def _imported(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)


def _from_file(path: Path) -> ModuleType:
    """The module in the file, which sees what lies beside it, as Python's own command runs it."""
    if not os.path.isfile(path):
        raise SourceError(f"{path}: no such file")
    sys.path.insert(0, str(path.resolve().parent))
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # as of every .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _attribute(module: ModuleType, where: str, attribute: str) -> object:
    found: object = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            own = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__]
            raise SourceError(f"{where} has no {attribute}; it has {', '.join(own) or 'nothing of its own'}")
        found = getattr(found, name)
    return found


@contextmanager
def _running(source: str, where: str) -> Iterator[None]:
    """The user's code, whose errors are said with the line of it at which they arose."""
    try:
        yield
    except (SourceError, MissingPackageError):
        raise
    except ModuleNotFoundError as error:
        if error.name and (where == error.name or where.startswith(f"{error.name}.")):
            raise SourceError(f"{source}: there is no module {error.name} here") from error
        missing = error.name or short_message(error)
        raise MissingPackageError(
            f"{source} needs {missing}, which is not installed: {installing(missing)}{_line(error)}"
        ) from error
    except SystemExit as error:
        raise SourceError(
            f"{source}: it exits when it is imported or called{_line(error)}; put what it runs as a script under "
            f"if __name__ == '__main__'"
        ) from error
    except Exception as error:
        raise SourceError(
            f"{source}: {type(error).__name__}: {short_message(error)}{_line(error)}"
        ) from error


def _line(error: BaseException) -> str:
    """The last line of the user's own code that the error went through."""
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if os.path.isfile(frame.f_code.co_filename)
        and not frame.f_code.co_filename.startswith((OURS, sys.prefix, sys.base_prefix))
    ]
    if not frames or isinstance(error, SyntaxError):  # which says it itself
        return ""
    path, line = frames[-1]
    return f" ({Path(path).name}:{line}, `{linecache.getline(path, line).strip()}`)"
