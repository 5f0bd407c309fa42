"""A Loop that runs a few times, a number that is known -> its body so many times, one after the other."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.graph.loops import Scanned, body_of, carried, scanned_out, trips
from bridge.graph.rewriting import Emitter, is_onnx, is_used, owner_graph, replace
from bridge.graph.splicing import splice
from bridge.passes.infer_and_fold import infer_and_fold

MOST_TIMES = 16  # that a body is written out
MOST_NODES = 1000  # that are written so, in a model


def unroll_loops(model: ir.Model) -> None:
    """And what follows from it: the count of each run is a constant."""
    room = MOST_NODES
    while (left := _unroll_all(model, room)) < room:
        room = left
        infer_and_fold(model)


def _unroll_all(model: ir.Model, room: int) -> int:
    """What is left of the nodes that there is `room` for."""
    for node in list(model.graph):
        times = trips(node) if is_onnx(node, "Loop") else None
        if not isinstance(times, int) or times > MOST_TIMES:
            continue
        size = max(times, 1) * (1 + sum(1 for _ in ir.traversal.RecursiveGraphIterator(body_of(node))))
        if size <= room and (times or not any(map(_is_read, scanned_out(node)))):
            _unroll(node, times)
            room -= size
    return room


def _is_read(side: Scanned) -> bool:
    return side.whole is not None and is_used(side.whole)


def _unroll(node: ir.Node, times: int) -> None:
    emit = Emitter(node)
    states: list[ir.Value | None] = [state.start for state in carried(node)]
    rows: list[list[ir.Value]] = []
    for count in range(times):
        body = body_of(node).clone(allow_outer_scope_values=True)
        given = [emit.constant(count), emit.constant(True, np.bool_), *states]
        _, *made = splice(body, node, given)
        states[:], row = made[: len(states)], made[len(states) :]
        rows.append(row)
    for state, value in zip(carried(node), states, strict=True):
        if value is not None:
            replace(state.result, value)
    first = emit.constant([0])
    for side, parts in zip(scanned_out(node), zip(*rows, strict=True), strict=False):
        if side.whole is not None and _is_read(side):
            stacked = emit("Concat", *(emit("Unsqueeze", part, first) for part in parts), axis=0)
            replace(side.whole, stacked)
    owner_graph(node).remove(node, safe=True)
