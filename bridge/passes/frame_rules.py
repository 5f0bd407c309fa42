"""What an operator does along the time of a sequence that comes in pieces, one rule for each kind of operator.

A rule gets a node and what is known of the frames (`graph.frames`) in each of its inputs, None of one that has nothing
to do with the sequence, and gives the same of each output. It raises `Unstreamed` where the node sees frames that a
piece does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import onnx_ir as ir

from bridge.graph.frames import Frames, Unstreamed, Whole, regrouped, size_at, together
from bridge.graph.rewriting import attribute, constant, input_of, integers
from bridge.graph.shapes import FAR, Dim, rank, shape_of, symbolic_contents

Known: TypeAlias = Frames | Whole | None
Rule: TypeAlias = Callable[["Place"], "Known | list[Known]"]
LONG = (6720, 13440)  # sizes of which all usual steps are a part
LAST_FRAME = "it takes single frames of the sequence; of those only the last, x[:, -1], is in every piece"
TOGETHER = "it takes all frames together, and a piece has not all of them; take x[:, -1], or do it outside of the model"


@dataclass(frozen=True)
class Place:
    """A node, and what is known of the frames in its inputs."""

    node: ir.Node
    given: Sequence[Known]
    time: str

    @property
    def frames(self) -> Frames:
        """Of the first input. Raises `Unstreamed` where it has none."""
        return self.of(0)

    def of(self, index: int) -> Frames:
        found = self.given[index]
        if isinstance(found, Frames):
            return found
        raise Unstreamed("what it does beside a sequence is not known")

    def alone(self) -> Frames:
        """Of the first input, where no other has anything to do with the sequence."""
        if any(known is not None for known in self.given[1:]):
            raise Unstreamed("more than its first input is of the sequence")
        return self.frames

    def rank(self, index: int = 0) -> int:
        return rank(input_of(self.node, index))


def elementwise(place: Place) -> Known:
    """Operands broadcast from the right."""
    out = max(rank(value) for value in place.node.inputs if value is not None)
    return _together(place, range(len(place.given)), out)


def _together(place: Place, inputs: Sequence[int], out: int) -> Known:
    known = [
        known.along(known.axis + out - place.rank(index)) if isinstance(known, Frames) else known
        for index in inputs
        if (known := place.given[index]) is not None
    ]
    frames = [item for item in known if isinstance(item, Frames)]
    return together(frames) if frames else Whole.EVEN


def require_apart(frames: Frames, axes: Sequence[int], count: int, reason: str = TOGETHER) -> None:
    """Raise `Unstreamed` where the frames lie along one of the axes, of so many."""
    if frames.axis in {axis % count for axis in axes}:
        raise Unstreamed(reason)


def across(find: Callable[[ir.Node, int], Sequence[int]]) -> Rule:
    """It works along other axes than that of time, and leaves as many."""

    def rule(place: Place) -> Known:
        frames, count = place.frames, place.rank()
        require_apart(frames, find(place.node, count), count)
        return frames

    return rule


def named_axis(node: ir.Node, count: int) -> list[int]:
    return [attribute(node, "axis", -1)]


def axes_from(node: ir.Node, count: int) -> list[int]:
    return list(range(attribute(node, "axis", -1) % count, count))


def all_but_batch(node: ir.Node, count: int) -> list[int]:
    return list(range(1, count))


def channels(node: ir.Node, count: int) -> list[int]:
    return [1]


def reduced(place: Place) -> Known:
    frames, count = place.frames, place.rank()
    if "axis" in place.node.attributes or place.node.op_type in ("ArgMax", "ArgMin"):
        axes = [attribute(place.node, "axis", 0)]
    elif len(place.node.inputs) > 1 and place.node.inputs[1] is not None:
        axes = integers(place.node.inputs[1]) or list(range(count))
    else:
        axes = list(range(count))
    require_apart(frames, axes, count)
    if attribute(place.node, "keepdims", 1):
        return frames
    return frames.along(frames.axis - sum(axis % count < frames.axis for axis in axes))


def multiplied(place: Place) -> Known:
    """Rows times columns; the axis that is summed over is none of time."""
    left, right, counts = place.given[0], place.given[1], (place.rank(0), place.rank(1))
    if isinstance(left, Frames):
        require_apart(left, [-1], counts[0])
    if counts[1] == 1:
        return place.alone()
    if counts[0] == 1:
        raise Unstreamed(TOGETHER)
    if isinstance(right, Frames):
        require_apart(right, [-2], counts[1])
        if isinstance(left, Frames) and max(left.axis - counts[0], right.axis - counts[1]) >= -2:
            raise Unstreamed("it holds every frame against every other")
    return _together(place, (0, 1), max(counts))


def looked_up(place: Place) -> Known:
    """Rows of a table, for each index; or some of what lies along an axis other than time."""
    data, indices = place.given[0], place.given[1]
    axis = attribute(place.node, "axis", 0) % place.rank(0)
    if data is None:
        frames = place.of(1)
        return frames.along(frames.axis + axis)
    if indices is not None:
        raise Unstreamed("frames choose among frames")
    frames = place.frames
    if axis == frames.axis:
        return _single(place, frames, integers(place.node.inputs[1]))
    return frames.along(frames.axis + (place.rank(1) - 1 if axis < frames.axis else 0))


def _single(place: Place, frames: Frames, wanted: list[int] | None) -> Whole:
    if wanted != [-1] or frames.ahead or frames.merged:
        raise Unstreamed(LAST_FRAME)
    return Whole.SO_FAR


def sliced(place: Place) -> Known:
    frames, count = place.alone(), place.rank()
    starts, ends, named, steps = (_numbers(place, index) for index in range(1, 5))
    axes = [axis for axis in named if isinstance(axis, int)] if named else list(range(len(starts)))
    for number, axis in enumerate(axes):
        if axis % count != frames.axis:
            continue
        step = (steps or [1] * len(axes))[number]
        if isinstance(step, int) and step < 0:
            raise Unstreamed("it turns the sequence around, and no piece has its end")
        if step != 1 or frames.merged:
            raise Unstreamed("it takes every second frame or fewer; let a convolution stride")
        start, end = starts[number], _end(place, frames, ends[number])
        if start == -1 and not end:
            return _single(place, frames, [-1])
        if not isinstance(start, int) or start < 0 or end is None:
            raise Unstreamed(LAST_FRAME)
        frames = frames.padded(-start, end, place.node)
    return frames


def _numbers(place: Place, index: int) -> list[Dim]:
    value = place.node.inputs[index] if index < len(place.node.inputs) else None
    if value is None:
        return []
    found = symbolic_contents(value)
    if found is None:
        raise Unstreamed("which frames it takes is computed")
    return found


def _end(place: Place, frames: Frames, end: Dim) -> int | None:
    """How many frames are cut off, as a negative number; None where that is not the same for every piece."""
    if isinstance(end, int):
        return 0 if end >= FAR else end if end < 0 else None
    sizes = [(n, size_at(end, place.time, n)) for n in LONG]
    cut = {size - frames.per * n - frames.more for n, size in sizes if isinstance(size, int)}
    return min(int(cut.pop()), 0) if len(cut) == 1 else None


def padded(place: Place) -> Known:
    frames, count = place.alone(), place.rank()
    amounts = integers(place.node.inputs[1])
    if amounts is None:
        raise Unstreamed("how much it pads is computed")
    begin, end = pads_along(place.node, frames.axis, count)
    if not (begin or end):
        return frames
    if attribute(place.node, "mode", "constant") != "constant":
        raise Unstreamed("it pads time with other than one number; pad the past with zeros, F.pad(x, (n, 0))")
    filler = place.node.inputs[2] if len(place.node.inputs) > 2 else None
    if filler is not None and constant(filler) is None:
        raise Unstreamed("what it pads with is computed")
    if begin and frames.more or frames.merged or min(begin, end) < 0:
        raise Unstreamed("what it pads is padded already; pad once, by F.pad(x, (n, 0))")
    return frames.padded(begin, end, place.node)


def pads_along(node: ir.Node, axis: int, count: int) -> tuple[int, int]:
    """How much a Pad puts before and behind an axis."""
    amounts = integers(node.inputs[1]) or []
    axes = integers(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else None
    places = [place % count for place in (range(count) if axes is None else axes)]
    if axis not in places:
        return 0, 0
    place = places.index(axis)
    return amounts[place], amounts[place + len(places)]


def transposed(place: Place) -> Known:
    perm = attribute(place.node, "perm", None) or range(place.rank())[::-1]
    return place.frames.along(list(perm).index(place.frames.axis))


def reshaped(place: Place) -> Known:
    old, new = shape_of(input_of(place.node, 0)), shape_of(place.node.outputs[0])
    return regrouped(place.frames, old, new, place.time)


def expanded(place: Place) -> Known:
    out = shape_of(place.node.outputs[0])
    if place.given[0] is None:
        return Whole.EVEN
    frames = place.frames
    return frames.along(frames.axis + len(out) - place.rank())


def tiled(place: Place) -> Known:
    repeats = integers(place.node.inputs[1])
    if repeats is None or repeats[place.frames.axis] != 1:
        raise Unstreamed("it repeats frames")
    return place.frames


def joined(place: Place) -> Known:
    known = elementwise(place)
    if isinstance(known, Frames):
        require_apart(known, [attribute(place.node, "axis")], place.rank(), BEFORE)
    return known


BEFORE = "it puts frames one behind the other; to put zeros in front, F.pad(x, (n, 0))"


def parted(place: Place) -> Known:
    require_apart(place.frames, [attribute(place.node, "axis", 0)], place.rank(), LAST_FRAME)
    return place.frames


def projected(place: Place) -> Known:
    """A product with weights, over the last axis."""
    require_apart(place.alone(), [-1], place.rank())
    return place.frames


def normalised(place: Place) -> Known:
    frames = place.alone()
    if attribute(place.node, "training_mode", 0):
        raise Unstreamed(TOGETHER)
    require_apart(frames, channels(place.node, place.rank()), place.rank())
    return frames


def one_hot(place: Place) -> Known:
    frames, axis = place.alone(), attribute(place.node, "axis", -1) % (place.rank() + 1)
    return frames.along(frames.axis + (axis <= frames.axis))
