"""The parts of a conversion, made for inference: the model, what its weights are made of, and the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bridge.serving.folding import Served, served_of
from bridge.serving.proof import checks, flat_call, require_equal
from bridge.summary import of_model, variables
from bridge.verification.checks import SERVED
from bridge.weights.entry import Entry
from bridge.weights.recipes import Computed
from bridge.weights.weight import Weight
from bridge.weights.weight_map import WeightMap

if TYPE_CHECKING:
    import keras

    from bridge.report.records import Row
    from bridge.report.report import Report

PARTS = ("kernel", "bias")  # of a layer with a normalisation in it


def for_inference(
    model: keras.Model, weights: WeightMap, report: Report
) -> tuple[keras.Model, WeightMap, Report]:
    """As `Conversion.for_inference`, of its parts."""
    served = served_of(model)
    map_ = WeightMap(list(_entries(served, weights)), weights.state)
    found = tuple(checks(model, SERVED, flat_call(served.model), report))
    told = replace(
        report,
        **of_model(served.model),
        variables=variables(map_),
        rows=tuple(_row(row, served) for row in report.rows),
        checks=(*report.checks, *found),
        notes=(*report.notes, *_notes(served)),
    )
    require_equal(told, found)
    return served.model, map_, told


def _entries(served: Served, weights: WeightMap) -> Iterator[Entry]:
    """Those of the layers that stay; and of each with a normalisation in it, what that and the layer were made of."""
    normed = {before: norm for norm, before in served.folded.items()}
    for entry in weights:
        if entry.layer not in normed and entry.layer not in served.folded:
            yield entry
    for before, norm in normed.items():
        layer = served.model.get_layer(before)
        sources = tuple(entry.recipe for entry in weights if entry.layer in (before, norm))
        for part in PARTS:
            variable = getattr(layer, part)
            recipe = Computed(np.broadcast_to(np.nan, variable.shape), sources, "folded")
            dtype = ir.DataType.from_numpy(np.dtype(variable.dtype))
            yield Entry(variable, Weight(recipe, weights.state, dtype), before, part)


def _row(row: Row, served: Served) -> Row:
    """What a node is now."""
    if row.name in served.folded:
        return replace(row, layer="folded", name=served.folded[row.name], parameters=0)
    return replace(row, layer="left out", parameters=0) if row.name in served.dropped else row


def _notes(served: Served) -> Iterator[str]:
    for norm, before in served.folded.items():
        yield f"{norm} is folded into {before}, whose weights do not go back to torch"
    for name in served.dropped:
        yield f"{name} is left out: it does something in training only"
