"""Passes that ONNX IR has: calls -> bodies of functions, Constant -> initializer, what nobody reads -> nothing."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from bridge.errors import SourceError, short_message
from bridge.graph.functions import DOMAIN


def inline(model: ir.Model) -> None:
    """Raises `SourceError` where a call does not fit its function."""
    try:
        common.InlinePass(criteria=lambda function: function.domain != DOMAIN)(model)
    except ValueError as error:
        raise SourceError(f"a function cannot be written out: {short_message(error)}") from error


def lift_constants(model: ir.Model) -> None:
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def drop_unused(model: ir.Model) -> None:
    common.RemoveUnusedNodesPass()(model)


def name_values(model: ir.Model) -> None:
    """Where there are bodies, values of all graphs get names of their own, and a body gives values of its own."""
    bodies = list(model.graph.subgraphs())
    for body in bodies:
        for place, value in enumerate(body.outputs):
            node = value.producer()
            own = value in body.initializers.values() if node is None else node.graph is body
            if not own or value in body.outputs[:place]:
                copy = ir.node("Identity", [value])
                copy.outputs[0].shape, copy.outputs[0].type = value.shape, value.type
                body.append(copy)
                body.outputs[place] = copy.outputs[0]
    if bodies:
        common.NameFixPass()(model)


def drop_functions(model: ir.Model) -> None:
    common.RemoveUnusedFunctionsPass()(model)
