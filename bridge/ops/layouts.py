"""The words for what an operator does with the order of axes: `@op("Softmax", layout=ANY, axes="axis")`.

    ANY             nothing: it works in whatever order its input is in; `axes` names what holds axis numbers
    FIRST_INPUT     the same for its first input; the others come as the graph states them
    LAST            works on the last axis, carries the others
    MATMUL          LAST beside a matrix; of two tensors of one rank, takes each as it is stored
    CHANNELS_LAST   wants its first input as (batch, spatial…, channels) and gives that
    HEADS           wants queries, keys and values as (batch, length, heads, size) and gives them so
    ONNX            wants and gives the order that the graph states
    TRANSPOSES      moves nothing: only the names of the axes change (Transpose)
    RESHAPES        regroups axes without moving an element; `site.out_shape()` has the dims to give

A value's `perm` says how its axes are stored (`graph/axes.py`). Each word is a class that lays a step out
(`bridge.ops.contract.Layout`); a new one is a class and a line here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import onnx_ir as ir

from bridge.graph.axes import FactorOrder, Perm, channels_behind, elements_move, plain, reshaped
from bridge.graph.rewriting import input_of, inputs_of
from bridge.graph.shapes import rank, shape_of
from bridge.ops.contract import Kind, Known, Layout, Operand, Orders, Reordered, Step

Item = TypeVar("Item")


class AsStated:
    """Every operand and output in the order that the graph states."""

    text = "as stated"
    renames = False
    keeps_features = (
        False  # those of the first input are there in the output (a normalisation), not used up (a Dense)
    )

    def arrange(self, step: Step, orders: Orders) -> Step:
        return replace(step, perms=(None,) * len(step.node.outputs))

    def images(self, step: Step, given: bool) -> Sequence[ir.Value | None]:
        return ()

    def read_reordered(self, step: Step, index: int, order: FactorOrder) -> Reordered | None:
        if index or not step.operator.features or order.axis != step.feature_axis:
            return None
        known = _weights(step, step.operator.features, order)
        return _reordered(step, known, order if self.keeps_features else None)

    def give_reordered(self, step: Step, order: FactorOrder) -> Reordered | None:
        if step.operator.units:
            return _reordered(step, _weights(step, step.operator.units, order), None)
        return self.read_reordered(step, 0, order) if self.keeps_features else None


class ChannelsLast(AsStated):
    text = "channels last"

    def arrange(self, step: Step, orders: Orders) -> Step:
        first, *others = step.operands
        operands = (first.ordered(channels_behind(first.rank)), *others)
        perms = tuple(channels_behind(rank(value)) for value in step.node.outputs)
        return replace(step, operands=operands, perms=perms)

    def images(self, step: Step, given: bool) -> Sequence[ir.Value | None]:
        return step.node.inputs[:1]


class Heads(AsStated):
    """The mask, whose axes are the heads, the queries and the keys, comes as it is stated."""

    text = "heads behind length"

    def arrange(self, step: Step, orders: Orders) -> Step:
        names = [parameter.name for parameter in step.operator.inputs]
        operands = tuple(
            operand.ordered(None if "mask" in name else _behind_length(operand.value))
            for name, operand in zip(names, step.operands, strict=False)
        )
        return replace(step, operands=operands, perms=tuple(map(_behind_length, step.node.outputs)))


def _behind_length(value: ir.Value | None) -> Perm:
    return (0, 2, 1, 3) if value is not None and rank(value) == 4 else None


class Transposes(AsStated):
    text = "renames axes"
    renames = True

    def arrange(self, step: Step, orders: Orders) -> Step:
        source = step.operands[0]
        stored = orders.perm(source.value) or tuple(range(source.rank))
        moved = self._permutation(step)
        perms = (plain([moved.index(axis) for axis in stored]),)
        return replace(step, operands=(source.ordered(plain(stored)),), perms=perms)

    def read_reordered(self, step: Step, index: int, order: FactorOrder) -> Reordered | None:
        return Reordered(step, order.along(self._permutation(step).index(order.axis)))

    @staticmethod
    def _permutation(step: Step) -> list[int]:
        """Without one, the axes are turned around."""
        return list(step.argument("perm") or range(rank(input_of(step.node, 0)))[::-1])


class LastAxis(AsStated):
    text = "last"

    def arrange(self, step: Step, orders: Orders) -> Step:
        first, *others = step.operands
        perm = orders.perm(first.value)
        # a matrix that is known goes with any order; what has a batch of its own, of which the order counts, does not
        beside = any(operand.rank > (1 if operand.is_tensor else 2) for operand in others)
        perm = None if perm is None or beside or perm[-1] != len(perm) - 1 else perm
        perms = tuple(perm if rank(value) == len(perm or ()) else None for value in step.node.outputs)
        operands = (first.ordered(perm), *(operand.ordered(None) for operand in others))
        return replace(step, operands=operands, perms=perms)


class MatMul(LastAxis):
    """Of attention's two products, the scores come as stated, and what they weigh as it was stored."""

    text = "as stored, both of them"

    def arrange(self, step: Step, orders: Orders) -> Step:
        if not self._same_batch(step):
            return super().arrange(step, orders)
        a, b = (orders.perm(operand.value) for operand in step.operands)
        operands = tuple(operand.ordered(perm) for operand, perm in zip(step.operands, (a, b), strict=True))
        return replace(step, operands=operands, perms=(b if a is None else None,))

    @staticmethod
    def _same_batch(step: Step) -> bool:
        """Whether two tensors are multiplied, matrix by matrix."""
        a, b = (list(shape_of(value)) for value in inputs_of(step.node))
        return (
            all(operand.is_tensor for operand in step.operands) and len(a) == len(b) > 1 and a[:-2] == b[:-2]
        )


class AnyOrder(AsStated):
    """All inputs of full rank take the order for which fewest of them move. Where two are as good, a convolution behind
    it decides for its own order, anything else for the order that is stated."""

    text = "any"
    keeps_features = True

    def arrange(self, step: Step, orders: Orders) -> Step:
        carried = self._carried(step.operands)
        beside = [operand for operand in carried if operand.value is not None and operand.kind.has_axes]
        wide = max((operand.rank for operand in beside), default=0)
        whole = [o.value for o in beside if o.value is not None and o.is_tensor and o.rank == wide]
        perm = _cheapest(whole, orders, any(map(orders.is_image, step.node.outputs)))
        if self._grows(step, wide) or (step.operator.batch_first and perm is not None and perm[0] != 0):
            perm = None
        operands = [operand.ordered(perm) if operand.kind.has_axes else operand for operand in carried]
        laid = replace(
            step,
            operands=(*operands, *step.operands[len(carried) :]),
            perms=tuple(_given(step, perm, wide, rank(value)) for value in step.node.outputs),
        )
        return laid if perm is None else _renumbered(laid, perm, wide)

    def _carried(self, items: Sequence[Item]) -> Sequence[Item]:
        """Of the inputs, those whose order is free."""
        return items

    def _grows(self, step: Step, wide: int) -> bool:
        """Whether axes are put in of which nothing says where."""
        return False

    def images(self, step: Step, given: bool) -> Sequence[ir.Value | None]:
        if not given or len(step.node.outputs) != 1:
            return ()
        wide = rank(step.node.outputs[0])
        carried = self._carried(step.node.inputs)
        return [value for value in carried if value is not None and rank(value) == wide]

    def read_reordered(self, step: Step, index: int, order: FactorOrder) -> Reordered | None:
        if self._is_elementwise(step):
            return _reordered(step, _constants(step, index, order), order)
        return super().read_reordered(step, index, order)

    def give_reordered(self, step: Step, order: FactorOrder) -> Reordered | None:
        if self._is_elementwise(step):
            return self.read_reordered(step, 0, order)
        return super().give_reordered(step, order)

    def _is_elementwise(self, step: Step) -> bool:
        return step.operator.axes is None and len(step.node.outputs) == 1


class FirstInput(AnyOrder):
    text = "any for the first input"

    def _carried(self, items: Sequence[Item]) -> Sequence[Item]:
        return items[:1]

    def _grows(self, step: Step, wide: int) -> bool:
        return any(rank(value) > wide for value in step.node.outputs)

    def _is_elementwise(self, step: Step) -> bool:
        return False


class Reshapes(AsStated):
    """Moves nothing where the parts of an axis lie side by side, and comes as stated elsewhere. Between a convolution
    and a Dense the weights move, and the tensor does not."""

    text = "regroups axes"

    def arrange(self, step: Step, orders: Orders) -> Step:
        perm, given = self._regrouped(step, orders)
        first, *others = step.operands
        return replace(step, operands=(first.ordered(perm), *others), perms=(given,))

    def _regrouped(self, step: Step, orders: Orders) -> tuple[Perm, Perm]:
        """The orders before and after."""
        source, target = step.operands[0].value, step.node.outputs[0]
        if source is None or not step.operands[0].is_tensor:
            return None, None
        perm = orders.perm(source)
        if perm is None:
            return None, self._spread(source, target, orders)
        found = reshaped(perm, list(shape_of(source)), list(shape_of(target)))
        if found is None or (found[1] is not None and not orders.reorder_readers(target, found[1])):
            return None, None
        return perm, found[0]

    @staticmethod
    def _spread(source: ir.Value, target: ir.Value, orders: Orders) -> Perm:
        """A Dense whose units become (channels, spatial…) for a convolution gives them channels last instead."""
        before, after = list(shape_of(source)), list(shape_of(target))
        wide = len(after)
        sizes = tuple(dim for dim in after[1:] if isinstance(dim, int))
        if wide < 3 or before[:-1] != after[:1] or len(sizes) < wide - 1:
            return None
        order = FactorOrder(1, sizes, (*range(1, wide - 1), 0))
        done = orders.is_image(target) and orders.reorder_makers(source, order)
        return channels_behind(wide) if done else None


ONNX: Layout = AsStated()
CHANNELS_LAST: Layout = ChannelsLast()
HEADS: Layout = Heads()
TRANSPOSES: Layout = Transposes()
LAST: Layout = LastAxis()
MATMUL: Layout = MatMul()
ANY: Layout = AnyOrder()
FIRST_INPUT: Layout = FirstInput()
RESHAPES: Layout = Reshapes()


# --- the order of an operator that works in any ------------------------------------------------------------------


def _cheapest(whole: Sequence[ir.Value], orders: Orders, image: bool) -> Perm:
    """The order for which fewest of the values `whole` move."""
    counts = Counter(map(orders.perm, whole))

    def cost(order: Perm) -> tuple[int, int, bool]:
        moved = [value for value in whole if elements_move(shape_of(value), orders.perm(value), order)]
        return len(moved), -counts[order], (order is None) == image

    return min(counts, key=cost, default=None)


def _given(step: Step, perm: Perm, wide: int, out_rank: int) -> Perm:
    """The order of an output, whose rank may differ by the axes that the operator removes or puts in."""
    if perm is None or out_rank == wide:
        return perm
    axes = step.axes
    if out_rank < wide:
        ones = [axis for axis, dim in enumerate(step.shape()) if dim == 1]  # Squeeze without axes
        removed = {axis % wide for axis in axes or (range(wide) if out_rank == 0 else ones)}
        kept = [axis for axis in perm if axis not in removed]
        return plain([sorted(kept).index(axis) for axis in kept]) if len(kept) == out_rank else None
    added = sorted(axis % out_rank for axis in axes or ())
    rest = [axis for axis in range(out_rank) if axis not in added]
    order = [rest[axis] for axis in perm]
    for axis in added:
        order.insert(axis, axis)
    return plain(order)


def _renumbered(step: Step, perm: tuple[int, ...], wide: int) -> Step:
    """The step with the axis numbers of the stored order in the place of the graph's."""
    name, axes = step.operator.axes, step.axes
    if name is None or (axes is not None and rank(step.node.outputs[0]) > wide):
        return step  # axes that are put in stand where the graph says
    stored = [perm.index(axis % wide) for axis in (range(wide) if axes is None else axes)]
    if name in step.operator.attributes:
        known = stored[0] if isinstance(step.argument(name), int) else stored
        return replace(step, attributes={**step.attributes, name: known})
    parameters = step.operator.inputs
    index = next(i for i, parameter in enumerate(parameters) if parameter.name == name)
    absent = [Operand(None, parameter.kind) for parameter in parameters[len(step.operands) : index + 1]]
    operands = [*step.operands, *absent]
    operands[index] = Operand(operands[index].value, Kind.INTS, stored)
    return replace(step, operands=tuple(operands))


# --- weights and constants beside elements in another order ------------------------------------------------------


def _reordered(step: Step, known: Mapping[int, Known] | None, order: FactorOrder | None) -> Reordered | None:
    return None if known is None else Reordered(step.reordered(known), order)


def _weights(step: Step, axes: Mapping[str, int], order: FactorOrder) -> dict[int, Known] | None:
    """The weights that run along the reordered axis, in its order; None if one of them cannot be had so."""
    found: dict[int, Known] = {}
    for index, (parameter, operand) in enumerate(zip(step.operator.inputs, step.operands, strict=False)):
        if parameter.name not in axes or operand.value is None:
            continue
        axis, known = axes[parameter.name], operand.known
        dims = shape_of(operand.value)
        if known is None or len(operand.value.uses()) > 1 or dims[axis] != math.prod(order.sizes):
            return None
        found[index] = order.apply(known, axis)
    return found


def _constants(step: Step, index: int, order: FactorOrder) -> dict[int, Known] | None:
    """Of an operator on every element: its constants take the order too; another tensor must be the same there."""
    found: dict[int, Known] = {}
    wide = rank(step.node.outputs[0])
    for other, operand in enumerate(step.operands):
        if other == index or operand.value is None or not operand.kind.has_axes:
            continue
        axis = order.axis - wide + rank(operand.value)
        if axis < 0 or shape_of(operand.value)[axis] == 1:
            continue
        if operand.known is None or len(operand.value.uses()) > 1:
            return None
        found[other] = order.apply(operand.known, axis)
    return found
