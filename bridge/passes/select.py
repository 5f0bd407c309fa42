"""Compress by a condition that is known -> Gather, of as many elements as it is true of."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.passes.emit import Emitter, attribute, constant, is_onnx, replace


def select(model: ir.Model) -> None:
    for node in list(model.graph):
        condition = constant(node.inputs[1]) if is_onnx(node, "Compress") else None
        if condition is not None:
            _pick(node, np.flatnonzero(condition.numpy()))


def _pick(node: ir.Node, places: np.ndarray) -> None:
    emit, x, axis = Emitter(node), node.inputs[0], attribute(node, "axis", None)
    if axis is None:
        x, axis = emit("Reshape", x, emit.constant([-1])), 0
    replace(node.outputs[0], emit("Gather", x, emit.constant(places), axis=axis))
    node.graph.remove(node, safe=True)
