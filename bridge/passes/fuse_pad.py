"""A Pad before a convolution, or before a pool of maxima, becomes its `pads`: Keras then often says it in a word."""

from __future__ import annotations

import math

import onnx_ir as ir

from bridge.graph.rewriting import all_nodes, attribute, constant, input_of, integers, is_onnx, is_used
from bridge.weights.weight import Weight

NEUTRAL = {"Conv": 0.0, "MaxPool": -math.inf}  # what the windows of each see in their padding


def fuse_pad(model: ir.Model) -> None:
    for node in all_nodes(model):
        if is_onnx(node, *NEUTRAL) and attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID"):
            _absorb(node)


def _absorb(node: ir.Node) -> None:
    source = input_of(node, 0).producer()
    if not is_onnx(source, "Pad") or len(input_of(node, 0).uses()) > 1 or input_of(node, 0).is_graph_output():
        return
    more = _spatial(source, NEUTRAL[node.op_type])
    if more is None:
        return
    given = attribute(node, "auto_pad", "NOTSET") == "NOTSET" and attribute(node, "pads")
    pads = [a + b for a, b in zip(given or [0] * len(more), more, strict=True)]
    if node.op_type == "MaxPool" and not _pools(node, pads):
        return
    node.replace_input_with(0, source.inputs[0])
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    node.attributes.pop("auto_pad", None)


def _pools(node: ir.Node, pads: list[int]) -> bool:
    """Whether a pool means the same with these pads: no window starts in them, and nobody asks for places."""
    kernel = list(attribute(node, "kernel_shape"))
    within = all(amount < size for amount, size in zip(pads, 2 * kernel, strict=True))
    return within and not attribute(node, "ceil_mode", 0) and not any(map(is_used, node.outputs[1:]))


def _spatial(node: ir.Node, value: float) -> list[int] | None:
    """ONNX's `pads` of the spatial axes, begins then ends, if `node` puts `value` around those axes only."""
    data, (pads, filler, axes) = input_of(node, 0), [*node.inputs, None, None][1:4]
    amounts, number = integers(pads), constant(filler)
    known = filler is None or number is not None and not isinstance(number, Weight)
    if (
        attribute(node, "mode", "constant") != "constant"
        or amounts is None
        or not known
        or data.shape is None
    ):
        return None
    if (0.0 if number is None else float(number.numpy().item())) != value:
        return None
    rank = data.shape.rank()
    places = list(range(rank)) if axes is None else integers(axes)
    if places is None:
        return None
    around = [0] * 2 * rank
    for place, begin, end in zip(places, amounts[: len(places)], amounts[len(places) :], strict=True):
        around[place % rank], around[place % rank + rank] = begin, end
    if min(around) < 0 or any(around[axis] for axis in (0, 1, rank, rank + 1)):
        return None
    return around[2:rank] + around[rank + 2 :]
