"""A causal network -> the same over pieces of a sequence: recurrent layers start from the state of the last piece, and
what is padded in front of the time axis is the end of the last piece (`bridge.Past`).

Of the first piece every state is zero, and it is the graph that it was; that is what onnxruntime runs. What looks at
times that a piece does not have is refused where it stands (`NO_BUILDER`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from bridge.errors import SourceError
from bridge.graph.frames import STATEFUL, Frames, Pieces, Unstreamed, Wanted, Whole
from bridge.graph.functions import DOMAIN, KEEPS_STATE
from bridge.graph.provenance import NO_BUILDER
from bridge.graph.rewriting import Emitter, constant, input_of, is_onnx, read_inside, replace
from bridge.graph.shapes import rank, shape_of, symbolic_contents
from bridge.passes.along_time import (
    COUNTED,
    EVENLY,
    FROM_ZERO,
    MAKES_EVEN,
    READS_SIZES,
    REASONS,
    RULES,
    refused_anyhow,
    steps_along,
    windows_of,
)
from bridge.passes.fix_size import fix_size
from bridge.passes.frame_rules import Known, Place, pads_along
from bridge.weights.weight import Weight

SLIDING = ("AveragePool", "Conv", "LpPool", "MaxPool")


def keep_state(model: ir.Model) -> None:
    wanted = model.meta.get(STATEFUL)
    if not isinstance(wanted, Wanted):
        return
    time = _time(model.graph)
    _fix_batch(model, time, wanted)
    walk = _Walk(model.graph, time)
    for node in list(model.graph):
        walk.follow(node)
    model.meta[STATEFUL] = walk.pieces()
    walk.rewrite()


# --- which axis is time ---------------------------------------------------------------------------------------------


def _time(graph: ir.Graph) -> str:
    """The free size along which layers step or windows slide; of others the one that there is behind a batch."""
    free = _symbols(dim for value in graph.inputs for dim in shape_of(value))
    found = _symbols(dim for node in graph for dim in _stepped(node)) & free
    if not found:
        found = free - _symbols(dim for value in graph.inputs for dim in shape_of(value)[:1])
    if not found:
        raise SourceError(
            "stateful: no axis of time is free to come in pieces; leave it free, as by "
            "dynamic_shapes=({0: 'batch', 1: 'time'},)"
        )
    if len(found) > 1:
        raise SourceError(
            f"stateful: {' and '.join(sorted(found))} are free, and one of them alone can be the time; fix the others"
        )
    return found.pop()


def _symbols(dims: Iterator[int | ir.SymbolicDim]) -> set[str]:
    return {name for dim in dims if not isinstance(dim, int) for name in dim.free_symbols()}


def _stepped(node: ir.Node) -> Sequence[int | ir.SymbolicDim]:
    """The sizes of the axes along which a node steps or slides."""
    value = node.inputs[0] if node.inputs else None
    if value is None or value.shape is None:
        return ()
    if is_onnx(node, *SLIDING):
        return shape_of(value)[2:]
    axis = steps_along(node)
    return () if axis is None else shape_of(value)[axis : axis + 1]


def _fix_batch(model: ir.Model, time: str, wanted: Wanted) -> None:
    """A number for the free size that is not time: Keras's layers keep their state for so many sequences."""
    others = _symbols(dim for value in model.graph.inputs for dim in shape_of(value)) - {time}
    if len(others) > 1:
        raise SourceError(
            f"stateful: beside {time}, {' and '.join(sorted(others))} are free, and Keras keeps states for a fixed "
            f"batch; fix the others"
        )
    if wanted.batch_size and not others:
        raise SourceError(
            f"stateful: no batch is free to be one of {wanted.batch_size}; leave out batch_size"
        )
    for name in others:
        fix_size(model, name, wanted.batch_size or wanted.example.get(name, 1))


# --- what becomes of the frames -------------------------------------------------------------------------------------


@dataclass
class _Walk:
    """The nodes of a graph in order: what is known of the frames in each value, and which nodes pad time."""

    graph: ir.Graph
    time: str
    known: dict[ir.Value, Known] = field(default_factory=dict)
    padding: list[tuple[ir.Node, Frames]] = field(default_factory=list)
    stepping: list[ir.Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        for value in self.graph.inputs:
            places = [
                place for place, dim in enumerate(shape_of(value)) if self.time in _symbols(iter([dim]))
            ]
            if len(places) == 1 and shape_of(value)[places[0]] == ir.SymbolicDim(self.time):
                self.known[value] = Frames(places[0])
            elif places:
                raise SourceError(f"stateful: input {value.name} has not one axis that is {self.time} alone")

    def follow(self, node: ir.Node) -> None:
        try:
            found = self._found(node)
        except Unstreamed as reason:
            node.meta[NO_BUILDER] = f"in pieces, {reason}"
            found = [Whole.UNKNOWN] * len(node.outputs)
        self.known.update(zip(node.outputs, found, strict=True))

    def _found(self, node: ir.Node) -> list[Known]:
        count = 1 if is_onnx(node, *READS_SIZES) else len(node.inputs)
        given = [None if value is None else self.known.get(value) for value in node.inputs[:count]]
        inside = [self.known.get(value) for value in read_inside(node) if value is not None]
        if all(map(self._is_size, node.outputs)):
            return [Whole.SIZE] * len(node.outputs)
        if Whole.SIZE in (*given, *inside) and not is_onnx(node, "ConstantOfShape"):
            raise Unstreamed(REASONS.get(node.op_type, COUNTED))
        if Whole.UNKNOWN in (*given, *inside):
            if reason := refused_anyhow(node, self.time):
                raise Unstreamed(reason)
            return [Whole.UNKNOWN] * len(node.outputs)
        if not any(isinstance(known, Frames) for known in (*given, *inside)):
            return [self._without_frames(node, {*given, *inside}, value) for value in node.outputs]
        if Whole.SO_FAR in given:
            raise Unstreamed(
                "frames meet what the whole sequence came to, which the first of them does not know yet"
            )
        rule = None if any(inside) else RULES.get((node.domain, node.op_type))
        if rule is None:
            raise Unstreamed(REASONS.get(node.op_type, "how this operator treats the frames is not known"))
        found = rule(Place(node, given, self.time))
        found = found if isinstance(found, list) else [found] * len(node.outputs)
        self._keep(node, given[0])
        return found

    def _without_frames(self, node: ir.Node, given: set[Known], value: ir.Value) -> Known:
        known = given - {None, Whole.SIZE}
        if value.shape is None or self.time not in _symbols(iter(shape_of(value))):
            return Whole.SO_FAR if Whole.SO_FAR in known else None
        if known - {Whole.EVEN} or not is_onnx(node, *(MAKES_EVEN if known else EVENLY)):
            fitting = "what the sequence came to is given to each of its frames"
            raise Unstreamed(REASONS.get(node.op_type, fitting if known else FROM_ZERO))
        return Whole.EVEN

    def _is_size(self, value: ir.Value) -> bool:
        """Whether it is arithmetic of sizes, which is read while planning."""
        if ir.convenience.get_const_tensor(value) is not None:
            return False
        contents = symbolic_contents(value)
        return contents is not None and self.time in _symbols(iter(contents))

    def _keep(self, node: ir.Node, frames: Known) -> None:
        """Remember what has to be rewritten."""
        if not isinstance(frames, Frames):
            return
        if is_onnx(node, "Pad", *SLIDING):
            self.padding.append((node, frames))
        elif frames.axis == steps_along(node):
            self.stepping.append(node)

    # --- what came of it

    def pieces(self) -> Pieces:
        """How inputs and outputs are cut and put together. What has not as many frames as was followed is refused."""
        frames = [(value, known) for value, known in self.known.items() if isinstance(known, Frames)]
        step = math.lcm(*(known.per.denominator for _, known in frames))
        for value, known in frames:
            node, dims = value.producer(), shape_of(value)
            others = (*dims[: known.axis], *dims[known.axis + 1 :])
            fits = known.fits(dims[known.axis], self.time, step) and self.time not in _symbols(iter(others))
            if node is not None and not fits:
                node.meta[NO_BUILDER] = (
                    f"in pieces, it gives {dims[known.axis]} frames, which are not as many as go in"
                )
        for value in self.graph.outputs:
            self._require_given(value)
        given = [self.known.get(value) for value in self.graph.outputs]
        return Pieces(
            self.time,
            step,
            tuple(map(_axis, map(self.known.get, self.graph.inputs))),
            tuple(map(_axis, given)),
            tuple(known is Whole.SO_FAR for known in given),
        )

    def _require_given(self, value: ir.Value) -> None:
        """Refuse an output that has not the frames of the piece, at the node that put others there."""
        known, node = self.known.get(value), value.producer()
        if known is Whole.SIZE and node is not None:
            node.meta[NO_BUILDER] = f"in pieces, {COUNTED}"
        if known is Whole.EVEN and node is not None:
            node.meta[NO_BUILDER] = "in pieces, an output has the same in every frame; leave it out"
        if not isinstance(known, Frames) or node is None:
            return
        if known.more:
            cut = f"[..., :-{known.ahead}]" if known.ahead > 0 else f"[..., {known.past}:]"
            reason = f"an output has {known.more} frames more than the sequence; cut them off, as by {cut}"
            (known.by or node).meta[NO_BUILDER] = f"in pieces, {reason}"
        elif known.rows > 1:
            node.meta[NO_BUILDER] = (
                "in pieces, time shares an axis of an output with what stands before it; reshape it"
            )

    def rewrite(self) -> None:
        first: dict[object, ir.Node] = {}
        for node in self.stepping:
            if first.setdefault(_weights(node), node) is not node:
                node.meta[NO_BUILDER] = (
                    "in pieces, a layer keeps the state of one sequence, and it is called on two"
                )
            node.attributes[KEEPS_STATE] = ir.AttrInt64(KEEPS_STATE, 1)
        kept: Kept = {}
        for node, frames in self.padding:
            if NO_BUILDER not in node.meta:
                (_pad_by_past if node.op_type == "Pad" else _slide_over_past)(node, frames, kept)


def _axis(known: Known) -> int | None:
    return known.axis if isinstance(known, Frames) else None


def _weights(node: ir.Node) -> tuple[object, ...]:
    """What a recurrent layer is made of; the same of two nodes that are one layer."""
    tensors = [constant(value) or value for value in node.inputs[1:4]]
    return node.op_type, *(tensor.recipe if isinstance(tensor, Weight) else tensor for tensor in tensors)


Kept = dict[tuple[ir.Value, int, int, float], ir.Value]  # what stands in front of which values already


def _with_past(node: ir.Node, axis: int, frames: int, fill: float, kept: Kept) -> ir.Value:
    """The first input of `node` with the last frames before the piece in front of it."""
    value = input_of(node, 0)
    key = (value, axis, frames, fill)
    if key not in kept:
        kept[key] = new = Emitter(node)("Past", value, domain=DOMAIN, axis=axis, frames=frames, fill=fill)
        dims = [dim + frames if place == axis else dim for place, dim in enumerate(shape_of(value))]
        new.shape, new.dtype = ir.Shape(dims), value.dtype
    return kept[key]


def _pad_by_past(node: ir.Node, frames: Frames, kept: Kept) -> None:
    axis, count = frames.axis, rank(input_of(node, 0))
    begin, end = pads_along(node, axis, count)
    if not begin:
        return
    filler = node.inputs[2] if len(node.inputs) > 2 else None
    tensor = None if filler is None else ir.convenience.get_const_tensor(filler)
    new = _with_past(node, axis, begin, 0.0 if tensor is None else float(tensor.numpy().item()), kept)
    amounts = [pads_along(node, place, count) for place in range(count)]
    amounts[axis] = (0, end)
    if not any(map(any, amounts)):
        replace(node.outputs[0], new)
        return
    node.replace_input_with(0, new)
    node.replace_input_with(
        1, Emitter(node).constant([begin for begin, _ in amounts] + [end for _, end in amounts])
    )
    if len(node.inputs) > 3:
        node.replace_input_with(3, None)


def _slide_over_past(node: ir.Node, frames: Frames, kept: Kept) -> None:
    axis = frames.axis
    if axis < 2:
        return
    windows = windows_of(node)
    window = windows[axis - 2]
    begin, end = window.ends
    if not begin:
        return
    fill = -math.inf if node.op_type == "MaxPool" else 0.0
    pads = [window.pads or (0, 0) for window in windows]
    least = frames.more + begin - window.span
    # Pieces of whole steps may leave no window at the end
    needed = least // window.stride < (least + end) // window.stride
    pads[axis - 2] = (0, end if needed else 0)
    node.replace_input_with(0, _with_past(node, axis, begin, fill, kept))
    node.attributes["pads"] = ir.AttrInt64s("pads", [begin for begin, _ in pads] + [end for _, end in pads])
    node.attributes.pop("auto_pad", None)
