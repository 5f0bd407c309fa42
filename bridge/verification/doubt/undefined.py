"""Tables of operators: for which numbers (NaN, infinities) ONNX leaves open what they give, so that libraries, and the
kernels of one library, differ (`OPEN`); and which round nothing (`EXACT`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from bridge.verification.metrics import Arrays, same
from bridge.verification.reference.recurrent import STEPS, recurrent


def _endless(x: np.ndarray, to: np.dtype) -> np.ndarray:
    return ~np.isfinite(x)


def _nan(x: np.ndarray, to: np.dtype) -> np.ndarray:
    return np.isnan(x)


def _infinite(x: np.ndarray, to: np.dtype) -> np.ndarray:
    return np.isinf(x)


def _beyond(x: np.ndarray, to: np.dtype) -> np.ndarray:
    """What no integer of the type `to` is."""
    if to.kind not in "iu":
        return np.isnan(x) if to.kind == "b" else np.zeros(x.shape, bool)
    least, most = (float(bound) for bound in (np.iinfo(to).min, np.iinfo(to).max))
    return ~((np.trunc(x) >= least) & (np.trunc(x) <= most))


def _more_than_fits(
    total: Callable[[np.ndarray], np.ndarray],
) -> Callable[[np.ndarray, np.dtype], np.ndarray]:
    """All of them, where the `total` of their sizes may be larger than the type holds."""

    def numbers(x: np.ndarray, to: np.dtype) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.full(x.shape, total(np.abs(x.astype(np.float64))) > np.iinfo(to).max)

    return numbers


def _overflown(node: ir.Node, given: dict[int, np.ndarray], made: Arrays) -> list[np.ndarray]:
    """What is not finite: a library may overflow before others do, or cut its sums off at the largest number."""
    return [~np.isfinite(x) for x in made]


def _overflown_unlike_stated(node: ir.Node, given: dict[int, np.ndarray], made: Arrays) -> list[np.ndarray]:
    """What is not finite, or is not by the formulas of the operator's schema, unless both are the same."""
    beyond = _overflown(node, given, made)
    if node.domain or node.op_type not in STEPS:
        return beyond
    inputs = [given.get(place) for place in range(len(node.inputs))]
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    with np.errstate(all="ignore"):
        stated = recurrent(node.op_type, inputs, attributes)
    named = [x for x, value in zip(stated, node.outputs, strict=False) if value.name]
    return [
        np.isnan(y) | (here | ~np.isfinite(x)) & ~same(x, y)
        for here, x, y in zip(beyond, named, made, strict=True)
    ]


def _lowest(node: ir.Node, given: dict[int, np.ndarray], made: Arrays) -> list[np.ndarray]:
    """Where a pool found nothing above the lowest number."""
    return [~(x > np.finfo(x.dtype).min) if x.dtype.kind == "f" else np.zeros(x.shape, bool) for x in made]


def _anything(node: ir.Node, given: dict[int, np.ndarray], made: Arrays) -> list[np.ndarray]:
    """All of it, where a number that it was given has no end: how many there are hangs on that, too."""
    endless = any(not np.isfinite(x).all() for x in given.values() if x.dtype.kind == "f")
    return [np.full(x.shape, endless) for x in made]


def _no_integer(node: ir.Node, given: dict[int, np.ndarray], made: Arrays) -> list[np.ndarray]:
    """Where an integer to a power is none of its type."""
    with np.errstate(all="ignore"):
        return [_beyond(np.power(given[0], given[1], dtype=np.float64), made[0].dtype)]


Fill = Callable[[np.ndarray], np.ndarray]


class Open(NamedTuple):
    """Numbers of which an operator that makes numbers of a type may make anything, in which of its inputs (all of them
    where none is named): of what hangs on them, with `ranks` on all that they are ranked with along the axis; or of
    everything, where they are in one of the inputs of `reach`: a kernel may multiply them with zeros of its own. And
    what it `leaves` open of its outputs by what it was given and made: there a library's numbers are its own."""

    operators: str
    numbers: Callable[[np.ndarray, np.dtype], np.ndarray]
    why: str
    inputs: tuple[int, ...] = ()
    reach: Sequence[int] = ()
    ranks: bool = False
    leaves: Callable[[ir.Node, dict[int, np.ndarray], Arrays], list[np.ndarray]] | None = None
    kinds: str = "f"  # of the inputs' types, as numpy has them
    compares: bool = False  # so that an infinity in their place is what passes them over

    @property
    def fills(self) -> tuple[Fill, ...]:
        """What is put in their place; as many of each row, so that all nodes have as many choices."""
        return FILLS + (INFINITIES if self.compares else FILLS[: len(INFINITIES)])


WRAPS = "whether it wraps around or stops at the largest number"
KERNEL, WEIGHTS, KEYS, ALL = (1,), (1, 2), (1, 2), range(9)
OPEN = (
    Open("Clip", _infinite, "whether a bound that is left out is the largest number"),
    Open(
        "ArgMax ArgMin ReduceMax ReduceMin", _nan, "whether NaN is the largest or passed over", compares=True
    ),
    Open(
        "MaxPool",
        _endless,
        "that, and what is largest where there is nothing but padding",
        leaves=_lowest,
        compares=True,
    ),
    Open("GlobalMaxPool", _endless, "likewise", leaves=_overflown, compares=True),
    Open("Sign", _nan, "which sign NaN has"),
    Open("Hardmax TopK", _nan, "where NaN is ranked", ranks=True, compares=True),
    Open(
        "ScatterElements ScatterND",
        _nan,
        "how NaN compares, where the largest or smallest is kept",
        compares=True,
    ),
    Open("Unique", _nan, "whether NaN is equal to itself", reach=ALL, leaves=_anything),
    Open(
        "NonMaxSuppression",
        _endless,
        "which box NaN is before, and what it overlaps",
        reach=ALL,
        leaves=_anything,
    ),
    Open("ReduceProd", _more_than_fits(lambda x: np.maximum(x, 1).prod()), WRAPS, (0,), (0,), kinds="iu"),
    Open("ReduceSum ReduceMean", _more_than_fits(np.sum), WRAPS, (0,), (0,), kinds="iu"),
    Open("ReduceSumSquare", _more_than_fits(lambda x: (x * x).sum()), WRAPS, (0,), (0,), kinds="iu"),
    Open("Cast CastLike", _beyond, "which integer it becomes"),
    Open("QuantizeLinear", _nan, "likewise"),
    Open(
        "DynamicQuantizeLinear DynamicQuantizeMatMul",
        _endless,
        "likewise, of a scale that has no end",
        reach=ALL,
    ),
    Open("Pow", _beyond, "likewise, of a power that is NaN or too large", leaves=_no_integer, kinds=""),
    Open("Softmax LogSoftmax", _endless, "what the largest is, from which all are subtracted"),
    Open("ReduceLogSumExp", _endless, "that, and whether it is subtracted at all", leaves=_overflown),
    Open("Attention MultiHeadAttention", _endless, "whether it is read where it is masked", reach=KEYS),
    Open(
        "LSTM GRU RNN LSTMFrom GRUFrom RNNFrom LSTMPFrom LSTMP LSTMCell GRUCell RNNCell",
        _endless,
        "whether approximations of activations cut it off or pass it on",
        reach=WEIGHTS,
        leaves=_overflown_unlike_stated,
    ),
    Open("Einsum", _endless, "which sums and products are taken first", leaves=_overflown),
    Open(
        "Resize GridSample RoiAlign DeformConv",
        _endless,
        "whether it is read where its weight is 0",
        reach=ALL,
    ),
    Open("DFT STFT", _endless, "which of the sums it enters", reach=ALL),
    Open("LRN", _endless, "whether it stays in a sum that moves on along the channels", reach=ALL),
    Open("Col2Im", _endless, "whether it is read where it lies beside the picture", reach=ALL),
    Open("BatchNormalization", _endless, "which terms are put together first", (1, 2, 3, 4)),
    Open("ConvTranspose", _endless, "whether it is read where a kernel has no weight", reach=ALL),
    Open("Conv FusedConv", _endless, "whether a kernel meets the zeros around a picture", KERNEL, KERNEL),
)
ROWS: Mapping[str, Open] = {name: row for row in OPEN for name in row.operators.split()}
# In the place of such numbers, by their number: what changes with them hangs on them
FILLS: tuple[Fill, ...] = (
    lambda i: 100 + i % 64,
    lambda i: -100 - i % 64,
    lambda i: np.sin(i * 1.7),
)
INFINITIES: tuple[Fill, ...] = (lambda i: np.full(i.shape, np.inf), lambda i: np.full(i.shape, -np.inf))
PUT: tuple[Fill, ...] = (  # in the place of what hangs on them; infinities are passed on by some
    lambda i: np.full(i.shape, np.nan),
    *FILLS[1:],
    *INFINITIES,
)
RANKS: tuple[Callable[[np.ndarray, int], np.ndarray], ...] = (  # likewise of places among so many
    lambda place, count: (place + 1) % count,
    lambda place, count: np.zeros_like(place),
    lambda place, count: np.full_like(place, count - 1),
    lambda place, count: count - 1 - place,
    lambda place, count: place,
)
CHOICES = len(FILLS) + len(INFINITIES) + len(PUT)

EXACT = frozenset(  # operators that round nothing
    """Abs And ArgMax ArgMin BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Clip Compress Concat Constant
    ConstantOfShape DepthToSpace Dropout Equal Expand EyeLike Flatten Floor Gather GatherElements GatherND GlobalMaxPool
    Greater GreaterOrEqual Hardmax Identity IsInf IsNaN Less LessOrEqual Max MaxPool Min Neg NonZero Not OneHot Or Pad
    Range ReduceMax ReduceMin Relu Reshape ReverseSequence Round ScatterElements ScatterND Shape Sign Size Slice
    SpaceToDepth Split Squeeze Tile TopK Transpose Trilu Unique Unsqueeze Where Xor""".split()
)
UNSIGNED = frozenset(  # of them, those that may give a zero of either sign
    """Ceil Clip Floor GlobalMaxPool Max MaxPool Min ReduceMax ReduceMin Relu Round ScatterElements ScatterND
    Sign""".split()
)
SATURATING = frozenset(  # those exact to so many places after the point, however small the number is
    """Attention BiasGelu Celu Elu Erf FastGelu GRU Gelu HardSwish LSTM Mish QuickGelu RNN Selu Sigmoid Softmax Softplus
    Swish Tanh""".split()
)


def choices(
    node: ir.Node,
    given: dict[int, np.ndarray],
    made: Arrays,
    again: Callable[[dict[int, np.ndarray]], Arrays],
) -> Iterator[Arrays]:
    """What `node` may make of `given`, by the place of its inputs, beside what it `made`: the same where it hangs on no
    open number; nothing where there is none. `again` is the operator."""
    row = ROWS.get(node.op_type)
    if row is None:
        return
    found = _open_numbers(row, node, given, made[0].dtype)
    others = list(_hanging(row, node, given, found, made, again)) if found else []
    apart = row.leaves(node, given, made) if row.leaves is not None else []
    if not any(x.any() for x in apart):
        yield from others
        return
    for other, fill in zip(others or [made] * CHOICES, (*row.fills, *PUT), strict=True):
        yield [
            _filled(x, places & same(x, y), fill, clear=False) if x.shape == y.shape else x
            for x, y, places in zip(other, made, apart, strict=True)
        ]


def _hanging(
    row: Open,
    node: ir.Node,
    given: dict[int, np.ndarray],
    found: dict[int, np.ndarray],
    made: Arrays,
    again: Callable[[dict[int, np.ndarray]], Arrays],
) -> Iterator[Arrays]:
    """What hangs on the numbers `found` otherwise, and the rest as it is."""
    filled, cleared = (
        [again({k: _filled(x, found.get(k), fill, clear) for k, x in given.items()}) for fill in row.fills]
        for clear in (False, True)
    )
    reach = any(k in row.reach for k in found)
    hang = [
        _either(_differ(one), _differ(other)) | reach
        for one, other in zip(zip(*filled, strict=True), zip(*cleared, strict=True), strict=True)
    ]
    if row.ranks:  # a number alone along the axis may have no rank at all
        places = next(iter(found.values()))
        hang = [_along(node, x | places if x.shape == places.shape else x) for x in hang]
    ranked = _ranked(node, row, given)
    put = (
        [_another(x, y, ranked, *others) for x, y in zip(made, filled[0], strict=True)]
        for others in zip(PUT, RANKS, strict=True)
    )
    for other in (*filled, *put):
        yield [_put(mask, theirs, ours) for mask, theirs, ours in zip(hang, other, made, strict=True)]


def _open_numbers(
    row: Open, node: ir.Node, given: dict[int, np.ndarray], to: np.dtype
) -> dict[int, np.ndarray]:
    """Where they are, in each input of the row's kinds that has some."""
    asked = {k: x for k, x in given.items() if x.dtype.kind in row.kinds and k in (row.inputs or ALL)}
    found = {k: places for k, x in asked.items() if (places := row.numbers(x, to)).any()}
    return {k: _along(node, x) for k, x in found.items()} if row.ranks else found


def _another(
    ours: np.ndarray,
    theirs: np.ndarray,
    ranked: int,
    fill: Fill,
    rank: Callable[[np.ndarray, int], np.ndarray],
) -> np.ndarray:
    """Other numbers than `ours` throughout; of integers such as whoever reads them can take, as places among so many
    that are `ranked`."""
    if ours.dtype.kind == "f":
        return fill(np.arange(ours.size)).reshape(ours.shape).astype(ours.dtype)
    return rank(ours, ranked) if ranked else theirs


def _ranked(node: ir.Node, row: Open, given: dict[int, np.ndarray]) -> int:
    return given[0].shape[_axis(node)] if row.ranks else 0


def _along(node: ir.Node, places: np.ndarray) -> np.ndarray:
    """All along the axis of `node`, where there is one of `places`."""
    return np.broadcast_to(places.any(_axis(node), keepdims=True), places.shape)


def _axis(node: ir.Node) -> int:
    return node.attributes["axis"].as_int() if "axis" in node.attributes else -1


def _filled(array: np.ndarray, places: np.ndarray | None, fill: Fill, clear: bool) -> np.ndarray:
    """`array` with other numbers at `places`; with `clear` nothing but those, so that nothing stands out from them.
    Without places, ones for zeros and infinities: a product with zero, and the least of it and -inf, hang on the other
    number too, which may be NaN."""
    if places is None:
        plain = np.isfinite(array) & (array != 0) if array.dtype.kind == "f" else np.ones(array.shape, bool)
        return np.where(plain, array, np.ones_like(array))
    with np.errstate(invalid="ignore"):  # of an integer in the place of NaN
        numbers = fill(np.arange(array.size)).reshape(array.shape).astype(array.dtype)
    return np.where(places, numbers, np.zeros_like(array) if clear else array)


def _differ(arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    """Where the arrays are not all the same: everywhere, where they are not as long."""
    first, *others = arrays
    return np.logical_or.reduce(
        [
            ~same(first, other) if other.shape == first.shape else np.ones(first.shape, bool)
            for other in others
        ]
    )


def _either(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return one | other if one.shape == other.shape else np.ones(one.shape, bool)


def _put(mask: np.ndarray, theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    return np.where(mask, theirs, ours) if mask.shape == ours.shape == theirs.shape else theirs
