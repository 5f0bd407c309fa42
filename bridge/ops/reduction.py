"""Operators that take axes together, or run along one: Reduce*, ArgMax, TopK, cumulative sums."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from keras import layers, ops

from bridge.keras_compat import ranks_by_place
from bridge.ops.contract import Dims, Ints, Site, Tensor
from bridge.ops.dims import positions, size
from bridge.ops.halves import single
from bridge.ops.layouts import ANY
from bridge.ops.registry import op


def _same(x: Tensor) -> Tensor:
    return x


def _square(x: Tensor) -> Tensor:
    return ops.square(single(x))


REDUCTIONS: dict[str, tuple[Callable[..., Tensor], ...]] = {
    # before, along the axes, after
    "ReduceSum": (_same, ops.sum, _same),
    "ReduceMean": (_same, ops.mean, _same),
    "ReduceMax": (_same, ops.max, _same),
    "ReduceMin": (_same, ops.min, _same),
    "ReduceProd": (_same, ops.prod, _same),
    "ReduceL1": (ops.abs, ops.sum, _same),
    "ReduceL2": (_square, ops.sum, ops.sqrt),
    "ReduceSumSquare": (ops.square, ops.sum, _same),
    "ReduceLogSum": (_same, ops.sum, ops.log),
    "ReduceLogSumExp": (_same, ops.logsumexp, _same),
}

AVERAGE = layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D
MAX = layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D
POOLS = {"ReduceMean": AVERAGE, "ReduceMax": MAX}

LOGICAL = {"ReduceMax": ops.any, "ReduceMin": ops.all}

LOWEST, HIGHEST = -np.inf, np.inf
OF_NOTHING = {"ReduceMax": LOWEST, "ReduceMin": HIGHEST, "ReduceMean": 0, "ReduceLogSumExp": LOWEST}


def _reduction(name: str) -> Callable[..., Tensor]:
    before, reduce, after = REDUCTIONS[name]

    def build(site: Site, x, axes: Ints = None, *, keepdims=1, noop_with_empty_axes=0):
        axes = axes if site.given(1) else []
        if not axes and noop_with_empty_axes:
            return ops.cast(after(before(x)), site.dtype)
        if not axes:
            axes = range(len(x.shape))
        axes = tuple(sorted(axis % len(x.shape) for axis in axes))
        if site.dtype == "bool":
            return LOGICAL[name](x, axis=axes, keepdims=bool(keepdims))
        if name in OF_NOTHING and 0 in site.shape():
            return ops.sum(x, axis=axes, keepdims=bool(keepdims)) + _within(OF_NOTHING[name], site.dtype)
        if name == "ReduceLogSumExp" and "float" not in site.dtype:
            return ops.cast(_integer_logsumexp(x, axes, bool(keepdims)), site.dtype)
        rank = len(x.shape)
        if name in POOLS and 3 <= rank <= 5 and axes == tuple(range(1, rank - 1)) and "float" in site.dtype:
            return site.layer(POOLS[name][rank - 3], keepdims=bool(keepdims))(x)
        return ops.cast(after(reduce(before(x), axis=axes, keepdims=bool(keepdims))), site.dtype)

    return build


def _within(number: float, dtype: str) -> np.ndarray:
    """`number`, or the end of the type where that has no infinities."""
    if "int" in dtype and number:
        number = np.iinfo(dtype).min if number < 0 else np.iinfo(dtype).max
    return np.array(number, dtype)


def _integer_logsumexp(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """onnxruntime counts in integers: what is below the largest adds nothing."""
    largest = ops.max(x, axis=axes, keepdims=True)
    count = ops.sum(ops.cast(ops.equal(x, largest), "float32"), axis=axes, keepdims=keepdims)
    largest = ops.max(x, axis=axes, keepdims=keepdims)
    return ops.add(ops.cast(largest, "float32"), ops.log(count))


for _name in REDUCTIONS:
    op(_name, layout=ANY, axes="axes", makes=POOLS.get(_name, ()))(_reduction(_name))


# --- where the extreme is -------------------------------------------------------------------------------------

EXTREMES = {"ArgMax": (ops.max, -np.inf), "ArgMin": (ops.min, np.inf)}


def _where(site: Site, name: str, x: Tensor, axis: int, last: bool = False, undefined: int = 0) -> Tensor:
    """The index of the first (or last) extreme, its axis kept, as onnxruntime finds it: a zero is a zero whatever its
    sign; NaN is passed over, and where it comes first the index is `undefined`."""
    if 0 in site.shape():  # of nothing Keras has no extreme
        return ops.sum(ops.zeros_like(x, dtype="int32"), axis=axis, keepdims=True)
    reduce, nothing = EXTREMES[name]
    floats = "float" in str(x.dtype)
    numbers = ops.where(ops.isnan(x), ops.cast(nothing, x.dtype), x) if floats else x
    found = ops.cast(ops.equal(x, reduce(numbers, axis=axis, keepdims=True)), "int32")
    index = ops.argmax(ops.flip(found, axis=axis) if last else found, axis=axis, keepdims=True)
    index = ops.cast(index, "int32")
    index = size(site, site.shape()[axis]) - 1 - index if last else index
    if not floats:
        return index
    start = ops.take(x, np.zeros(1, "int32"), axis=axis)
    return ops.where(ops.isnan(start), ops.full_like(index, undefined), index)


def _index(name: str) -> Callable[..., Tensor]:
    def build(site: Site, x, *, axis=0, keepdims=1, select_last_index=0):
        index = _where(site, name, x, axis, bool(select_last_index))
        return ops.cast(index if keepdims else ops.squeeze(index, axis=axis), site.dtype)

    return build


for _name in EXTREMES:
    op(_name, layout=ANY, axes="axis")(_index(_name))


@op("Hardmax", layout=ANY, axes="axis")
def hardmax(site: Site, x, *, axis=-1):
    """One at the first maximum, zero elsewhere; nothing of nothing."""
    if 0 in site.shape():
        return x
    place = [-1 if k == axis % len(x.shape) else 1 for k in range(len(x.shape))]
    number = ops.reshape(positions(site, site.shape()[axis]), place)
    return ops.cast(ops.equal(number, _where(site, "ArgMax", x, axis, undefined=-1)), site.dtype)


@op("TopK", layout=ANY, axes="axis")
def top_k(site: Site, x, k: Dims, *, axis=-1, largest=1, sorted=1):
    """Keras takes a known number of the largest along the last axis; as many as an axis is long are sorted. Of equal
    ones the first comes first."""
    count = k[0]
    mirror = ops.negative if "float" in site.dtype else ops.bitwise_not
    x = ops.swapaxes(x, axis, -1)
    if isinstance(count, int) and ranks_by_place():
        indices = ops.top_k(x if largest else mirror(x), count, sorted=bool(sorted))[1]
    else:
        indices = ops.argsort(mirror(x) if largest else x)
        if count != site.shape()[axis]:
            kept = np.arange(count) if isinstance(count, int) else positions(site, count)
            indices = ops.take(indices, kept, axis=-1)
    values = ops.take_along_axis(x, indices, axis=-1)
    return ops.swapaxes(values, axis, -1), ops.cast(ops.swapaxes(indices, axis, -1), "int64")


def _cumulative(function: Callable[..., Tensor], start: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def build(site: Site, x, axis: Ints, *, exclusive=0, reverse=0):
        axis = int(np.ravel(axis)[0]) % len(x.shape)
        x = ops.flip(x, axis=axis) if reverse else x
        if exclusive:
            before = (slice(None),) * axis
            x = ops.concatenate([start(x[(*before, slice(0, 1))]), x[(*before, slice(0, -1))]], axis=axis)
        y = ops.cast(function(x, axis=axis), site.dtype)
        return ops.flip(y, axis=axis) if reverse else y

    return build


op("CumSum", layout=ANY, axes="axis")(_cumulative(ops.cumsum, ops.zeros_like))
op("CumProd", layout=ANY, axes="axis")(_cumulative(ops.cumprod, ops.ones_like))
