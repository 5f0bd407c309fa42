"""A node of a graph by itself, on what it is given there."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.errors import BridgeError, NotRun
from bridge.frontend.source import as_proto
from bridge.verification.bisect.reproducer import Reproducer
from bridge.verification.doubt.steps import given_to, model_of_one_node, self_contained
from bridge.verification.metrics import Arrays
from bridge.verification.reference.as_given import as_given, values_of
from bridge.verification.trials import Trial


def of_node(model: ir.Model, node: ir.Node, trial: Trial, wanted: Arrays) -> Reproducer | None:
    """A node of `model` on what it is given there, of which something else is `wanted`; None where it does not run by
    itself, or on a sequence."""
    given = given_to(node)
    made = [value for value in node.outputs if value.name]
    named = dict(zip((value.name for value in model.graph.inputs), trial.inputs, strict=False))
    try:
        inner = [str(value.name) for value in given if value.name not in named]
        held = named | dict(zip(inner, values_of(model, inner, trial.inputs, trial.dtype), strict=True))
        arrays = {str(value.name): held[value.name] for value in given}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            return None
        types = {value: ir.DataType.from_numpy(arrays[str(value.name)].dtype) for value in given}
        alone = self_contained(model_of_one_node(model, node, types, made))
        got = as_given(alone)[0](list(arrays.values()))
    except (BridgeError, NotRun):
        return None
    return Reproducer(as_proto(alone).SerializeToString(), arrays, wanted, got)
