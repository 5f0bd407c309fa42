"""Which node trains otherwise than torch: that of the parameter, variable or module at which a comparison in training
failed; and the step at which a number of it became another, which no value shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bridge.graph.provenance import source_line
from bridge.verification.bisect.nodes import layers_of
from bridge.verification.bisect.origin import BUILD, EXPORT, Located, Origin
from bridge.verification.bisect.passes import steps
from bridge.verification.checks import BACK
from bridge.weights.weight import Weight

if TYPE_CHECKING:
    from bridge.build.assembly import Built, LayerRecord
    from bridge.frontend.source import Source
    from bridge.verification.checks import Check

RATES = ("rate", "dropout", "momentum")  # of Keras's layers, that nothing but training shows
Numbers = dict[str, float]


def first_in_training(checks: Sequence[Check], source: Source, built: Built) -> Located | None:
    """The node at which the first comparison failed that names a part of the model."""
    failed = next((check for check in checks if not check.passed and check.part), None)
    if failed is None:
        return None
    names = {
        failed.part,
        *(n for e in built.weights if e.variable.path == failed.part for n in e.recipe.names),
    }
    made, shown = _made(built, names), (failed.at, failed.error, failed.limit)
    if made is None:
        return Located(Origin(EXPORT, "", failed.part, failed.part, "", (), *shown))
    stage, node = (BUILD, made.node) if failed.leg == BACK else _stage(source, built, made, names)
    where = made.path, source_line(made.node), layers_of(built, made.node)
    return Located(Origin(stage, made.op, str(node.outputs[0].name), *where, *shown))


def _made(built: Built, names: set[str]) -> LayerRecord | None:
    """What a part of a model became: that of a torch module that drops, or the layer of a parameter."""
    if layers := {e.layer for e in built.weights if names.intersection(e.recipe.names)}:
        return next((row for row in built.made if row.name in layers), None)
    rows = [row for row in built.made if row.name and row.path in names]
    return max(rows, key=lambda row: (any(_rates(built, row).values()), row.op == "Dropout"), default=None)


def _stage(source: Source, built: Built, made: LayerRecord, names: set[str]) -> tuple[str, ir.Node]:
    """The step that made another number of one that the node has, or that froze a parameter, and the node as it is
    there: a pass, or the build where Keras has another one than the node. What is the same from the export on came
    wrong out of that."""
    output, before, frozen = made.node.outputs[0].name, set[float](), None
    for place, (step, after) in enumerate(steps(source.given, source.model)):
        node = next((node for node in after.graph for v in node.outputs if v.name == output), None)
        told, held = set() if node is None else set(_numbers(node).values()), _frozen(after, names)
        if place == 0:
            frozen = held
        elif held is not None and frozen is None:
            return step, held
        elif node is not None and before and told != before:
            return step, node
        before = told
    known = set(_numbers(made.node).values()) | {0.0}
    as_told = all(float(np.float32(x)) in known for x in _rates(built, made).values())
    entries = [entry for entry in built.weights if names.intersection(entry.recipe.names)]
    as_told = as_told and all(e.weight.trainable == e.variable.trainable for e in entries)
    return EXPORT if as_told else BUILD, frozen or made.node


def _frozen(model: ir.Model, names: set[str]) -> ir.Node | None:
    """The first node of a graph that reads one of these parameters where it does not train."""
    for node in model.graph:
        held = (ir.convenience.get_const_tensor(v) for v in node.inputs if v is not None)
        weights = (weight for weight in held if isinstance(weight, Weight))
        if any(names.intersection(weight.recipe.names) and not weight.trainable for weight in weights):
            return node
    return None


def _numbers(node: ir.Node) -> Numbers:
    """Its attributes and inputs that are a number."""
    found = {
        a.name: float(a.as_float()) for a in node.attributes.values() if a.type == ir.AttributeType.FLOAT
    }
    for place, value in enumerate(node.inputs):
        held = ir.convenience.get_const_tensor(value) if value is not None else None
        if held is not None and held.size == 1 and held.dtype.is_floating_point():
            found[str(place)] = float(held.numpy().item())
    return {name: float(np.float32(x)) for name, x in found.items()}


def _rates(built: Built, made: LayerRecord) -> Numbers:
    layer = next((layer for layer in built.model.layers if layer.name == made.name), None)
    config = {} if layer is None else layer.get_config()
    return {name: config[name] for name in RATES if isinstance(config.get(name), float)}
