"""How a node of each operator that picks or puts by index is drawn."""

from __future__ import annotations

import numpy as np

from benchmarks.fuzz.draft import Draft, Illegal
from benchmarks.fuzz.operators import draws


def _indices(d: Draft, shape: tuple[int, ...], size: int, negative: bool = True) -> str:
    if size == 0:
        raise Illegal("nothing to pick")
    low = -size if negative and d.opset >= 11 and d.chance(0.4) else 0
    return d.leaf(d.pick(["int64", "int64", "int32"]), shape, (low, size - 1), "wwwccciii")


@draws("Gather")
def gather(d: Draft) -> None:
    data = d.leaf(d.dtype(d.types()), d.shape(1, 3, 1), roles="w") if d.chance(0.3) else d.tensor(rank=(1, 5))
    axis = d.axis(data)
    indices = _indices(d, d.shape(0, 3), d.values[data].shape[axis])
    d.node([data, indices], axis=axis if axis or d.chance(0.5) else None)


@draws("GatherElements")
def gather_elements(d: Draft) -> None:
    data = d.tensor(rank=(1, 4), least=1)
    axis, shape = d.axis(data), list(d.values[data].shape)
    size = shape[axis]
    shape = [d.random.randint(1, n) if d.chance(0.3) else n for n in shape]
    shape[axis] = d.random.randint(1, 5)
    d.node([data, _indices(d, tuple(shape), size)], axis=axis)


@draws("GatherND")
def gather_nd(d: Draft) -> None:
    data = d.tensor(rank=(1, 4), least=1)
    shape = d.values[data].shape
    batch = d.random.randint(0, len(shape) - 1) if d.has("batch_dims") and d.chance(0.4) else 0
    depth = d.random.randint(1, len(shape) - batch)
    sizes = shape[batch : batch + depth]
    places = (*shape[:batch], *d.shape(0 if batch else 1, 2, 1))
    indices = np.stack([d.numbers.integers(-n if d.chance(0.3) else 0, n, places) for n in sizes], -1)
    d.node([data, d.given(indices.astype("int64"))], batch_dims=batch or None)


def _distinct(d: Draft, sizes: tuple[int, ...], count: int) -> np.ndarray:
    """`count` different places in an array of these sizes, one row each."""
    flat = d.numbers.permutation(int(np.prod(sizes)))[:count]
    return np.stack(np.unravel_index(flat, sizes), -1).astype("int64")


REDUCTION = ("none", "add", "mul", "max", "min", None)


@draws("ScatterND")
def scatter_nd(d: Draft) -> None:
    data = d.tensor([t for t in d.types() if t != "bool"], rank=(1, 4), least=1)
    shape = d.values[data].shape
    depth = d.random.randint(1, len(shape))
    count = d.random.randint(1, min(4, int(np.prod(shape[:depth]))))
    rows = _distinct(d, shape[:depth], count)
    if d.chance(0.3):
        rows -= np.array(shape[:depth])
    updates = d.leaf(d.values[data].dtype.name, (count, *shape[depth:]), roles="iiw")
    d.node([data, d.given(rows), updates], reduction=d.pick(REDUCTION))


@draws("ScatterElements Scatter")
def scatter_elements(d: Draft) -> None:
    data = d.tensor([t for t in d.types() if t != "bool"], rank=(1, 4), least=1)
    shape = list(d.values[data].shape)
    axis = d.random.randrange(len(shape))
    size = shape[axis]
    shape[axis] = count = d.random.randint(1, size)
    order = np.argsort(d.numbers.random([*shape[:axis], size, *shape[axis + 1 :]]), axis=axis)
    indices = np.take(order, range(count), axis=axis)
    if d.opset >= 11 and d.chance(0.3):
        indices = np.where(d.numbers.random(indices.shape) < 0.5, indices, indices - size)
    updates = d.leaf(d.values[data].dtype.name, indices.shape, roles="iiw")
    d.node([data, d.given(indices.astype("int64")), updates], axis=axis, reduction=d.pick(REDUCTION))


@draws("TensorScatter")
def tensor_scatter(d: Draft) -> None:
    """Each row of the batch is written from a place of its own, within the cache or around its end."""
    cache = d.tensor(rank=(2, 5), least=1)
    shape, dtype = list(d.values[cache].shape), d.values[cache].dtype.name
    axis, mode = d.random.randrange(1, len(shape)), d.pick(["linear", "circular", None])
    size = shape[axis]
    shape[axis] = count = d.random.randint(1, size)
    most = size - 1 if mode == "circular" else size - count
    places = d.numbers.integers(0, most + 1, shape[0])
    update = d.leaf(dtype, shape, roles="iiw")
    first = [d.given(places, (0, most), roles="iwc")] if d.chance(0.7) else []
    d.node([cache, update, *first], axis=d.pick([axis, axis - len(shape)]), mode=mode)


@draws("OneHot")
def one_hot(d: Draft) -> None:
    depth = d.random.randint(1, 6)
    indices = d.leaf(d.pick(["int64", "int32", "float32"]), d.shape(0, 3), (-depth, depth - 1), "iiiwc")
    if d.values[indices].dtype.kind == "f":
        indices = d.given(np.trunc(d.values[indices]))
    values = d.given(d.array(d.pick(["float32", "int64", "int32"]), (2,)), roles="wci")
    d.node(
        [indices, d.given(np.array(d.pick([depth, [depth]]), "int64")), values],
        axis=d.pick([d.axis(indices, 1), None]),
    )


@draws("Slice")
def slice_(d: Draft) -> None:
    data = d.tensor(rank=(1, 5))
    axes = d.axes(data, least=1)
    starts, ends, steps = [], [], []
    for axis in axes:
        size = d.values[data].shape[axis]
        step = d.random.choices([1, 2, 3, -1, -2], [8, 2, 1, 2, 1])[0] if d.opset >= 10 else 1
        bounds = sorted(d.random.randint(0, size) for _ in range(2))
        low, high = (b - size if d.chance(0.3) and b < size else b for b in bounds)
        high = d.pick([high, high, 1 << 40, (1 << 63) - 1]) if step > 0 else high
        if step < 0:
            low, high = d.pick([high, size - 1, 1 << 40]), d.pick([low, -(1 << 40), -size - 1])
        starts.append(low), ends.append(high), steps.append(step)
    if d.has("starts"):
        d.node([data], starts=starts, ends=ends, axes=axes)
        return
    dtype = d.pick(["int64", "int64", "int32"]) if max(map(abs, starts + ends)) < 1 << 31 else "int64"
    whole = axes == list(range(len(axes))) and d.chance(0.5)
    inputs = [d.ints(starts, dtype), d.ints(ends, dtype), "" if whole else d.ints(axes, dtype)]
    d.node([data, *inputs, d.ints(steps, dtype) if set(steps) != {1} or d.chance(0.3) else ""])


@draws("Split")
def split(d: Draft) -> None:
    x = d.tensor(rank=(1, 5), least=1)
    axis = d.axis(x)
    size = d.values[x].shape[axis]
    count = d.random.randint(1, min(size, 4))
    cuts = sorted(d.random.randint(0, size) for _ in range(count - 1))
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
    equal = d.chance(0.3) and (size % count == 0 or d.has("num_outputs"))
    inputs, given = d.either("split", None if equal else sizes)
    d.node(
        [x, *inputs],
        count,
        axis=axis,
        num_outputs=count if equal else None,
        **given,
    )


@draws("Pad")
def pad(d: Draft) -> None:
    x = d.tensor(rank=(1, 5), least=1)
    shape, mode = d.values[x].shape, d.pick(["constant", "reflect", "edge", "wrap", None, None])
    axes = d.axes(x, least=1) if len(d.schema.inputs) > 3 and d.chance(0.3) else None
    sizes = shape if axes is None else [shape[axis] for axis in axes]
    most = [n - 1 if mode == "reflect" else n if mode == "wrap" else 3 for n in sizes] * 2
    pads = [0 if d.chance(0.4) else d.random.randint(0, min(n, 3)) for n in most]
    if d.chance(0.15):
        pads = [
            max(-n + 1, -1) if d.chance(0.4) and n > 2 else p
            for n, p in zip([*sizes, *sizes], pads, strict=True)
        ]
    number = round(d.random.uniform(-2, 2), 1)
    if d.has("pads"):
        d.node([x], pads=pads, mode=mode, value=d.pick([number, None]))
        return
    value = d.given(np.array(number).astype(d.values[x].dtype), (-2, 2), "wci") if d.chance(0.5) else ""
    d.node([x, d.ints(pads), value, "" if axes is None else d.ints(axes)], mode=mode)


@draws("Trilu")
def trilu(d: Draft) -> None:
    x = d.tensor(rank=(2, 5))
    k = d.ints(d.pick([0, 1, -1, 2, -3, 9, -9])) if d.chance(0.6) else ""
    d.node([x, k], upper=d.pick([0, 1, None]))


@draws("EyeLike")
def eye_like(d: Draft) -> None:
    d.node([d.tensor(rank=(2, 2))], k=d.pick([0, 1, -2, None]), dtype=d.pick([1, 7, None]))


@draws("ReverseSequence")
def reverse_sequence(d: Draft) -> None:
    x = d.tensor(rank=(2, 4), least=1)
    time = d.pick([0, 1])
    shape = d.values[x].shape
    lengths = d.leaf("int64", (shape[1 - time],), (1, shape[time]), "iwc")
    d.node([x, lengths], batch_axis=1 - time, time_axis=time)


@draws("Compress")
def compress(d: Draft) -> None:
    x = d.tensor(rank=(1, 4), least=1)
    axis = d.axis(x) if d.chance(0.7) else None
    size = d.values[x].size if axis is None else d.values[x].shape[axis]
    count = d.random.randint(1, size) if d.chance(0.2) else size
    d.node([x, d.leaf("bool", (count,), roles="wwccii")], axis=axis)


@draws("NonZero")
def non_zero(d: Draft) -> None:
    """The places of any numbers, or of a mask: there something is picked, and changed and put back."""
    if d.chance(0.4):
        d.node([d.tensor(rank=(1, 3))])
        return
    if d.opset < 12:
        raise Illegal("no GatherND")
    x = d.tensor(["float32"], rank=(1, 4), least=1)
    mask = d.leaf("bool", d.values[x].shape[: d.random.randint(1, d.values[x].ndim)], roles="iiw")
    places = _then(d, "Transpose", _then(d, "NonZero", mask), perm=[1, 0])
    picked = _then(d, "GatherND", x, places)
    if mask in d.inputs:
        _then(d, "ScatterND", x, places, _then(d, d.pick(["Neg", "Relu", "Exp", "Floor"]), picked))


def _then(d: Draft, op: str, *inputs: str, **attributes: object) -> str:
    d.op = op
    return d.node(list(inputs), **attributes)[0]


@draws("Unique")
def unique(d: Draft) -> None:
    """Of any numbers, or of a constant by which something is picked."""
    if d.chance(0.5):
        x = d.tensor(rank=(1, 3), least=1)
        axis = d.axis(x) if d.chance(0.4) else None
        d.node([x], [True, *(d.chance(0.4) for _ in range(3))], axis=axis, sorted=d.pick([0, 1, None]))
        return
    x = d.tensor(rank=(1, 4), least=1)
    axis = d.random.randrange(d.values[x].ndim)
    count = d.random.randint(1, 5)
    indices = d.leaf("int64", (count,), (0, d.values[x].shape[axis] - 1), "wc")
    outputs = d.node([indices], d.pick([1, [True, False, True]]), sorted=d.pick([1, None]))
    _then(d, "Gather", x, outputs[0], axis=axis)
