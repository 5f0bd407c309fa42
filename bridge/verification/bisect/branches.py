"""A source at inputs that decide which branch of each If runs: without the others, so that the first node which departs
is found in a branch too."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from bridge.frontend.onnx.load import load
from bridge.frontend.source import as_ir
from bridge.graph.rewriting import input_of, is_onnx
from bridge.graph.splicing import take
from bridge.verification.reference.as_given import values_of
from bridge.verification.trials import Trial

if TYPE_CHECKING:
    from bridge.frontend.source import Source


def as_taken(opened: Source, trial: Trial) -> Source | None:
    """`opened` with the branch that runs at `trial` in the place of each If; None where it has none. Raises
    `SourceError` or `NotRun` where its graph does not run."""
    given = as_ir(opened.given)
    if not _choices(given):
        return None
    given = given.clone()
    while choices := _choices(given):
        names = [input_of(node, 0).name for node in choices]
        conditions = values_of(given, names, trial.inputs, trial.dtype)
        for node, condition in zip(choices, conditions, strict=True):
            take(node, bool(condition.all()))
    model = given if opened.model is opened.given else load(given)
    return replace(opened, given=given, model=model)


def _choices(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if is_onnx(node, "If")]
