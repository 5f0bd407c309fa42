"""What users test with: models that are equal, and where others depart; seeds in pytest."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from checking import parse

import bridge
from bridge.testing import SEED, ModelsDiffer, assert_equal_models

pytest_plugins = ("pytester",)
SOURCE = "g (float[N, 4] x) => (float[N, 3] y) <float[4, 3] w, float[3] b> { m = MatMul (x, w) a = Add (m, b) y = Tanh (a) }"
# An installed checkout has it by its entry point
LOADED = (
    []
    if "bridge" in {found.name for found in entry_points(group="pytest11")}
    else ["-p", "bridge.pytest_plugin"]
)
FAILING = """
import bridge, pytest
from types import SimpleNamespace
from bridge.testing import SEED

def test_one(record_property):
    print("drawn", SEED.get())
    report = SimpleNamespace(verdict="", first_mismatch="", origin=None)
    report.verdict = "NOT equal: it departs"
    if {fails}:
        raise bridge.MismatchError("net", report)
"""


def test_models_that_are_equal():
    source = parse(SOURCE, {})
    made = bridge.convert(source, verify=False)
    assert assert_equal_models(made, source, seed=7).seed == 7
    assert assert_equal_models(made.model, source).seed == SEED.get()


def test_models_that_are_not_say_where(tmp_path):
    source = parse(SOURCE, {})
    made = bridge.convert(source, verify=False)
    layer = next(layer for layer in made.model.layers if layer.weights)
    layer.bias.assign(layer.bias + 1)
    with pytest.raises(
        ModelsDiffer, match=f"(?s)onnxruntime ↔ Keras differ.*saved file.*{layer.name}/bias"
    ) as caught:
        assert_equal_models(made.model, source)
    assert caught.value.report.origin.layers == (layer.name,)


def test_a_seed_is_kept_until_its_test_passes(pytester):
    def run(fails: bool, *options: str) -> tuple[int, str]:
        pytester.makepyfile(test_it=FAILING.replace("{fails}", str(fails)))
        text = pytester.runpytest_inprocess(*LOADED, "-s", *options).stdout.str()
        return int(text.partition("drawn ")[2].split()[0]), text

    first, text = run(True)
    assert f"NOT equal: it departs\nagain with --bridge-seed {first}" in text
    assert run(True)[0] == first
    assert run(False)[0] == first
    assert run(False)[0] != first
    assert run(False, "--bridge-seed", "5")[0] == 5
