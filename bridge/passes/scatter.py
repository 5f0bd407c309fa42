"""ScatterND of rows that stand side by side (torch's `x[:, a:b] = y`) -> the rows before, the new, those behind."""

from __future__ import annotations

import onnx_ir as ir

from bridge.passes.emit import Emitter, attribute, integers, is_onnx, replace


def scatter(model: ir.Model) -> None:
    for node in list(model.graph):
        if is_onnx(node, "ScatterND") and attribute(node, "reduction", "none") == "none":
            _rewrite(node)


def _rewrite(node: ir.Node) -> None:
    data, indices, updates = node.inputs
    rows = integers(indices)
    size = data.shape[0] if data.shape is not None else None
    if not rows or not isinstance(size, int) or list(indices.shape) != [len(rows), 1]:
        return
    first, end = rows[0] % size, rows[0] % size + len(rows)
    if [row % size for row in rows] != list(range(first, end)):
        return
    emit = Emitter(node)
    parts = [
        emit("Slice", data, *(emit.constant([n]) for n in (start, stop, 0)))
        for start, stop in ((0, first), (end, size))
        if start < stop
    ]
    parts.insert(1 if first else 0, updates)
    replace(node.outputs[0], emit("Concat", *parts, axis=0) if len(parts) > 1 else updates)
