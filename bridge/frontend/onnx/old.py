"""A node of an older opset, on its way to the newest form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_shape_inference import OpUsageError, ShapeInferenceContext, ShapeInferenceError, registry

from bridge.graph.functions import OPSET
from bridge.graph.rewriting import owner_graph

RANKS = 13  # below it, what a node becomes may depend on the number of axes
# What the library raises for nodes that make no sense.
NO_SHAPES = (OpUsageError, ShapeInferenceError, ArithmeticError, LookupError, TypeError, ValueError)
CONSTANTS = {
    ir.AttributeType.INTS: "value_ints",
    ir.AttributeType.INT: "value_int",
    ir.AttributeType.FLOAT: "value_float",
    ir.AttributeType.FLOATS: "value_floats",
}


class NoNewerForm(Exception):
    """What a node says has no newer form; the text says what and the way out."""


class Ranks:
    """The shapes and types of values, learnt node by node on the way through a graph; some stay unknown."""

    def __init__(self) -> None:
        registry.collect()
        self._context = ShapeInferenceContext({"": OPSET})

    def infer(self, node: ir.Node, version: int) -> None:
        """Learn what `node`, in its newest form, gives."""
        refers = any(attribute.is_ref() for attribute in node.attributes.values())
        run = None if refers or version >= RANKS else registry.get(node.domain, node.op_type, version=OPSET)
        if run is None:
            return
        for value in node.inputs:
            if value is not None:
                self._context.name_anonymous_dims(value)
        with suppress(*NO_SHAPES):  # the plan says what is wrong with the node
            run(self._context, node)


class Before:
    """Puts nodes before `node`, with its metadata, and learns their shapes."""

    def __init__(self, node: ir.Node, ranks: Ranks, version: int = 0):
        self.node = node
        self.version = version
        self._ranks = ranks

    def put(
        self, op: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], outputs: Any = 1
    ) -> ir.Node:
        properties = dict(self.node.metadata_props)
        node = ir.node(op, list(inputs), attributes, num_outputs=outputs, metadata_props=properties)
        owner_graph(self.node).insert_before(self.node, node)
        self._ranks.infer(node, self.version)
        return node

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> ir.Value:
        return self.put("Constant", (), {"value": ir.tensor(np.asarray(array, dtype))}).outputs[0]


class Old(Before):
    """A node of an older opset, and the nodes that are put before it to say the same."""

    def refuse(self, reason: str) -> NoReturn:
        raise NoNewerForm(reason)

    def take(self, name: str, default: object) -> Any:
        """The value of an attribute, which goes."""
        attribute = self.node.attributes.pop(name, None)
        if attribute is None:
            return default
        if attribute.is_ref():
            self.refuse(f"its {name} is an attribute of the function around it; write the number")
        return attribute.value

    def operand(self, name: str) -> ir.Value | None:
        """An attribute, which goes, as a constant; also one that refers to an attribute of the function around it."""
        attribute = self.node.attributes.pop(name, None)
        if attribute is None:
            return None
        constant, kind = CONSTANTS[attribute.type], attribute.type
        if attribute.ref_attr_name is not None:
            return self.emit("Constant", **{constant: ir.RefAttr(constant, attribute.ref_attr_name, kind)})
        return self.emit("Constant", **{constant: ir.Attr(constant, kind, attribute.value)})

    def number(self, value: float, like: ir.Value) -> ir.Value:
        """A scalar of the type of `like`."""
        if like.dtype is None:
            return self.emit("CastLike", self.constant(value, np.float32), like)
        with np.errstate(over="ignore"):
            return self.constant(value, like.dtype.numpy())

    def emit(self, op: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        return self.put(op, inputs, attributes).outputs[0]

    def become(self, op: str, *inputs: ir.Value | None, **attributes: Any) -> None:
        """The node is another one, with the attributes that it has left and these."""
        self.node.op_type = op
        self.read(*inputs)
        self.node.attributes.update(
            {key: ir.convenience.convert_attribute(key, value) for key, value in attributes.items()}
        )

    def read(self, *inputs: ir.Value | None) -> None:
        """The node has these inputs."""
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        self.node.resize_inputs(len(inputs))
        for index, value in enumerate(inputs):
            self.node.replace_input_with(index, value)
