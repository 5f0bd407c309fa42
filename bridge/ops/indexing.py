"""Operators that pick elements by index, and that write them: Gather, Slice, Split, Pad, Scatter, OneHot."""

from __future__ import annotations

import functools
from typing import Any, cast

import numpy as np
from keras import layers, ops

from bridge.graph.shapes import FAR, Dim
from bridge.keras_compat import counts_while_running
from bridge.ops import dims
from bridge.ops.contract import Dims, Ints, Refused, Site, Step, Tensor
from bridge.ops.layouts import ANY, FIRST_INPUT
from bridge.ops.padding import ZERO_PADDING, padded
from bridge.ops.registry import op
from bridge.weights.weight import Weight

# --- reading by index ---------------------------------------------------------------------------------------


@op("Gather", layout=FIRST_INPUT, axes="axis", makes=(layers.Embedding, *dims.RESHAPING))
def gather(site: Site, data: Weight | Tensor, indices, *, axis=0):
    if isinstance(data, Weight):
        return _lookup(site, data, indices, axis)
    if isinstance(indices, np.ndarray) and not indices.ndim:
        return data[(slice(None),) * (axis % len(data.shape)) + (int(indices),)]
    return ops.take(data, indices, axis=axis)


def _lookup(site: Site, weight: Weight, indices: Tensor, axis: int) -> Tensor:
    """Rows of a parameter: an Embedding, whose vectors are the other axes flattened."""
    axis %= len(weight.dims)
    rest = [k for k in range(len(weight.dims)) if k != axis]
    table = weight.transpose(axis, *rest).reshape(weight.dims[axis], -1)
    rows = site.layer(
        layers.Embedding, input_dim=table.dims[0], output_dim=table.dims[1], weights={"embeddings": table}
    )(indices)
    count = len(rows.shape) - 1
    before, picked, after = weight.dims[:axis], site.out_shape()[axis : axis + count], weight.dims[axis + 1 :]
    flat = [*picked, table.dims[1]]
    if all(size == 1 for size in before):
        return dims.reshape(site, rows, flat, [*before, *picked, *after])
    rows = dims.reshape(site, rows, flat, [*picked, *before, *after])
    return ops.moveaxis(rows, list(range(count)), list(range(axis, axis + count)))


@op("GatherElements", layout=ANY, axes="axis")
def gather_elements(site: Site, data, indices, *, axis=0):
    """Keras wants the two of one size along the other axes, ONNX the indices no larger."""
    axis, have, want = axis % len(data.shape), site.shape(0), site.shape(1)
    for k, (size, count) in enumerate(zip(have, want, strict=True)):
        if k != axis and size != count:
            data = ops.take(data, dims.positions(site, count), axis=k)
    return ops.take_along_axis(data, _wrapped(site, indices, have[axis]), axis=axis)


def _wrapped(site: Site, indices: Tensor, dim: Dim) -> Tensor:
    """Indices with the negative ones counted from the end."""
    if isinstance(indices, np.ndarray) and (indices >= 0).all():
        return indices
    return ops.where(ops.less(indices, 0), dims.add(indices, dims.size(site, dim, _dtype(indices))), indices)


def _dtype(x: Tensor) -> str:
    return x.dtype.name if isinstance(x, np.ndarray) else x.dtype


@op("GatherND", makes=dims.RESHAPING)
def gather_nd(site: Site, data, indices, *, batch_dims=0):
    """Elements or slices by index tuples: one gather along the indexed axes laid out as one."""
    shape, places = site.shape(0), site.shape(1)
    depth = batch_dims + _depth(places)
    numbers: Tensor | int = 0
    for k, dim in enumerate(shape[:depth]):
        if k < batch_dims:
            step = ops.reshape(dims.positions(site, dim, "int64"), [-1] + [1] * (len(places) - 2 - k))
        else:
            step = dims.cast(_wrapped(site, indices[..., k - batch_dims], dim), "int64")
        numbers = dims.add(ops.multiply(numbers, dims.size(site, dim, "int64")), step)
    flat = functools.reduce(lambda total, dim: dim * total, shape[:depth], cast("Dim", 1))
    return ops.take(dims.reshape(site, data, shape, [flat, *shape[depth:]]), numbers, axis=0)


def _depth(places: tuple[Dim, ...]) -> int:
    """How many numbers make an index tuple."""
    if not isinstance(places[-1], int):
        raise Refused(f"its index tuples are of unknown size, {places[-1]}")
    return places[-1]


def _check_reversed(step: Step) -> str | None:
    time, batch = step.argument("time_axis"), step.argument("batch_axis")
    if {time, batch} != {0, 1}:
        return f"time_axis={time} and batch_axis={batch}, which have to be 0 and 1 in either order"
    rows, (count, *_) = step.shape()[batch], step.shape(1)
    fit = not isinstance(rows, int) or not isinstance(count, int) or rows == count
    return None if fit else f"{count} lengths for {rows} rows"


@op("ReverseSequence", check=_check_reversed)
def reverse_sequence(site: Site, x, lengths, *, batch_axis=1, time_axis=0):
    """Each row's first steps in the other order, as many as its length says."""
    rank = len(x.shape)
    along = [[-1 if k == axis else 1 for k in range(rank)] for axis in (time_axis, batch_axis)]
    place = ops.reshape(dims.positions(site, site.shape()[time_axis]), along[0])
    last = ops.reshape(ops.cast(lengths, "int32"), along[1])
    steps = ops.where(ops.less(place, last), ops.subtract(last - 1, place), place)
    return ops.take_along_axis(x, dims.add(steps, ops.zeros_like(x, dtype="int32")), axis=time_axis)


# --- slices -------------------------------------------------------------------------------------------------


@op("Slice", layout=ANY, axes="axes", makes=(layers.Embedding, layers.Reshape))
def slice_(
    site: Site, data: Weight | Tensor, starts: Dims, ends: Dims, axes: Ints = None, steps: Ints = None
):
    rank = len(site.shape())
    axes = [axis % rank for axis in (range(len(starts)) if axes is None else axes)]
    x, key = data, [slice(None)] * rank
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=False):
        dim = site.shape()[axis]
        first, last = _bound(start, dim), _bound(end, dim)
        if first is None or last is None:
            x = _window(site, x, axis, dim, start, end, step)
        elif step < 0 and last == FAR:
            raise Refused(
                f"a slice backwards to {end}, of which runtimes make two things; to the start is INT64_MIN"
            )
        elif step < 0:  # in the mirror, where index i is ~i
            x = ops.flip(_tensor(site, x), axis=axis)
            key[axis] = _slice(~first, ~last, -step)
        else:
            key[axis] = _slice(first, last, step)
    return x if all(part == slice(None) for part in key) else _tensor(site, x)[tuple(key)]


def _slice(start: int, end: int, step: int) -> slice:
    return slice(
        None if start in (0, -FAR) else start, end if end < FAR - 1 else None, step if step > 1 else None
    )


def _bound(bound: Any, dim: Dim) -> int | None:
    """`bound` of a slice along `dim` as a number, negative where it follows the end; None if that cannot be."""
    if not isinstance(bound, int):
        bound = dims.difference(bound, dim)
        bound = FAR if bound is not None and bound >= 0 else bound
    return None if bound is None else max(-FAR, min(bound, FAR))


def _window(site: Site, x: Weight | Tensor, axis: int, dim: Dim, start: Dim, end: Dim, step: int) -> Tensor:
    """`start:end` where a bound is the size of something else. Beyond the end of an axis of unknown size nothing is
    taken; of one that is known nothing else fits what it is for, and the backend says so."""
    if step != 1 or any(isinstance(bound, int) and bound < 0 for bound in (start, end)):
        raise Refused(f"Keras cannot say the slice {start}:{end}:{step} of an axis of size {dim}")
    end = dim if isinstance(end, int) and end >= FAR else end
    if not isinstance(x, Weight) and not isinstance(dim, int) and dims.may_exceed(end, dim):
        return ops.take(x, _inside(site, dim, start, end), axis=axis)
    steps = dims.add(dims.positions(site, end - start), dims.size(site, start))
    return _lookup(site, x, steps, axis) if isinstance(x, Weight) else ops.take(x, steps, axis=axis)


def _inside(site: Site, dim: Dim, start: Dim, end: Dim) -> Tensor:
    """The indices `start:end` of an axis of size `dim` that it has."""
    if not counts_while_running():
        raise Refused(
            f"a slice to {end} of an axis of size {dim}, which may be shorter; jax has to know how much is taken"
        )
    place = dims.positions(site, dim)
    first, last = (dims.size(site, bound) for bound in (start, end))
    inside = ops.logical_and(ops.greater_equal(place, first), ops.less(place, last))
    return dims.places(inside)


def _tensor(site: Site, x: Weight | Tensor) -> Tensor:
    return site.tensor(x) if isinstance(x, Weight) else x


@op("Split", layout=ANY, axes="axis")
def split(site: Site, x, split: Ints = None, *, axis=0, num_outputs=None):
    count = len(site.node.outputs)
    dim = site.shape()[axis]
    if count == 1:
        return x
    if split is None and not isinstance(dim, int):
        raise Refused(f"an axis of unknown size, {dim}, is split into {count} equal parts")
    ends = np.cumsum(split)[:-1] if split is not None else np.arange(1, count) * -(-dim // count)
    return ops.split(x, [int(end) for end in ends], axis=axis)


# --- padding ------------------------------------------------------------------------------------------------


@op("Pad", layout=ANY, axes="axes", makes=tuple(ZERO_PADDING.values()))
def pad(site: Site, data, pads: Dims, value=None, axes: Ints = None, *, mode="constant"):
    """Negative pads cut off."""
    rank = len(data.shape)
    axes = [axis % rank for axis in (range(rank) if axes is None else axes)]
    widths = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
    for axis in [axis for axis in axes if not all(isinstance(width, int) for width in widths[axis])]:
        if mode != "constant":
            raise Refused(
                f"pads of mode {mode!r} that hang on the size of an axis, {widths[axis]}; fix the axis"
            )
        data = _pad_by_size(site, data, axis, widths.pop(axis)[0], value)
    cut = [slice(max(-b, 0), min(e, 0) or None) for b, e in (widths.get(k, (0, 0)) for k in range(rank))]
    x = data[tuple(cut)] if any(part != slice(0, None) for part in cut) else data
    full = [tuple(max(width, 0) for width in widths.get(axis, (0, 0))) for axis in range(rank)]
    if not any(map(any, full)):
        return x
    if mode == "constant":
        return _pad_constant(site, x, full, value)
    first = next(axis for axis, widths in enumerate(full) if any(widths))
    if mode == "reflect" and rank - first <= min(3, max(rank, 3) - 1):  # torch's side of Keras has no more
        return ops.pad(x, full, mode="reflect")
    for axis, (before, after) in enumerate(full):
        if before or after:
            x = ops.take(x, _sources(site, site.out_shape()[axis], before, after, mode), axis=axis)
    return x


def _pad_constant(site: Site, x: Tensor, widths: list[tuple[int, int]], value: Tensor | int | None) -> Tensor:
    value = 0 if value is None else value
    if not isinstance(value, int | np.ndarray):
        inside = ops.pad(ops.ones_like(x, dtype="int32"), widths)
        return ops.where(ops.equal(inside, 1), ops.pad(x, widths), value)
    number = site.array(value).item()
    if not number and 3 <= len(widths) <= 5 and not any(widths[0] + widths[-1]) and "float" in site.dtype:
        return padded(site, x, widths[1:-1])
    return ops.pad(x, widths, constant_values=number)


def _pad_by_size(site: Site, x: Tensor, axis: int, before: Dim, value: Tensor) -> Tensor:
    """An axis padded by symbolic sizes: each of its places takes the element that it comes from, if it is one."""
    source = dims.positions(site, site.out_shape()[axis]) - dims.size(site, before)
    last = dims.size(site, site.shape()[axis]) - 1
    outside = ops.logical_or(ops.less(source, 0), ops.greater(source, last))
    x = ops.take(x, ops.minimum(ops.maximum(source, 0), last), axis=axis)
    outside = ops.reshape(outside, [-1] + [1] * (len(x.shape) - axis - 1))
    return ops.where(outside, np.zeros((), site.dtype) if value is None else value, x)


def _sources(site: Site, dim: Dim, before: int, after: int, mode: str) -> Tensor:
    """Where each index of an axis padded to `dim` takes its element from."""
    source = dims.positions(site, dim) - before
    inner = dims.size(site, dim) - before - after
    if mode == "wrap":
        return source % inner
    among = np if isinstance(dim, int) else ops
    if mode == "reflect":
        return inner - 1 - among.abs(inner - 1 - among.abs(source))
    return among.minimum(among.maximum(source, 0), inner - 1)


# --- writing by index ---------------------------------------------------------------------------------------

REDUCTIONS = {"none": None, "add": "add", "mul": "mul", "max": "max", "min": "min"}


@op("ScatterND", makes=dims.RESHAPING)
def scatter_nd(site: Site, data, indices, updates, *, reduction="none"):
    shape, places = site.shape(0), site.shape(1)
    depth = _depth(places)
    columns = [_wrapped(site, indices[..., k], shape[k]) for k in range(depth)]
    rows = ops.reshape(ops.stack(columns, axis=-1), (-1, depth))
    count = functools.reduce(lambda total, dim: dim * total, places[:-1], cast("Dim", 1))
    values = dims.reshape(site, updates, site.shape(2), [count, *shape[depth:]])
    return ops.scatter_update(data, rows, values, reduction=REDUCTIONS[reduction])


@op("ScatterElements", layout=ANY, axes="axis")
def scatter_elements(site: Site, data, indices, updates, *, axis=0, reduction="none"):
    rank = len(site.shape())
    columns = []
    for k, (dim, count) in enumerate(zip(site.shape(0), site.shape(1), strict=True)):
        if k == axis % rank:
            columns.append(_wrapped(site, indices, dim))
        else:
            place = dims.positions(site, count, _dtype(indices))
            place = ops.reshape(place, [-1] + [1] * (rank - 1 - k))
            columns.append(dims.add(place, ops.zeros_like(indices)))
    rows = ops.reshape(ops.stack(columns, axis=-1), (-1, rank))
    return ops.scatter_update(data, rows, ops.reshape(updates, (-1,)), reduction=REDUCTIONS[reduction])


# --- masks by index -----------------------------------------------------------------------------------------


@op("OneHot")
def one_hot(site: Site, indices, depth: Ints, values, *, axis=-1):
    """`values` are what stands off and on; negative indices count from the end, those beyond are off."""
    depth = int(np.ravel(depth)[0])
    axis %= len(site.shape()) + 1
    classes = np.arange(depth).reshape([-1] + [1] * (len(site.shape()) - axis))
    indices = ops.expand_dims(dims.cast(indices, "int64"), axis)
    hot = ops.logical_or(ops.equal(indices, classes), ops.equal(indices, classes - depth))
    off, on = values[(slice(0, 1),)], values[(slice(1, 2),)]
    return ops.where(hot, on, off)


def _diagonal(k: Ints) -> int:
    return 0 if k is None else int(np.ravel(k)[0])


def _check_diagonal(step: Step) -> str | None:
    k = _diagonal(step.argument("k"))
    far = f"its diagonal {k} lies beyond every matrix, of which each runtime makes its own"
    return far if abs(k) >= FAR else None


@op("Trilu", check=_check_diagonal)
def trilu(site: Site, x, k: Ints = None, *, upper=1):
    """TensorFlow knows no diagonal outside of the matrix."""
    k, sizes = _diagonal(k), site.shape()[-2:]
    if 0 in sizes:
        return x
    if abs(k) <= min(dim if isinstance(dim, int) else 1 for dim in sizes):
        return (ops.triu if upper else ops.tril)(x, k)
    rows, columns = (dims.positions(site, dim) for dim in sizes)
    diagonal = dims.add(ops.expand_dims(rows, 1), k)
    kept = ops.greater_equal(columns, diagonal) if upper else ops.less_equal(columns, diagonal)
    return ops.where(kept, x, ops.zeros_like(x))


@op("EyeLike", check=_check_diagonal)
def eye_like(site: Site, x, *, dtype=None, k=0):
    if 0 in site.shape():
        return ops.cast(x, site.dtype)
    rows, columns = (dims.positions(site, dim) for dim in site.shape())
    return ops.cast(ops.equal(ops.expand_dims(rows, 1) + k, columns), site.dtype)
