"""ScatterND of rows that stand side by side (torch's `x[:, a:b] = y`) -> the rows before, the new, those behind."""

from __future__ import annotations

from typing import cast

import onnx_ir as ir

from bridge.graph.rewriting import (
    Emitter,
    all_nodes,
    attribute,
    input_of,
    inputs_of,
    integers,
    is_onnx,
    replace,
    typed,
)
from bridge.graph.shapes import Dim, shape_of


def scatter_to_concat(model: ir.Model) -> None:
    for node in all_nodes(model):
        if is_onnx(node, "ScatterND") and attribute(node, "reduction", "none") == "none":
            _rewrite(node)


def _rewrite(node: ir.Node) -> None:
    data, indices, updates = inputs_of(node)
    size = data.shape[0] if data.shape is not None else None
    every = (0, size) if size is not None and _is_every_row(indices, size) else None
    span = _span(indices, size) if isinstance(size, int) else every
    if span is None:
        return
    emit = Emitter(node)
    ends = [(0, span[0])] + ([] if size is None else [(span[1], size)])
    parts = [_part(emit, data, *rows) for rows in ends if rows[0] != rows[1]]
    parts.insert(1 if span[0] else 0, updates)
    replace(node.outputs[0], emit("Concat", *parts, axis=0) if len(parts) > 1 else updates)


def _span(indices: ir.Value, size: int) -> tuple[int, int] | None:
    """The first row and the one behind the last, if the rows are known and stand side by side."""
    rows = integers(indices)
    if not rows or list(shape_of(indices)) != [len(rows), 1]:
        return None
    first, end = rows[0] % size, rows[0] % size + len(rows)
    return (first, end) if [row % size for row in rows] == list(range(first, end)) else None


def _is_every_row(indices: ir.Value, size: Dim) -> bool:
    """Whether the indices are 0, 1, … of an axis of unknown size, each in a vector of its own."""
    if indices.shape is None or list(indices.shape) != [size, 1]:
        return False
    column = indices.producer()
    rows = input_of(column, 0).producer() if is_onnx(column, "Unsqueeze") else None
    if not is_onnx(rows, "Range"):
        return False
    return integers(rows.inputs[0]) == [0] and integers(rows.inputs[2]) == [1]


def _part(emit: Emitter, data: ir.Value, start: Dim, stop: Dim) -> ir.Value:
    part = emit("Slice", data, *(emit.constant([cast("int", n)]) for n in (start, stop, 0)))
    return typed(part, [stop - start, *shape_of(data)[1:]], data)
