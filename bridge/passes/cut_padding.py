"""The end of a padded convolution, cut off -> the convolution with less padding there. Causal ones are often so,
`Conv1d(padding=p)` and `[..., :-p]`, and Keras has a word for them."""

from __future__ import annotations

import onnx_ir as ir

from bridge.graph.rewriting import all_nodes, attribute, input_of, integers, is_onnx, replace


def cut_padding(model: ir.Model) -> None:
    for node in all_nodes(model):
        if is_onnx(node, "Slice"):
            _cut(node)


def _cut(node: ir.Node) -> None:
    value = input_of(node, 0)
    conv = value.producer()
    if not is_onnx(conv, "Conv") or len(value.uses()) > 1 or value.is_graph_output() or value.shape is None:
        return
    starts, ends, axes, steps = (integers(given) for given in [*node.inputs[1:], None, None][:4])
    if starts != [0] or ends is None or steps not in (None, [1]):
        return
    rank = value.shape.rank()
    axis, cut = (axes or [0])[0] % rank, -ends[0]
    strides = attribute(conv, "strides", [1] * (rank - 2))
    pads = list(attribute(conv, "pads", [0] * 2 * (rank - 2)))
    place = rank - 2 + axis - 2  # of the end's pad
    if axis < 2 or strides[axis - 2] != 1 or attribute(conv, "auto_pad", "NOTSET") != "NOTSET":
        return
    if not 0 < cut <= pads[place]:
        return
    pads[place] -= cut
    conv.attributes["pads"] = ir.AttrInt64s("pads", pads)
    value.shape = node.outputs[0].shape
    replace(node.outputs[0], value)
