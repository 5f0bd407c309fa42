"""`dynamic_shapes` in every form that torch takes, as one: for each leaf of the inputs its free axes.

The forms: by position or by the names of forward's parameters; nested as the inputs are; of a tensor `{axis: dim}`, one
entry for each axis, or None; where a dim is a `Dim`, a name, or a formula of these ("past + time"), `Dim.AUTO`,
`Dim.DYNAMIC`, and for an axis that stays as it is None, `Dim.STATIC` or its size. Of all tensors in a tree, such as a
cache, one `{axis: dim}` will do, and arguments without tensors need no entry.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir
import torch
from torch.export import Dim
from torch.utils import _pytree as pytree

from bridge.errors import SourceError
from bridge.frontend.torch.trees import arguments, members

Axes = dict[int, object]  # of one tensor, those that are free
PLAIN = {dict, OrderedDict, defaultdict, list, tuple}  # which torch takes shapes in, as they are
DIM = "a name, a torch.export.Dim, Dim.AUTO, Dim.DYNAMIC or None, such as {0: 'batch'}"


def free_axes(
    module: torch.nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object], shapes: object
) -> list[Axes]:
    """The free axes of every leaf of the inputs, in their order; none of what is no tensor. Raises `SourceError` where
    `shapes` do not fit the inputs."""
    given = arguments(module, args, kwargs)
    if hasattr(shapes, "dynamic_shapes"):  # torch.export.ShapesCollection and AdditionalInputs
        try:
            shapes = shapes.dynamic_shapes(module, args, kwargs)
        except ValueError as error:
            raise SourceError(f"dynamic_shapes: {error}") from error
    if isinstance(shapes, Mapping):
        if shapes and all(isinstance(key, int) for key in shapes):
            raise SourceError(
                f"dynamic_shapes={shapes} names axes of no input: give a tuple with one such dict for each input, "
                f"({shapes},), or a dict by the names of the inputs ({', '.join(given)})"
            )
        inner = (shape for name, shape in shapes.items() if name not in given and isinstance(shape, Mapping))
        lifted = {name: shape for rest in inner for name, shape in rest.items() if name in given}
        shapes = {**{name: shape for name, shape in shapes.items() if name in given or not lifted}, **lifted}
    shapes = (
        _with_switches(given, shapes) if shapes or not isinstance(shapes, Mapping | tuple | list) else None
    )
    found = list(_spread(given, shapes, "dynamic_shapes"))
    _require_formulas(pytree.tree_leaves(given), found)
    return found


def _require_formulas(leaves: Sequence[object], axes: Sequence[Axes]) -> None:
    """Raise `SourceError` where a size is not what its formula says, as "past + time" of these two."""
    dims = [
        (dim, int(leaf.shape[axis]))
        for leaf, found in zip(leaves, axes, strict=True)
        for axis, dim in found.items()
        if isinstance(leaf, torch.Tensor) and isinstance(dim, str)
    ]
    sizes = {dim: size for dim, size in dims if dim.isidentifier()}
    for dim, size in dims:
        try:
            meant = size if dim.isidentifier() else ir.SymbolicDim(dim).evaluate(sizes)
        except ValueError as error:
            raise SourceError(
                f"dynamic_shapes: {dim!r} is neither a name nor a formula of names: {error}"
            ) from error
        if isinstance(meant, int) and meant != size:
            raise SourceError(f"dynamic_shapes: {dim!r} is {meant} in the example, and the axis {size} long")


def _with_switches(given: dict[str, object], shapes: object) -> object:
    """`shapes` with None for the arguments in which there is no tensor, where it passes over them."""
    held = [name for name, part in given.items() if any(map(torch.is_tensor, pytree.tree_leaves(part)))]
    if isinstance(shapes, list | tuple) and len(shapes) == len(held) < len(given):
        shapes = dict(zip(held, shapes, strict=True))
    if not isinstance(shapes, Mapping):
        return shapes
    return {**dict.fromkeys(name for name in given if name not in held), **shapes}


def _spread(tree: object, shapes: object, where: str) -> Iterator[Axes]:
    if pytree.tree_is_leaf(tree):
        yield _axes(tree, shapes, where)
        return
    if isinstance(shapes, Mapping) and shapes and all(isinstance(axis, int) for axis in shapes):
        leaves = pytree.tree_leaves(tree)  # of every tensor in a cache, for instance, the same
        yield from (_axes(leaf, shapes if isinstance(leaf, torch.Tensor) else None, where) for leaf in leaves)
        return
    named = list(members(tree))
    keys = [str(key) for key, _ in named]
    if dataclasses.is_dataclass(shapes):
        shapes = {field.name: getattr(shapes, field.name) for field in dataclasses.fields(shapes)}
    if isinstance(shapes, Mapping):
        by_key = {str(key): shape for key, shape in shapes.items() if shape is not None or str(key) in keys}
        if set(by_key) == set(keys):
            shapes = [by_key[key] for key in keys]
    if shapes is None:
        shapes = [None] * len(named)
    if not isinstance(shapes, list | tuple) or len(shapes) != len(named):
        raise SourceError(
            f"{where} is {shapes!r}, and there are the inputs {', '.join(keys)}: give one entry for each, None "
            f"for those without free axes"
        )
    for (key, part), shape in zip(named, shapes, strict=True):
        yield from _spread(part, shape, f"{where}[{key!r}]")


def _axes(leaf: object, shapes: object, where: str) -> Axes:
    if shapes is None:
        return {}
    if not isinstance(leaf, torch.Tensor):
        raise SourceError(
            f"{where} is {shapes!r}, and the input a {type(leaf).__name__}, which stays as it is: None"
        )
    if isinstance(shapes, list | tuple):
        if len(shapes) != leaf.ndim:
            raise SourceError(f"{where} has {len(shapes)} entries, and the input {leaf.ndim} axes")
        shapes = dict(enumerate(shapes))
    if not isinstance(shapes, Mapping):
        raise SourceError(f"{where} is {shapes!r}: give {{axis: dim}}, where a dim is {DIM}")
    found = {}
    for axis, dim in shapes.items():
        if not isinstance(axis, int) or not -leaf.ndim <= axis < leaf.ndim:
            raise SourceError(f"{where} names axis {axis!r}, and the input has the axes 0 to {leaf.ndim - 1}")
        if _is_free(dim, leaf.shape[axis], f"{where}[{axis}]"):
            found[axis % leaf.ndim] = dim
    return found


def _is_free(dim: object, size: int, where: str) -> bool:
    if dim is None or dim == Dim.STATIC:
        return False
    if isinstance(dim, int) and not isinstance(dim, bool):
        if dim != size:
            raise SourceError(f"{where} is {dim}, and the axis is {size} long in the example")
        return False
    if not isinstance(dim, Dim | type(Dim.AUTO)) and not (isinstance(dim, str) and dim):
        raise SourceError(f"{where} is {dim!r}: a dim is {DIM}")
    return True


def as_torch_takes_them(
    module: torch.nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object], axes: Sequence[Axes]
) -> dict[str, object]:
    """The free axes of every leaf in torch's form: by the names of forward's parameters, nested as the inputs are."""
    leaves = iter(axes)
    given = arguments(module, args, kwargs)
    return {name: _shaped(part, leaves) for name, part in given.items()}


def _shaped(tree: object, leaves: Iterator[Axes]) -> object:
    if pytree.tree_is_leaf(tree):
        found = next(leaves)
        # torch.onnx takes a tuple of None for the axes of one tensor
        return found if isinstance(tree, torch.Tensor) else None
    parts = [_shaped(part, leaves) for _, part in members(tree)]
    if isinstance(tree, Mapping) and type(tree) in PLAIN:
        return dict(zip(tree, parts, strict=True))
    if hasattr(tree, "_fields"):
        return type(tree)(*parts)
    return tuple(parts) if type(tree) is tuple else parts
