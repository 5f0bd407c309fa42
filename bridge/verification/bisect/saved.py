"""Which operation of a saved model gives something else than the one of the same name in a model that is known."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import onnx_ir as ir

from bridge.build.assembly import Built
from bridge.graph.provenance import source_line, torch_path
from bridge.keras_compat import calls, made_by
from bridge.verification.bisect.nodes import layers_of
from bridge.verification.bisect.origin import Handed, Located, Origin
from bridge.verification.metrics import Arrays, relative_error
from bridge.verification.runners import keras_call
from bridge.verification.trials import Trial

FILE = "saved file"
AT_ONCE = 32  # calls whose values are compared in one run
Call = tuple[str, int]  # of an operation by its name, and which of its calls
Given = dict[Call, keras.KerasTensor]  # the first that each call gives


def first_in_file(saved: keras.Model, known: Built, trial: Trial) -> Located | None:
    """The first operation of `saved` whose value is off by more than rounding; one that it lacks counts so."""
    ours, theirs = _given(known.model), _given(saved)
    limit = trial.check("", 0.0).limit
    order = list(ours)
    for start in range(0, len(order), AT_ONCE):
        some = order[start : start + AT_ONCE]
        lacking = next((call for call in some if call not in theirs), None)
        shared = some if lacking is None else some[: some.index(lacking)]
        sides = (known.model, ours), (saved, theirs)
        pairs = (_values(model, [given[call] for call in shared], trial) for model, given in sides)
        for call, want, got in zip(shared, *pairs, strict=True):
            if (error := relative_error(got, want)) > limit:
                return _located(saved, known, call, trial, (error, limit))
        if lacking is not None:
            return _located(saved, known, lacking, trial, (math.inf, limit))
    return None


def _given(model: keras.Model) -> Given:
    counted = Counter[str]()
    found: Given = {}
    for call in calls(model):
        name = call.operation.name
        found[name, counted[name]] = call.gives[0]
        counted[name] += 1
    return found


def _values(model: keras.Model, tensors: Sequence[keras.KerasTensor], trial: Trial) -> Arrays:
    return keras_call(keras.Model(model.inputs, list(tensors)))(trial.inputs) if tensors else []


def _located(saved: keras.Model, known: Built, call: Call, trial: Trial, off: tuple[float, float]) -> Located:
    name, _ = call
    node = _node(known, name)
    at, variables = trial.check("", 0.0).at, tuple(_variables(saved, known, name))
    if node is None:
        return Located(Origin(FILE, "", name, name, "", (name,), at, *off, variables))
    where = torch_path(node), source_line(node), layers_of(known, node) or (name,)
    return Located(Origin(FILE, node.op_type, str(node.outputs[0].name), *where, at, *off, variables))


def _node(known: Built, name: str) -> ir.Node | None:
    """The node whose value an operation gives."""
    made = ((value, made_by(tensor)) for value, tensor in known.tensors.items())
    return next((value.producer() for value, by in made if by is not None and by[0].name == name), None)


def _variables(saved: keras.Model, known: Built, name: str) -> Iterator[Handed]:
    """How far the variables of a layer are off."""
    theirs = {variable.path: np.asarray(variable) for variable in saved.variables}
    for entry in known.weights:
        if entry.layer == name and (path := entry.variable.path) in theirs:
            yield Handed(path, relative_error(theirs[path], np.asarray(entry.variable)))
