"""Operators that ONNX defines through other ones become those."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import onnx
import onnx.defs
import onnx_ir as ir
from onnx_ir.passes import common
from onnx_shape_inference import infer_symbolic_shapes

from bridge.frontend.onnx.opsets import imported, raise_graph
from bridge.graph.functions import DOMAIN as OURS
from bridge.graph.rewriting import is_used

# Those that no layer of Keras is.
DEFINED = {
    "AffineGrid", "BlackmanWindow", "CausalConvWithState", "CenterCropPad", "FlexAttention", "HammingWindow",
    "HannWindow", "LinearAttention", "NegativeLogLikelihoodLoss", "RotaryEmbedding", "SoftmaxCrossEntropyLoss",
    "SwiGLU",
}  # fmt: skip
WINDOWS = ("left_window_size", "right_window_size")
# Those that are one, as long as nobody reads or gives more than it has: which node is beyond it.
BEYOND: dict[str, Callable[[ir.Node], bool]] = {
    "Attention": lambda node: _reads(node, 3) or _given(node, 6) or any(map(node.attributes.get, WINDOWS)),
    "LayerNormalization": lambda node: _reads(node, 1) or _reads(node, 2),
}
DOMAINS, PREVIEW = ("", "ai.onnx.preview"), 1  # and the opset of the second
DOMAIN = "ai.onnx.defined"
UNREAD = " unread"  # behind the name of an output that a definition does not make


def define(model: ir.Model, names: Collection[str] = DEFINED) -> None:
    """Replace what `names` says, wherever it stands, and what is beyond a layer; some are defined through others. One
    whose definition needs a type that is not known stays, and the plan will name it."""
    inline = common.InlinePass(criteria=lambda function: function.domain != OURS)
    version = imported(model.opset_imports)
    stays: set[ir.Node] = set()
    while nodes := [node for node in _nodes(model, names) if node not in stays]:
        infer_symbolic_shapes(model, warn_on_missing=False)
        for node in nodes:
            body = _definition(node, version)
            if body is None or _lacks(node, body):
                stays.add(node)
                continue
            node.overload = str(len(model.functions))
            body.domain, body.overload, node.domain = DOMAIN, node.overload, DOMAIN
            _drop_graphs(node, body)
            function = ir.serde.deserialize_function(body)
            raise_graph(function)
            function.opset_imports[""] = version  # of the model, which may be newer than a definition
            model.functions[function.identifier()] = function
        inline(model)  # whose nodes then learn their types


def _nodes(model: ir.Model, names: Collection[str]) -> Iterator[ir.Node]:
    graphs: tuple[ir.Graph | ir.Function, ...] = (model.graph, *model.functions.values())
    for graph in graphs:
        for node in graph.all_nodes():
            if node.domain in DOMAINS and (node.op_type in names or _is_beyond(node)):
                yield node


def _lacks(node: ir.Node, body: onnx.FunctionProto) -> bool:
    """Whether somebody reads an output that `body` does not make."""
    return any(name.endswith(UNREAD) and _reads(node, place) for place, name in enumerate(body.output))


def _is_beyond(node: ir.Node) -> bool:
    return node.op_type in BEYOND and BEYOND[node.op_type](node)


def _reads(node: ir.Node, place: int) -> bool:
    """Whether anything reads that output."""
    return place < len(node.outputs) and is_used(node.outputs[place])


def _given(node: ir.Node, place: int) -> bool:
    return place < len(node.inputs) and node.inputs[place] is not None


def _definition(node: ir.Node, version: int) -> onnx.FunctionProto | None:
    """The body that ONNX gives `node`, for its attributes and the types of its inputs."""
    schema = onnx.defs.get_schema(node.op_type, version if node.domain == "" else PREVIEW, node.domain)
    for name, attribute in schema.attributes.items():
        if name not in node.attributes and attribute.default_value.type:
            node.attributes[name] = ir.serde.deserialize_attribute(attribute.default_value)
    if schema.has_function:  # type: ignore[attr-defined]  # its stub lacks two
        return schema.function_body
    types = [
        ir.serde.serialize_value(value).type if value is not None else onnx.TypeProto()
        for value in node.inputs
    ]
    if any(value is not None and value.type is None for value in node.inputs):
        return None
    text = schema.get_context_dependent_function(  # type: ignore[attr-defined]
        ir.serde.serialize_node(node).SerializeToString(), [kind.SerializeToString() for kind in types]
    )
    return _with_outputs(onnx.FunctionProto.FromString(text), len(node.outputs)) if text else None


def _drop_graphs(node: ir.Node, body: onnx.FunctionProto) -> None:
    """Graphs that a node holds are written out in its definition, which a function cannot be given."""
    held = [a.name for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    for name in held:
        del node.attributes[name]
    body.attribute[:] = [name for name in body.attribute if name not in held]


def _with_outputs(body: onnx.FunctionProto, count: int) -> onnx.FunctionProto:
    """`body` with the first `count` outputs; for one that it does not make, because nobody reads it, stands another."""
    made = [name for node in body.node for name in node.output]
    for place, name in enumerate(body.output[:count]):
        if name not in made:
            body.output[place] = name + UNREAD
            body.node.append(onnx.helper.make_node("Identity", [body.input[0]], [name + UNREAD]))
    body.output[:] = body.output[:count]
    return body
