"""What a free axis decides of ranks: an If between results of different ranks -> the branch that the rest of the graph
fits; a Squeeze that names no axes -> one of those that are one whatever the sizes.

torch writes `squeeze` of a free axis so: If(size == 1, Squeeze, Identity). A Keras tensor has one rank, so that one of
the branches is meant: the one with which shapes can be inferred to the end. Where both can, or neither, the If stays.
A Squeeze of a free axis that happens to be one takes it too, as long as it names none.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from bridge.errors import SourceError
from bridge.graph.rewriting import (
    Emitter,
    all_nodes,
    constant,
    input_of,
    inputs_of,
    is_onnx,
    owner_graph,
    replace,
    unused,
)
from bridge.graph.shapes import squeezed_axes, symbolic_contents, written
from bridge.passes.infer_and_fold import infer_and_fold

SETTLED = "settled"  # in a model's meta: what its branches were taken to be
SEVERAL = "several"  # likewise: the dims that a Squeeze without axes is taken to find larger than one


def settle_branches(model: ir.Model) -> None:
    """Raises `SourceError` as `infer_and_fold` does."""
    while any(_settle(model, place) for place, node in enumerate(all_nodes(model)) if _is_open(node)):
        pass
    for node in [node for node in all_nodes(model) if is_onnx(node, "Squeeze") and len(node.inputs) == 1]:
        _name_axes(model, node)


def _name_axes(model: ir.Model, node: ir.Node) -> None:
    """Give a Squeeze the axes that it takes away whatever the sizes are, if its rank is known."""
    given, axes = input_of(node, 0), squeezed_axes(node)
    free = {dim.value for dim in given.shape or () if isinstance(dim, ir.SymbolicDim)}
    if axes is None or not free:
        return
    model.meta[SEVERAL] = {*model.meta.get(SEVERAL, ()), *free}
    emit = Emitter(node)
    replace(node.outputs[0], emit("Squeeze", given, emit.constant(axes)) if axes else emit("Identity", given))
    owner_graph(node).remove(node, safe=True)


def _settle(model: ir.Model, place: int) -> bool:
    """Take the only branch that fits of the If which is node number `place`; whether there is one."""
    fitting = [holds for holds in (True, False) if _fits(model, place, holds)]
    if len(fitting) != 1:
        return False
    node = all_nodes(model)[place]
    branch = "then_branch" if fitting[0] else "else_branch"
    told = f"If {node.name or node.outputs[0].name} is its {branch}, the only one that the rest of the graph fits"
    model.meta[SETTLED] = (*model.meta.get(SETTLED, ()), f"{told}{_asked(node, fitting[0])}")
    _take(model, place, fitting[0])
    return True


def _is_open(node: ir.Node) -> bool:
    """Whether it is an If between results of different ranks, on nothing but sizes."""
    if not is_onnx(node, "If") or not _of_sizes(input_of(node, 0)):
        return False
    branches = (node.attributes[name].as_graph() for name in ("then_branch", "else_branch"))
    return _ranks_differ(*(branch.outputs for branch in branches))


def _ranks_differ(some: Sequence[ir.Value], others: Sequence[ir.Value]) -> bool:
    """Whether there is one whose rank is known to be another in its place."""
    pairs = ((one.shape, other.shape) for one, other in zip(some, others, strict=True))
    return any(one is not None and other is not None and len(one) != len(other) for one, other in pairs)


def _of_sizes(value: ir.Value) -> bool:
    """Whether `value` follows from sizes and constants, whatever the data are."""
    node = value.producer()
    if node is None:
        return constant(value) is not None
    if is_onnx(node, "Shape", "Size"):
        return True
    return is_onnx(node) and all(_of_sizes(read) for read in node.inputs if read is not None)


def _fits(model: ir.Model, place: int, holds: bool) -> bool:
    """Whether shapes can be inferred to the end, and to outputs of the same ranks, where the condition `holds`."""
    attempt = model.clone()
    attempt.meta.update(model.meta)
    try:
        _take(attempt, place, holds)
    except SourceError:
        return False
    return not _ranks_differ(model.graph.outputs, attempt.graph.outputs)


def _take(model: ir.Model, place: int, holds: bool) -> None:
    node = all_nodes(model)[place]
    graph = owner_graph(node)
    decided = ir.Value(name=unused("decided", graph.initializers), const_value=ir.tensor([holds]))
    decided.shape, decided.dtype = ir.Shape([1]), ir.DataType.BOOL
    graph.register_initializer(decided)
    node.replace_input_with(0, decided)
    infer_and_fold(model)


def _asked(node: ir.Node, holds: bool) -> str:
    """The sizes that the condition of the If `node` compares, if it does no more."""
    asks = input_of(node, 0).producer()
    if not is_onnx(asks, "Equal"):
        return ""
    sides = [symbolic_contents(value) for value in inputs_of(asks)]
    if not all(side and len(side) == 1 for side in sides):
        return ""
    left, right = (written(side[0]) for side in sides if side)
    return f": {left} is {'' if holds else 'not '}{right}"
