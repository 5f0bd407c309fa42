"""The public interface, and what importing it loads."""

import importlib.metadata
import inspect
import re
import subprocess
import sys

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
    for name in bridge.__all__:
        thing = getattr(bridge, name)
        if isinstance(thing, type) and issubclass(thing, Exception | bridge.Refusal):
            continue
        yield name, thing
        for method, function in vars(thing).items() if isinstance(thing, type) else ():
            if not method.startswith("_") and inspect.isfunction(function) and f"{name}.{method}" in METHODS:
                yield f"{name}.{method}", function


METHODS = {
    "Conversion.save", "Report.save", "Report.to_html", "Report.to_json", "Report.to_text", "WeightMap.load_torch",
    "WeightMap.to_torch",
}  # fmt: skip


def test_every_public_name_says_what_it_takes_and_shows_how():
    documented = dict(_documented())
    assert documented.keys() >= METHODS
    for name, thing in documented.items():
        text = inspect.getdoc(thing)
        assert "Example:\n    >>> " in text, name
        if inspect.isfunction(thing):
            taken = set(inspect.signature(thing).parameters) - {"self"}
            assert all(re.search(rf"^    .*\b{parameter}\b.*: ", text, re.M) for parameter in taken), name


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
