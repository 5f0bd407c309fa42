"""How the frames of a sequence that comes in pieces lie in a value: the algebra, without graphs.

A piece has as many frames of the input as its axis `time` says. A value made of them alone has `per` frames for each,
and more where frames before the piece stand in front (`past`, as a padding on the left puts them there) or behind its
last (`ahead`, as one on the right does). Frame i of a value may hang on frames of the piece up to i - `past` and on all
before them, on none after; what is made of the sequence so far has no such axis (`Whole.SO_FAR`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction

import onnx_ir as ir

from bridge.graph.ranges import Range
from bridge.graph.shapes import Dim
from bridge.graph.windows import Window

STATEFUL = "stateful"  # of a model's meta: what is `Wanted` of it, and then the `Pieces` that it takes
TRIED = (*range(1, 9), 50, 1000)  # sizes at which a formula of a size is held against another


class Unstreamed(Exception):
    """That a value cannot be made piece by piece; the message is the reason, and the way out."""


@dataclass(frozen=True)
class Wanted:
    """A model that keeps its state between calls: of how many sequences at once, if that was said, and the sizes of the
    free axes of its example."""

    batch_size: int | None = None
    example: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Pieces:
    """What the inputs of a model are cut along, and what its outputs are put together along: an axis of each, None of
    one that is whole; the outputs that say what the sequence came to `so_far`. A piece has a multiple of `step`."""

    time: str
    step: int
    inputs: tuple[int | None, ...]
    outputs: tuple[int | None, ...]
    so_far: tuple[bool, ...]

    @property
    def sizes(self) -> Range:
        """How long a piece may be."""
        return Range(self.step, None, self.step)


class Whole(Enum):
    """What there is to say of a value whose frames lie along no axis of its own."""

    SO_FAR = "says what the sequence came to by the end of the piece"
    EVEN = "has the same in every frame"
    SIZE = "says how many frames the piece has"
    UNKNOWN = "is made of what is refused"


@dataclass(frozen=True)
class Frames:
    """Of a value: the axis along which its frames lie; of one that is merged with others, `rows` before it and `inner`
    cells within each frame. `by` is the node that put more frames there than the piece has."""

    axis: int
    per: Fraction = Fraction(1)
    past: int = 0
    ahead: int = 0
    rows: int = 1
    inner: int = 1
    by: ir.Node | None = field(default=None, compare=False)

    @property
    def more(self) -> int:
        return self.past + self.ahead

    @property
    def merged(self) -> bool:
        return (self.rows, self.inner) != (1, 1)

    def along(self, axis: int) -> Frames:
        return replace(self, axis=axis)

    def padded(self, before: int, behind: int, by: ir.Node | None) -> Frames:
        """With more frames at its ends, or fewer; one that is as long as the piece is a sequence of its own, which may
        lag."""
        past, more = self.past + before, self.more + before + behind
        if past < 0:
            raise Unstreamed(f"it leaves out the first frames ({-past} of them), and every piece has such")
        if more < 0:
            raise Unstreamed(f"it leaves out the last frames ({-more} of them), and every piece has such")
        past = past if more else 0
        return replace(self, past=past, ahead=more - past, by=by if more else None)

    def fits(self, dim: Dim, time: str, step: int) -> bool:
        """Whether an axis of this size has these frames, whatever the length of a piece in multiples of `step`."""
        sizes = (step * count for count in TRIED)
        return all(
            size_at(dim, time, n) == self.rows * (self.per * n + self.more) * self.inner for n in sizes
        )


def size_at(dim: Dim, time: str, frames: int) -> Dim:
    return dim if isinstance(dim, int) else dim.evaluate({time: frames})


def through_window(frames: Frames, window: Window, by: ir.Node) -> Frames:
    """What a window that slides over the frames gives, its pads among them. Raises `Unstreamed` where it sees frames
    of the next piece."""
    begin, end = window.ends
    past = (frames.past + begin - window.span) // window.stride + 1
    more = (frames.more + begin + end - window.span) // window.stride + 1
    if past < 0:
        raise Unstreamed(_ahead(window, window.span - window.stride - frames.past - begin))
    if begin and frames.more:
        raise Unstreamed("what it pads is padded already; pad once, by F.pad(x, (n, 0))")
    past = past if more else 0
    return Frames(frames.axis, frames.per / window.stride, past, more - past, by=by if more else None)


def _ahead(window: Window, count: int) -> str:
    pad = f"F.pad(x, ({window.span - window.stride}, 0))"
    if not any(window.ends):
        return f"it gives {count} fewer frames than it is given; pad the past in front of them, by {pad}"
    frames = f"{count} frame{'s' * (count > 1)}"
    return f"it looks {frames} ahead; pad on the left only, by {pad} and padding=0"


def regrouped(frames: Frames, old: Sequence[Dim], new: Sequence[Dim], time: str) -> Frames:
    """The frames of a value whose axes `old` are written as `new`, their elements as they lie."""
    places = [
        place for place, dim in enumerate(new) if not isinstance(dim, int) and time in dim.free_symbols()
    ]
    if len(places) != 1:
        raise Unstreamed(MIXED)
    (place,) = places
    rows, inner = frames.rows * _product(old[: frames.axis]), frames.inner * _product(old[frames.axis + 1 :])
    first, last = _product(new[:place]), _product(new[place + 1 :])
    if not first * last or rows % first or inner % last:
        raise Unstreamed(MIXED)
    found = replace(frames, axis=place, rows=rows // first, inner=inner // last)
    if found.merged and found.more:
        raise Unstreamed("padded frames are put together with other axes; pad behind that")
    return found


MIXED = "it puts frames together with others, or takes them apart; keep one axis for time alone"


def _product(dims: Sequence[Dim]) -> int:
    sizes = [dim for dim in dims if isinstance(dim, int)]
    if len(sizes) < len(dims):
        raise Unstreamed(MIXED)
    return math.prod(sizes)


def together(given: Sequence[Frames]) -> Frames:
    """What operands give that are combined frame by frame, each with the same axis."""
    first, *others = given
    for other in others:
        same = replace(other, past=first.past, ahead=first.ahead) == first
        if not same or other.more != first.more:
            raise Unstreamed("its operands have their frames along different axes, or not as many")
    by = next((frames.by for frames in given if frames.by is not None), None)
    past = min(frames.past for frames in given)
    return replace(first, past=past, ahead=first.more - past, by=by)
