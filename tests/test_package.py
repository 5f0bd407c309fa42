"""The public interface, and who may import what."""

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


def test_import_loads_no_framework():
    result = python("import sys, bridge; print(*sys.modules)")
    assert {"keras", "torch", "onnx", "numpy"}.isdisjoint(result.stdout.split())


@pytest.mark.parametrize("first", ["bridge.conversion", "bridge.weights.transfer"])
def test_functions_are_there_whatever_was_imported_first(first):
    result = python(f"import bridge, {first}\nassert callable(bridge.convert) and callable(bridge.transfer)")
    assert result.returncode == 0, result.stderr
