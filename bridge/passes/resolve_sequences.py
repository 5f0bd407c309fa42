"""Sequences whose parts are known one by one, and optionals -> the parts, where somebody takes one or joins them.

A sequence that the graph gives, or a body, ends as one SequenceConstruct of its parts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from bridge.graph.provenance import NO_BUILDER
from bridge.graph.rewriting import Emitter, all_nodes, attribute, input_of, integers, is_onnx, replace
from bridge.graph.splicing import splice
from bridge.passes.sequence_to_split import part_sizes

Parts = list[ir.Value]
Held = dict[ir.Value, Parts]
UNKNOWN = "how many parts there are, or which one is meant, is known only when it runs; fix the sizes and the places"
LARGEST = 1000  # parts of a sequence
# Which inputs say what a sequence is, beside the sequences
ASKED = {"SequenceAt": (1,), "SequenceErase": (1,), "SequenceInsert": (2,), "SplitToSequence": (1,)}


def resolve_sequences(model: ir.Model) -> None:
    held: Held = {}
    for node in all_nodes(model):
        if (
            is_onnx(node)
            and node.op_type in MAKERS
            and (rows := MAKERS[node.op_type](node, held)) is not None
        ):
            held.update(zip(node.outputs, rows, strict=True))
        elif is_onnx(node) and node.op_type in READERS:
            value = READERS[node.op_type](node, held)
            if value is not None:
                replace(node.outputs[0], value)
        if is_onnx(node) and node.op_type in SEQUENCES:
            node.meta[NO_BUILDER] = UNKNOWN
    for value, parts in held.items():
        maker = value.producer()
        if maker is not None and value.is_graph_output() and parts and maker.op_type != "SequenceConstruct":
            emit = Emitter(maker)
            made = emit("SequenceConstruct", *parts)
            made.type = value.type
            replace(value, made)


# --- what gives sequences ------------------------------------------------------------------------------------------


def _constructed(node: ir.Node, held: Held) -> list[Parts]:
    return [[input_of(node, place) for place in range(len(node.inputs))]]


def _empty(node: ir.Node, held: Held) -> list[Parts]:
    return [[]]


def _inserted(node: ir.Node, held: Held) -> list[Parts] | None:
    parts = _of(node, held)
    at = None if parts is None else _place(node, 2, len(parts))
    if parts is None or at is None or len(parts) >= LARGEST or not -len(parts) <= at <= len(parts):
        return None
    at += len(parts) if at < 0 else 0
    return [[*parts[:at], input_of(node, 1), *parts[at:]]]


def _erased(node: ir.Node, held: Held) -> list[Parts] | None:
    parts, at = _of(node, held), _place(node, 1, -1)
    if parts is None or at is None or not -len(parts) <= at < len(parts):
        return None
    return [[part for number, part in enumerate(parts) if number != at % len(parts)]]


def _split(node: ir.Node, held: Held) -> list[Parts] | None:
    source = input_of(node, 0)
    if source.shape is None:
        return None
    axis = attribute(node, "axis", 0) % source.shape.rank()
    sizes = part_sizes(node, source.shape[axis])
    if not sizes or len(sizes) > LARGEST:
        return None
    emit = Emitter(node)
    made = emit("Split", source, emit.constant(sizes), outputs=len(sizes), axis=axis)
    parts = [made] if len(sizes) == 1 else list(made)
    keeps = attribute(node, "keepdims", 1) or len(node.inputs) > 1
    return [parts if keeps else [emit("Squeeze", part, emit.constant([axis])) for part in parts]]


def _mapped(node: ir.Node, held: Held) -> list[Parts] | None:
    """A body for each part of the first sequence, one after the other."""
    if (first := _of(node, held)) is None:
        return None
    given = [held.get(value, value) for value in node.inputs if value is not None]
    if any(isinstance(parts, list) and len(parts) != len(first) for parts in given):
        return None
    rows: list[list[ir.Value]] = []
    for number in range(len(first)):
        body = node.attributes["body"].as_graph().clone(allow_outer_scope_values=True)
        rows.append(splice(body, node, [x[number] if isinstance(x, list) else x for x in given]))
    return [list(parts) for parts in zip(*rows, strict=True)] if rows else [[] for _ in node.outputs]


def _same(node: ir.Node, held: Held) -> list[Parts] | None:
    parts = _of(node, held)
    return None if parts is None else [parts]


MAKERS: dict[str, Callable[[ir.Node, Held], list[Parts] | None]] = {
    "Identity": _same, "Optional": _same, "SequenceConstruct": _constructed, "SequenceEmpty": _empty,
    "SequenceErase": _erased, "SequenceInsert": _inserted, "SequenceMap": _mapped, "SplitToSequence": _split,
}  # fmt: skip


# --- what reads them -----------------------------------------------------------------------------------------------


def _at(node: ir.Node, held: Held) -> ir.Value | None:
    parts, at = _of(node, held), _place(node, 1)
    return None if parts is None or at is None or not -len(parts) <= at < len(parts) else parts[at]


def _length(node: ir.Node, held: Held) -> ir.Value | None:
    parts = _of(node, held)
    return None if parts is None else Emitter(node).constant(len(parts))


def _joined(node: ir.Node, held: Held) -> ir.Value | None:
    parts, axis = _of(node, held), attribute(node, "axis", 0)
    if not parts:
        return None
    emit = Emitter(node)
    if attribute(node, "new_axis", 0):
        parts = [emit("Unsqueeze", part, emit.constant([axis])) for part in parts]
    return emit("Concat", *parts, axis=axis)


def _is_there(node: ir.Node, held: Held) -> ir.Value | None:
    source = node.inputs[0] if node.inputs else None
    maker = None if source is None else source.producer()
    if source is not None and isinstance(source.type, ir.OptionalType) and not is_onnx(maker, "Optional"):
        return None
    there = source is not None and (not is_onnx(maker, "Optional") or any(maker.inputs))
    return Emitter(node).constant(there, np.bool_)


def _taken(node: ir.Node, held: Held) -> ir.Value | None:
    """What an optional holds; anything else is taken for one that holds it."""
    source = input_of(node, 0)
    maker = source.producer()
    if is_onnx(maker, "Optional"):
        return maker.inputs[0] if maker.inputs else None
    return None if isinstance(source.type, ir.OptionalType) else source


READERS: dict[str, Callable[[ir.Node, Held], ir.Value | None]] = {
    "ConcatFromSequence": _joined, "OptionalGetElement": _taken, "OptionalHasElement": _is_there,
    "SequenceAt": _at, "SequenceLength": _length,
}  # fmt: skip


def _of(node: ir.Node, held: Held) -> Parts | None:
    """The parts of the sequence that a node reads."""
    return None if not node.inputs or node.inputs[0] is None else held.get(node.inputs[0])


def _place(node: ir.Node, index: int, default: int | None = None) -> int | None:
    """The number that input `index` is, which is `default` where it is left out; None where it is not known."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return default
    found = integers(value)
    return found[0] if found is not None and len(found) == 1 else None


SEQUENCES = {*MAKERS, *READERS} - {"Identity"}  # of which those are refused that are there in the end
