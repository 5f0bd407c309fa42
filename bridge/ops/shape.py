"""Operators that give elements another shape, repeat them, or join tensors."""

from __future__ import annotations

import functools
import string

import numpy as np
from keras import layers, ops

from bridge.graph.rewriting import input_of
from bridge.graph.shapes import shape_of
from bridge.ops import dims, products
from bridge.ops.contract import Dims, Ints, Refused, Site, Step, Tensor
from bridge.ops.layouts import ANY, CHANNELS_LAST, RESHAPES
from bridge.ops.registry import op


@op("Reshape", layout=RESHAPES, makes=dims.RESHAPING)
def reshape(site: Site, x, shape: Dims, *, allowzero=0):
    """The sizes are those that shape inference found, in which no 0 and no -1 is left."""
    return dims.reshape(site, x, site.shape(), site.out_shape())


@op("Flatten", layout=RESHAPES, makes=dims.RESHAPING)
def flatten(site: Site, x, *, axis=1):
    return dims.reshape(site, x, site.shape(), site.out_shape())


@op("Squeeze", layout=ANY, axes="axes")
def squeeze(site: Site, x, axes: Ints = None):
    """Without axes, an axis of unknown size stays: a Keras model has as many axes whatever their sizes, and the proof
    says where its source has not. One that is named has to be 1: another size is an error of the backend."""
    if not site.given(1):
        axes = [axis for axis, dim in enumerate(site.shape()) if dim == 1]
    numbers = {int(axis) % len(x.shape) for axis in np.ravel(axes)}
    free = {axis for axis in numbers if not isinstance(site.shape()[axis], int)}
    for axis in free:
        x = dims.require_size(x, axis, 1, 1)
    x = x[tuple(0 if axis in free else slice(None) for axis in range(len(x.shape)))] if free else x
    known = tuple(axis - sum(other < axis for other in free) for axis in sorted(numbers - free))
    return ops.squeeze(x, axis=known) if known else x


@op("Unsqueeze", layout=ANY, axes="axes")
def unsqueeze(site: Site, x, axes: Ints):
    rank = len(site.out_shape())
    return ops.expand_dims(x, axis=sorted(axis % rank for axis in np.ravel(axes).tolist()))


@op("Expand")
def expand(site: Site, x, shape: Dims):
    return dims.broadcast(site, x, site.shape(), site.out_shape())


@op("Tile", makes=dims.RESHAPING)
def tile(site: Site, x, repeats: Dims):
    if all(isinstance(count, int) for count in repeats):
        return ops.tile(x, repeats)
    have = site.shape()
    apart = [size for dim in have for size in (1, dim)]
    wide = [size for pair in zip(repeats, have, strict=True) for size in pair]
    x = dims.broadcast(site, dims.reshape(site, x, have, apart), apart, wide)
    return dims.reshape(site, x, wide, site.out_shape())


@op("Concat", layout=ANY, axes="axis", makes=(layers.Concatenate,))
def concat(site: Site, *xs, axis):
    if len(xs) == 1:
        return xs[0]
    tensors = all(operand.is_tensor for operand in site.step.operands)
    if tensors and len(xs[0].shape) > 1 and "float" in site.dtype:  # the layer takes all for floats
        return site.layer(layers.Concatenate, axis=axis)(list(xs))
    return ops.concatenate(xs, axis=axis)


# --- sizes as tensors ---------------------------------------------------------------------------------------


@op("Shape", layout=ANY)
def shape_(site: Site, x, *, start=0, end=None):
    sizes = list(shape_of(input_of(site.node, 0)))[start:end]
    if all(isinstance(size, int) for size in sizes):
        return np.array(sizes, "int64")
    numbers = [dims.size(site, size, "int64") for size in sizes]
    return ops.concatenate([np.array([n]) if isinstance(n, int) else ops.reshape(n, (1,)) for n in numbers])


@op("Size", layout=ANY)
def size(site: Site, x):
    sizes = list(shape_of(input_of(site.node, 0)))
    known = np.prod([size for size in sizes if isinstance(size, int)], dtype="int64")
    unknown = [dims.size(site, size, "int64") for size in sizes if not isinstance(size, int)]
    return functools.reduce(ops.multiply, unknown, known)


@op("ConstantOfShape")
def constant_of_shape(site: Site, shape: Dims, *, value=None):
    number = site.array(np.zeros((), "float32") if value is None else value.numpy().reshape(()))
    return dims.broadcast(site, number, [], site.out_shape())


def _check_range(step: Step) -> str | None:
    delta = step.argument("delta")
    return None if delta and isinstance(delta[0], int) else "its step is not a known number"


@op("Range", check=_check_range)
def range_(site: Site, start: Dims, limit: Dims, delta: Dims):
    (first,), (last,), (step,) = start, limit, delta
    steps = dims.positions(site, -((first - last) // step))
    return dims.cast(dims.add(steps * step, dims.size(site, first)), site.dtype)


# --- blocks of pixels ---------------------------------------------------------------------------------------


@op("DepthToSpace", layout=CHANNELS_LAST, check=dims.unknown_channels)
def depth_to_space(site: Site, x, *, blocksize, mode="DCR"):
    """DCR has the channels innermost, as Keras does; CRD (torch's PixelShuffle) has them outermost."""
    if blocksize == 1:
        return x
    if mode == "CRD":
        x = _channels(x, blocksize * blocksize, outermost=False)
    return ops.depth_to_space(x, blocksize, data_format="channels_last")


@op("SpaceToDepth", layout=CHANNELS_LAST, check=dims.unknown_channels)
def space_to_depth(site: Site, x, *, blocksize, mode="DCR"):
    if blocksize == 1:
        return x
    x = ops.space_to_depth(x, blocksize, data_format="channels_last")
    return _channels(x, blocksize * blocksize, outermost=True) if mode == "CRD" else x


def _channels(x: Tensor, blocks: int, outermost: bool) -> Tensor:
    """The last axis, blocks by channels, with the channels moved to the other side."""
    count = x.shape[-1] // blocks
    order = np.arange(x.shape[-1]).reshape((blocks, count) if outermost else (count, blocks)).T.reshape(-1)
    return ops.take(x, order, axis=-1)


# --- sums of products -----------------------------------------------------------------------------------------


@op("Einsum")
def einsum(site: Site, *xs, equation):
    """Keras's own takes small letters, an output that is written out, and no axis of size 1 for a longer one."""
    shapes = [site.shape(index) for index in range(len(xs))]
    terms, result = _written_out(equation.replace(" ", ""), list(map(len, shapes)))
    pairs = [list(zip(term, shape, strict=True)) for term, shape in zip(terms, shapes, strict=True)]
    longer = {name for pair in pairs for name, dim in pair if dim != 1}
    ones = [tuple(k for k, (name, dim) in enumerate(pair) if dim == 1 and name in longer) for pair in pairs]
    xs = tuple(_squeezed(x, axes) if axes else x for x, axes in zip(xs, ones, strict=True))
    terms = [
        [name for k, name in enumerate(term) if k not in axes] for term, axes in zip(terms, ones, strict=True)
    ]
    used = sorted({name for term in [*terms, result] for name in term})
    small = dict(zip(used, string.ascii_lowercase, strict=False))
    if len(small) < len(used):
        raise Refused(f"{len(used)} indices, and Keras takes {len(small)}")
    *left, right = ("".join(small[name] for name in term) for term in [*terms, result])
    arrays = [(term, x) for term, x in zip(left, xs, strict=True) if term or not isinstance(x, np.ndarray)]
    made = products.einsum(f"{','.join(term for term, _ in arrays)}->{right}", *(x for _, x in arrays))
    numbers = [x for term, x in zip(left, xs, strict=True) if not term and isinstance(x, np.ndarray)]
    return functools.reduce(ops.multiply, numbers, made)  # einsum reads a number as float32 when it is loaded


def _squeezed(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return np.squeeze(x, axes) if isinstance(x, np.ndarray) else ops.squeeze(x, axes)


def _written_out(equation: str, ranks: list[int]) -> tuple[list[list[str]], list[str]]:
    """The letters of each operand and of the output, with letters for what an ellipsis stands for."""
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    letters = [term.replace("...", "") for term in terms]
    wide = max(rank - len(own) for rank, own in zip(ranks, letters, strict=True)) if "..." in left else 0
    spare = [name for name in string.ascii_letters if name not in equation][:wide]
    if not arrow:
        every = "".join(letters)
        right = "..." * bool(spare) + "".join(sorted(name for name in set(every) if every.count(name) == 1))
    result = _labelled(right, len(right.replace("...", "")) + wide, spare)
    return [_labelled(term, rank, spare) for term, rank in zip(terms, ranks, strict=True)], result


def _labelled(term: str, rank: int, spare: list[str]) -> list[str]:
    """A letter for each axis; those of an ellipsis are the last of `spare`."""
    before, dots, after = term.partition("...")
    count = rank - len(before) - len(after) if dots else 0
    return [*before, *spare[len(spare) - count :], *after]
