"""SplitToSequence whose parts are taken by SequenceAt (torch's chunk, split and unbind) -> Split."""

from __future__ import annotations

import onnx_ir as ir

from bridge.graph.rewriting import (
    Emitter,
    all_nodes,
    attribute,
    constant,
    input_of,
    integers,
    is_onnx,
    replace,
)
from bridge.graph.shapes import shape_of, surely_covers, symbolic_contents

END = (1 << 63) - 1  # of an axis, whatever its size


def sequence_to_split(model: ir.Model) -> None:
    for node in all_nodes(model):
        if is_onnx(node, "SplitToSequence"):
            _rewrite(node)


def _rewrite(node: ir.Node) -> None:
    source = input_of(node, 0)
    readers = [use.node for use in node.outputs[0].uses()]
    found = [integers(reader.inputs[1]) for reader in readers if reader.op_type == "SequenceAt"]
    places = [place[0] for place in found if place is not None and len(place) == 1]
    if source.shape is None or not readers or len(places) < len(readers) or node.outputs[0].is_graph_output():
        return
    axis = attribute(node, "axis", 0) % source.shape.rank()
    sizes = part_sizes(node, source.shape[axis])
    emit = Emitter(node)
    if sizes is not None:
        if not all(-len(sizes) <= place < len(sizes) for place in places):
            return
        parts = emit("Split", source, emit.constant(sizes), outputs=len(sizes), axis=axis)
        parts = (parts,) if len(sizes) == 1 else parts
    elif _is_computed(node) and min(places) >= 0:
        parts = [_part(emit, source, input_of(node, 1), axis, k) for k in range(max(places) + 1)]
    else:
        return
    keeps = attribute(node, "keepdims", 1) or len(node.inputs) > 1
    for reader, place in zip(readers, places, strict=True):
        part = parts[place]
        replace(reader.outputs[0], part if keeps else emit("Squeeze", part, emit.constant([axis])))


def _is_computed(node: ir.Node) -> bool:
    """Whether all parts are of one size that is known at run time only, as torch's chunk of a free axis."""
    given = node.inputs[1] if len(node.inputs) > 1 else None
    return given is not None and given.shape is not None and not given.shape.rank()


def _part(emit: Emitter, source: ir.Value, size: ir.Value, axis: int, place: int) -> ir.Value:
    """The rows of a part; one that is the last for certain goes on to the end of the source."""
    whole, length = emit("Reshape", size, emit.constant([1])), symbolic_contents(size)
    start, end = (emit("Mul", whole, emit.constant([k])) for k in (place, place + 1))
    if length and surely_covers(length[0], place + 1, shape_of(source)[axis]):
        end = emit.constant([END])
    return emit("Slice", source, start, end, emit.constant([axis]))


def part_sizes(node: ir.Node, size: int | ir.SymbolicDim) -> list[int] | None:
    """How long each part is: a list, or one number for all but a shorter last one."""
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return [1] * size if isinstance(size, int) else None
    given, tensor = integers(node.inputs[1]), constant(node.inputs[1])
    if given is None or tensor is None or tensor.shape.rank():
        return given
    if not isinstance(size, int) or given[0] < 1:
        return None
    count = -(-size // given[0])
    return [given[0]] * (count - 1) + [size - given[0] * (count - 1)]
