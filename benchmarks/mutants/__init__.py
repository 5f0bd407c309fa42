"""Faults put into a conversion on purpose: whether the proof finds them, and names the node and the stage.

    python -m benchmarks.mutants --n 500 --seed 1        [--log FILE] [--models digits,crnn] [--untouched 50]

A fault is drawn for a network of `models/` (`graphs.py`, `faults.py`): at the export, where the graph that
torch exported is changed; at a pass, behind which the graph is; in the plan, where what is known of a step is; and in
the build, where a layer or its weights are. Each ends as

    located    the proof fails, and names the stage and the node
    found      the proof fails, and names another node or stage, or none
    refused    nothing is built
    harmless   the proof passes, and other inputs in float64, or what trains, show no difference either
    missed     the proof passes, and they do

With `--untouched` as many conversions without a fault, each with a seed of its own, of which none may fail.
"""
