"""Compress by a condition that is known, of elements that are there at every size -> Gather."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from bridge.graph.rewriting import (
    Emitter,
    all_nodes,
    attribute,
    constant,
    input_of,
    is_onnx,
    owner_graph,
    replace,
)


def compress_to_gather(model: ir.Model) -> None:
    for node in all_nodes(model):
        condition = constant(node.inputs[1]) if is_onnx(node, "Compress") else None
        places = None if condition is None else np.flatnonzero(condition.numpy())
        if places is not None and (places < _least(node)).all():
            _pick(node, places)


def _least(node: ir.Node) -> int:
    """How many elements there are in any case to choose from."""
    shape, axis = input_of(node, 0).shape, attribute(node, "axis", None)
    if shape is None:
        return 0
    return math.prod(n if isinstance(n, int) else 1 for n in (shape if axis is None else [shape[axis]]))


def _pick(node: ir.Node, places: np.ndarray) -> None:
    emit, x, axis = Emitter(node), node.inputs[0], attribute(node, "axis", None)
    if axis is None:
        x, axis = emit("Reshape", x, emit.constant([-1])), 0
    replace(node.outputs[0], emit("Gather", x, emit.constant(places), axis=axis))
    owner_graph(node).remove(node, safe=True)
