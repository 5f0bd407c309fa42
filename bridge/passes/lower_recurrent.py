"""ONNX's LSTM, GRU and RNN -> ours: batch first, directions joined, states one by one, zero states left out.

ONNX gives Y as (time, directions, batch, hidden) and every exporter follows it with nodes that bring it to
(time, batch, directions * hidden); these are recognised and disappear. A node that runs one step only (a cell
stepped by hand) becomes a cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bridge.graph.functions import DOMAIN
from bridge.graph.recurrent import STATES, RecurrentOp
from bridge.graph.rewriting import (
    Emitter,
    all_nodes,
    attribute,
    constant,
    input_of,
    inputs_of,
    integers,
    is_onnx,
    is_used,
    numpy_type,
    replace,
)
from bridge.graph.shapes import squeezed_axes
from bridge.weights.weight import Weight

KEEPS_ZERO = {
    "Expand",
    "Reshape",
    "Unsqueeze",
    "Squeeze",
    "Slice",
    "Transpose",
    "Identity",
    "Cast",
    "Tile",
    "Gather",
}


def lower_recurrent(model: ir.Model) -> None:
    for node in all_nodes(model):
        if is_onnx(node, *STATES):
            _rewrite(node)
        elif (node.domain, node.op_type) == (DOMAIN, "LSTMPFrom") and all(
            map(is_zero, filter(None, node.inputs[6:]))
        ):
            emit = Emitter(node)
            attributes = {name: a.value for name, a in node.attributes.items()}
            for old, new in zip(
                node.outputs,
                emit("LSTMP", *node.inputs[:6], domain=DOMAIN, outputs=3, **attributes),
                strict=True,
            ):
                replace(old, new)


def _rewrite(node: ir.Node) -> None:
    op, emit = node.op_type, Emitter(node)
    x, count = input_of(node, 0), len(STATES[op])
    w, r, b, lens, *states = [*node.inputs, *[None] * 8][1 : 5 + count]
    peepholes = [node.inputs[7] if len(node.inputs) > 7 else None] if op == "LSTM" else []
    directions = 2 if attribute(node, "direction") == "bidirectional" else 1
    batch_first = bool(attribute(node, "layout", 0))
    stated = {
        name: a.value for name, a in node.attributes.items() if name not in ("layout", "output_sequence")
    }
    attributes = {"direction": "forward"} | stated
    outputs = [*node.outputs, *[None] * 3][: 1 + len(states)]

    step = _single_step(x) if directions == 1 and not batch_first and lens is None else None
    if step is not None:
        weights = (w, r, b, *peepholes)
        finals = _cell(emit, op, step, weights, states, numpy_type(x), attributes)
        y = emit("Unsqueeze", finals[0], emit.constant([1]))
    else:
        given = _initial(emit, states, directions, batch_first)
        y, *finals, last = emit(
            RecurrentOp(op, directions, bool(given)).name,
            x if batch_first else emit("Transpose", x, perm=[1, 0, 2]),
            w, r, b, lens, *peepholes, *given,
            domain=DOMAIN, outputs=2 + directions * len(states), **attributes,
        )  # fmt: skip
        if directions == 1:
            finals[0] = last  # the same, and what Keras gives without `return_state`
    if outputs[0] is not None:
        _replace_sequence(emit, outputs[0], y, directions, attributes["hidden_size"], batch_first)
    axis = emit.constant([1 if batch_first else 0])
    for kind, old in enumerate(outputs[1:]):
        if old is not None and is_used(old):
            rows = [emit("Unsqueeze", finals[side * len(states) + kind], axis) for side in range(directions)]
            replace(old, rows[0] if directions == 1 else emit("Concat", *rows, axis=1 if batch_first else 0))
    emit.graph.remove(node, safe=True)


def _cell(
    emit: Emitter, op: str, step: ir.Value, weights: Sequence[ir.Value | None], states: Sequence[ir.Value | None],
    dtype: np.dtype, attributes: dict[str, object],
) -> tuple[ir.Value, ...]:  # fmt: skip
    """One step of a cell: the new states."""
    given = [
        _zeros(emit, _state(emit, step, attributes), dtype) if state is None else _rows(emit, state, 1, 0)[0]
        for state in states
    ]
    name = RecurrentOp(op, is_cell=True).name
    finals = emit(name, step, *weights, *given, domain=DOMAIN, outputs=len(states), **attributes)
    return (finals,) if len(states) == 1 else finals


def _single_step(x: ir.Value) -> ir.Value | None:
    """The step, if x is one step with a time axis put on."""
    producer = x.producer()
    if producer is not None and producer.op_type == "Unsqueeze" and integers(producer.inputs[1]) == [0]:
        return producer.inputs[0]
    return None


def _rows(emit: Emitter, state: ir.Value, directions: int, axis: int) -> list[ir.Value]:
    return [emit("Gather", state, emit.constant(side), axis=axis) for side in range(directions)]


def _state(emit: Emitter, step: ir.Value, attributes: dict) -> ir.Value:
    """The shape of a state beside `step`."""
    batch = emit("Shape", step, start=0, end=1)
    return emit("Concat", batch, emit.constant([attributes["hidden_size"]]), axis=0)


def _zeros(emit: Emitter, shape: ir.Value, dtype: np.dtype) -> ir.Value:
    return emit("Expand", emit.constant(0, dtype), shape)


def _initial(
    emit: Emitter, states: list[ir.Value | None], directions: int, batch_first: bool
) -> list[ir.Value]:
    """The given states in Keras's order, or none where all are zero."""
    if all(state is None or is_zero(state) for state in states):
        return []
    known = next(state for state in states if state is not None)
    given = [_zeros(emit, emit("Shape", known), numpy_type(known)) if s is None else s for s in states]
    rows = [_rows(emit, state, directions, 1 if batch_first else 0) for state in given]
    return [row[side] for side in range(directions) for row in rows]


def is_zero(value: ir.Value) -> bool:
    """Whether `value` is zeros, whatever its size: constants, or made of such by moving and expanding alone."""
    seen, wanted = {value}, [value]
    while wanted:
        sources = _zero_if(wanted.pop())
        if sources is None:
            return False
        wanted += [source for source in sources if source not in seen]
        seen.update(sources)
    return True


def _zero_if(value: ir.Value) -> list[ir.Value] | None:
    """The values that have to be zeros for `value` to be, or None where it is not in any case."""
    tensor = constant(value)
    if tensor is not None:
        return None if isinstance(tensor, Weight) or np.any(tensor.numpy()) else []
    node = value.producer()
    if node is None:
        return None
    if node.op_type == "ConstantOfShape":
        filled = attribute(node, "value")
        return [] if filled is None or not np.any(filled.numpy()) else None
    if node.op_type == "Concat":
        return list(inputs_of(node))
    return [input_of(node, 0)] if node.op_type in KEEPS_ZERO else None


def _replace_sequence(
    emit: Emitter, old: ir.Value, y: ir.Value, directions: int, hidden: int, batch_first: bool
) -> None:
    """Give the readers of ONNX's four-axis Y what they ask for, made from the joined `y`."""
    joined = y if batch_first else emit("Transpose", y, perm=[1, 0, 2])
    for node in [use.node for use in old.uses()]:
        for tail in _joins(node, old, batch_first, directions * hidden):
            replace(tail, joined)
    if is_used(old):
        split = emit("Reshape", y, emit.constant([0, 0, directions, hidden]))
        replace(old, split if batch_first else emit("Transpose", split, perm=[1, 2, 0, 3]))


def _joins(node: ir.Node, y: ir.Value, batch_first: bool, width: int) -> list[ir.Value]:
    """The values below `node` that hold Y with its directions joined."""
    out = node.outputs[0]
    if node.op_type == "Squeeze" and squeezed_axes(node) == [2 if batch_first else 1]:
        return [out]
    if node.op_type == "Transpose" and not batch_first and list(attribute(node, "perm")) == [0, 2, 1, 3]:
        return [v for use in out.uses() for v in _joins(use.node, y, True, width)]
    shape = out.shape
    if (
        node.op_type == "Reshape"
        and batch_first
        and shape is not None
        and shape.rank() == 3
        and shape[2] == width
    ):
        return [out]
    return []
