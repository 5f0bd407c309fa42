"""Names for the free axes that nobody named: torch calls them `s77`, people `batch`, `time`, `height`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import onnx_ir as ir

from bridge.frontend.torch.shapes import Axes
from bridge.graph.shapes import rank

TORCH = re.compile(r"\bs\d+\b")  # a size, as torch calls it
AXES = {  # by the rank of the input that has it; axis 0 is the batch
    2: {1: "time"},
    3: {1: "time", 2: "length"},
    4: {1: "channels", 2: "height", 3: "width"},
    5: {1: "channels", 2: "depth", 3: "height", 4: "width"},
}


def name_axes(model: ir.Model, time_major: bool = False, asked: Sequence[Axes] = ()) -> None:
    """Rename the sizes of the inputs of `model`, and wherever else they are; equal ones stay equal. `time_major` says
    that of three axes the second is the batch, `asked` of each input what its user calls the free ones."""
    dims = [
        (dim, called(axes.get(axis)) or _axis(rank(value), axis, time_major))
        for value, axes in zip(model.graph.inputs, itertools.chain(asked, itertools.repeat({})), strict=False)
        for axis, dim in enumerate(value.shape or ())
        if isinstance(dim, ir.SymbolicDim)
    ]
    taken = {name for dim, _ in dims for name in dim.free_symbols()}
    names: dict[str, str] = {}
    for dim, name in dims:
        for old in sorted(dim.free_symbols()):
            if TORCH.fullmatch(old) and old not in names:
                names[old] = _free(name, taken)
                taken.add(names[old])
    for graph in model.graphs():
        for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
            if value.shape is not None:
                value.shape = ir.Shape([_renamed(dim, names) for dim in value.shape])


def called(dim: object) -> str:
    """What the user calls a free axis, where that is a plain name."""
    name = dim if isinstance(dim, str) else getattr(dim, "__name__", "")
    return name if name.isidentifier() else ""


def name_inputs(model: ir.Model, names: list[str]) -> None:
    """Call the inputs of `model` by `names`, where nothing else is called so."""
    inputs = model.graph.inputs
    if len(names) != len(inputs) or len(set(names)) != len(names):  # as where torch drops an input
        return
    values = [value for node in model.graph for value in node.outputs]
    taken = {*(value.name for value in values), *model.graph.initializers}
    for value in inputs:
        value.name = None
    for value, name in zip(inputs, names, strict=True):
        value.name = _free(name, taken)


def _axis(rank: int, axis: int, time_major: bool) -> str:
    if time_major and rank == 3 and axis < 2:
        return ("time", "batch")[axis]
    return "batch" if axis == 0 else AXES.get(rank, {}).get(axis, f"axis_{axis}")


def _free(name: str, taken: set[str]) -> str:
    numbered = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(free for free in numbered if free not in taken)


def _renamed(dim: int | ir.SymbolicDim, names: dict[str, str]) -> int | str | None:
    if isinstance(dim, int):
        return dim
    return None if dim.value is None else TORCH.sub(lambda old: names.get(old[0], old[0]), dim.value)
