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


def drop_functions(model: ir.Model) -> None:
    common.RemoveUnusedFunctionsPass()(model)
