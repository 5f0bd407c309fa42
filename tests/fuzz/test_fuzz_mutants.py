"""Switches of the fuzzer: thrown where functions are run, and taken back."""

from __future__ import annotations

from benchmarks.fuzz.mutants import IS, Mutant, totals
from benchmarks.fuzz.subjects import GRAPH, NEW, OLD
from benchmarks.fuzz.switches import switches, traced
from benchmarks.fuzz.workers import CAUGHT, EQUAL, WRONG, Outcome
from bridge.graph import axes, recurrent
from bridge.ops import elementwise  # noqa: F401 - registers its operators
from bridge.ops.registry import find

FILES = ("ops/", "graph/")


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
    assert {(switch.file, switch.name) for switch in found} == {("graph/axes.py", "channels_behind")}


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


def test_wrong_models_are_caught():
    """A few switches with fixed seeds, on subjects that take little: no wrong model passes the proof."""
    kinds = {OLD: range(4), NEW: (5, 7, 13), GRAPH: range(1)}
    mutants = [
        Mutant(kind, seed, number) for kind, seeds in kinds.items() for seed in seeds for number in range(4)
    ]
    ended = {f"{mutant.kind.make.__name__} {mutant.seed}.{mutant.number}": mutant.run() for mutant in mutants}
    assert {name: outcome for name, outcome in ended.items() if not outcome.good} == {}
    assert CAUGHT in {outcome.kind for outcome in ended.values()}


def test_tables_are_switched_wherever_they_are():
    lines = {(recurrent.__file__, line) for line in range(1, 400)}
    right = recurrent.GATES
    found = [switch for switch in switches(lines, 0, ("graph/recurrent",)) if switch.name == "GATES"]
    with found[0].thrown():
        assert right != recurrent.GATES
    assert found
    assert recurrent.GATES is right


def test_totals_count_each_switch_once():
    outcomes = [
        Outcome(CAUGHT, f"ops/a.py:1 x -> y{IS}differs"),
        Outcome(CAUGHT, f"ops/a.py:1 x -> y{IS}differs elsewhere"),
        Outcome(EQUAL, f"ops/a.py:2 x -> y{IS}"),
        Outcome(WRONG, f"ops/b.py:1 x -> y{IS}0.3 off"),
    ]
    columns = [list(column.cells) for column in totals(outcomes).columns]
    assert columns == [["ops/a.py", "ops/b.py", "all"], ["2", "1", "3"], ["1", "1", "2"], ["1", "0", "1"]]
