"""Detection's last step: of each class of each image, again and again the best box that is left, and out those that it
covers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.frontend.onnx.lowered import Writer, known, lowers

INT64, BOOL, INT32 = ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.INT32
MOST = 1 << 16  # boxes for which places are kept, however many there are


@lowers("NonMaxSuppression")
def non_max_suppression(write: Writer, boxes, scores, most=None, iou=None, least=None, *, center_point_box=0):
    if scores.shape is None or scores.dtype is None:
        write.refuse("how many axes its scores have is not known; give them a shape")
    if most is None:
        write.refuse("it is not told how many boxes to take, which means none")
    iou = write.number(0, scores) if iou is None else write("Reshape", iou, write.constant([], np.int64))
    sizes = write("Shape", scores)
    sides = [write("Expand", side, sizes) for side in _sides(write, boxes, center_point_box)]
    least = write("Reshape", least, write.constant([])) if least is not None else None
    left = write("GreaterOrEqual", scores, scores) if least is None else write("Greater", scores, least)
    limit = _limit(write, most, sizes)
    places = write("Range", write.constant(0), limit, write.constant(1))
    numbers = write("Range", write.constant(0), write("Gather", sizes, write.constant(2)), write.constant(1))
    room = write("Concat", write("Slice", sizes, write.constant([0]), write.constant([2])),
                 write("Reshape", limit, write.constant([1])), axis=0)  # fmt: skip
    picks = write("Expand", write.constant(-1), room)
    body = _body(scores, left, picks, (*sides, iou, places, numbers))
    _, picks = write("Loop", limit, _any(write, left, None), left, picks, outputs=2, body=body)
    taken = write("GreaterOrEqual", picks, write.constant(0))
    rows = write("Transpose", write("NonZero", taken), perm=[1, 0])
    box = write("Unsqueeze", write("GatherND", picks, rows), write.constant([1]))
    ahead = write("Slice", rows, write.constant([0]), write.constant([2]), write.constant([1]))
    return write("Concat", ahead, box, axis=1)


def _limit(write: Writer, most: ir.Value, sizes: ir.Value) -> ir.Value:
    """How many boxes of a class are taken at most."""
    number = known(most)
    if number is not None and number.size == 1 and number.item() <= MOST:
        return write.constant(max(int(number.item()), 0))
    return write("Min", write("Reshape", most, write.constant([])), write("Gather", sizes, write.constant(2)))


def _sides(write: Writer, boxes: ir.Value, center: int) -> list[ir.Value]:
    """Of each box of an image its least and largest of both axes, and its area: (batch, 1, boxes)."""
    parts = write("Split", boxes, axis=-1, num_outputs=4, outputs=4)
    a, b, c, d = (write("Transpose", part, perm=[0, 2, 1]) for part in parts)
    if center:
        width, height = (write("Mul", size, write.number(0.5, boxes)) for size in (c, d))
        low = [write("Sub", middle, half) for middle, half in ((a, width), (b, height))]
        high = [write("Add", middle, half) for middle, half in ((a, width), (b, height))]
    else:
        low, high = ([write(op, a, c), write(op, b, d)] for op in ("Min", "Max"))
    area = write("Mul", *(write("Sub", end, start) for start, end in zip(low, high, strict=True)))
    return [*low, *high, area]


def _any(write: Any, left: ir.Value, axes: ir.Value | None) -> ir.Value:
    keep = 0 if axes is None else 1
    return write("Cast", write("ReduceMax", write("Cast", left, to=INT32), axes, keepdims=keep), to=BOOL)


class Inside:
    """Writes the nodes of a body."""

    def __init__(self) -> None:
        self.tape = ir.tape.Tape()

    def __call__(self, op: str, *inputs: ir.Value | None, **attributes: object) -> ir.Value:
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        given: dict[str, Any] = {
            k: v.value if isinstance(v, ir.DataType) else v for k, v in attributes.items()
        }
        return self.tape.op(op, list(inputs), given)

    def constant(self, number: Any) -> ir.Value:
        return self("Constant", value=ir.tensor(np.asarray(number, np.int64)))


def _body(scores: ir.Value, left: ir.Value, picks: ir.Value, around: Sequence[ir.Value]) -> ir.Graph:
    """One box more of each class: what is left, and the places of those that were picked."""
    *sides, iou, places, numbers = around
    write = Inside()
    count, on = _input("count", INT64, []), _input("goes_on", BOOL, [])
    before = _input("left", BOOL, scores.shape), _input("picks", INT64, picks.shape)
    last = write.constant([2])
    there = _any(write, before[0], last)
    lowest = write("CastLike", write("Constant", value=ir.tensor(np.float32(-np.inf))), scores)
    best = write("ArgMax", write("Where", before[0], scores, lowest), axis=2, keepdims=1)
    here = write("And", there, write("Equal", places, count))
    picked = write("Where", here, best, before[1])
    own = [write("GatherElements", side, best, axis=2) for side in sides]
    shared = [
        write("Relu", write("Sub", write("Min", sides[2 + k], own[2 + k]), write("Max", sides[k], own[k])))
        for k in range(2)
    ]
    common = write("Mul", *shared)
    whole = write("Sub", write("Add", sides[4], own[4]), common)
    covered = write("Greater", write("Div", common, whole), iou)
    out = write("Or", covered, write("Equal", numbers, best))
    still = write("And", before[0], write("Not", out))
    outputs = [_any(write, still, None), still, picked]
    for name, value in zip(("more", "still", "picked"), outputs, strict=True):
        value.name = name
    return ir.Graph([count, on, *before], outputs, nodes=write.tape.nodes, name="best_box")


def _input(name: str, dtype: ir.DataType, shape: Any) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape([] if shape is None else shape))
