"""Switches of the fuzzer: thrown where functions are run, and taken back."""

from __future__ import annotations

from benchmarks.fuzz.switches import switches, traced
from bridge import axes
from bridge.ops import elementwise  # noqa: F401 - registers its operators
from bridge.ops.registry import find

FILES = ("ops/", "")


def test_a_switch_is_thrown_and_taken_back():
    lines = set()
    with traced(lines):
        right = axes.channels_behind(4)
    found = list(switches(lines, 0, FILES))
    wrong = []
    for switch in found:
        with switch.thrown():
            wrong.append(axes.channels_behind(4))
        assert axes.channels_behind(4) == right == (0, 2, 3, 1)
    assert len(found) > 5
    assert any(order != right for order in wrong)
    assert {(switch.file, switch.name) for switch in found} == {("axes.py", "channels_behind")}


def test_functions_that_functions_made_are_switched():
    """Builders of one kind are made by one function, as the file is imported."""
    less = find("", "Less").function
    lines = set()
    with traced(lines):
        assert not less(5, 3)
    found = set()
    for switch in switches(lines, 0, FILES):
        with switch.thrown():
            found.add(bool(less(5, 3)))
        assert not less(5, 3)
    assert True in found
