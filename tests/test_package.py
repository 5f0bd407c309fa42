"""The public interface, and what importing it loads."""

import importlib.metadata
import importlib.util
import inspect
import re
import subprocess
import sys
from types import FunctionType

import pytest

import bridge


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
    "Refusal",
    "SourceError",
    "WeightsError",
}


def test_every_public_name_says_what_it_takes_and_gives_and_shows_how():
    documented = dict(_documented())
    assert documented.keys() >= {"Conversion.save", "Report.from_json", "WeightMap.to_torch", "convert"}
    for name, thing in documented.items():
        text = inspect.getdoc(thing)
        assert name in PLAIN or "Example:\n    >>> " in text, name
        if callable(thing) and not isinstance(thing, type):
            signature = inspect.signature(thing)
            taken = set(signature.parameters) - {"self"}
            assert all(re.search(rf"^    .*\b{parameter}\b.*: ", text, re.M) for parameter in taken), name
            assert signature.return_annotation == "None" or "Returns:\n    " in text, name


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
