"""A graph in float64: the same nodes, every number of floating point 64 bits wide.

What rounds is then known: where a graph's own outputs move, its float32 (or float16) was to blame, and a wrong formula
cannot hide behind that.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
import onnx
import onnx_ir as ir

from bridge.frontend.onnx.defined import define
from bridge.frontend.onnx.names import name_sizes
from bridge.graph.decimals import number
from bridge.graph.functions import DOMAIN, add_functions
from bridge.graph.rewriting import unused

NARROW = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
# Computed by onnxruntime in float32 unless `stash_type` says otherwise
STASHING = frozenset({"GroupNormalization"})
# Those of 32 bits that ONNX defines by others that are not
SINGLE_ONLY = frozenset({"CausalConvWithState", "Celu", "RotaryEmbedding"})
DTYPES = frozenset({"to", "dtype", "output_dtype", "output_datatype"})  # attributes that name a type
DOUBLE, SINGLE = "tensor(double)", "tensor(float)"


def in_double(given: ir.Model) -> ir.Model:
    """A copy of `given` in float64. Where an operator takes or gives 32 bits only (the scales of a Resize), casts
    stand around it, or its definition in its place."""
    model = given.clone()
    for key in [key for key, function in model.functions.items() if function.domain == DOMAIN]:
        del model.functions[key]  # which are of any type
    name_sizes(model)  # of which a definition may need the algebra
    define(model, SINGLE_ONLY)
    held = [
        *(value for graph in model.graphs() for value in graph.inputs),
        *(value for graph in model.graphs() for value in graph.initializers.values()),
    ]
    for value in held:
        _widen(value)
    made = [value for graph in model.graphs() for node in graph for value in node.outputs]
    names = {str(value.name) for value in (*held, *made)}
    for owner in (*model.graphs(), *model.functions.values()):
        opsets = owner.opset_imports if isinstance(owner, ir.Function) else model.graph.opset_imports
        for node in list(owner):
            _node(node, opsets, names)
    add_functions(model)
    return model


def _widen(value: ir.Value) -> None:
    if value.const_value is not None and value.const_value.dtype in NARROW:
        value.const_value = _wide(value.const_value)
    _retype(value)


def _retype(value: ir.Value) -> None:
    """A type is shared with the model that the value is cloned from."""
    if value.dtype in NARROW:
        value.type = copy.deepcopy(value.type)
        value.dtype = ir.DataType.DOUBLE


def _wide(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """Every number as it is; one that stands alone as it was written, which is how it is built."""
    array = tensor.numpy().astype(np.float64)
    return ir.tensor(
        np.full(array.shape, number(array.item())) if array.size == 1 else array, name=tensor.name
    )


def _node(node: ir.Node, opsets: dict[str, int], names: set[str]) -> None:
    for value in node.outputs:
        _retype(value)
    for attribute in list(node.attributes.values()):
        if (wide := _attribute(node, attribute)) is not None:
            if wide.name != attribute.name:
                del node.attributes[attribute.name]
            node.attributes.add(wide)
    if node.op_type == "ConstantOfShape" and "value" not in node.attributes:
        node.attributes.add(ir.AttrTensor("value", ir.tensor(np.zeros(1))))  # float32 where it is not said
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return
    if node.op_type in STASHING and "stash_type" in schema.attributes:
        node.attributes.add(ir.AttrInt64("stash_type", int(ir.DataType.DOUBLE)))
    _cast_around(node, schema, names)


def _attribute(node: ir.Node, attribute: ir.Attr) -> ir.Attr | None:
    """What stands for it in float64, if that is another one."""
    if attribute.is_ref():
        return None
    if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in NARROW:
        return ir.AttrTensor(attribute.name, _wide(attribute.as_tensor()))
    if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
        return ir.AttrTensor("value", _wide(ir.tensor(np.asarray(attribute.value, np.float32))))
    if attribute.name in DTYPES and attribute.value in map(int, NARROW):
        return ir.AttrInt64(attribute.name, int(ir.DataType.DOUBLE))
    if attribute.name in DTYPES and attribute.value in [dtype.name for dtype in NARROW]:  # before opset 6
        return ir.AttrString(attribute.name, ir.DataType.DOUBLE.name)
    return None


def _cast_around(node: ir.Node, schema: onnx.defs.OpSchema, names: set[str]) -> None:
    """Casts to float32 before the inputs that take no more, and to float64 after the outputs that give no more."""
    for index, value in enumerate(node.inputs):
        if value is not None and _only_single(schema.inputs, index):
            node.replace_input_with(index, _cast(node, value, ir.DataType.FLOAT, names, before=True))
    for index, value in enumerate(node.outputs):
        if value.dtype == ir.DataType.DOUBLE and _only_single(schema.outputs, index):
            value.dtype = ir.DataType.FLOAT
            wide = _cast(node, value, ir.DataType.DOUBLE, names, before=False)
            ir.convenience.replace_all_uses_with(value, wide, replace_graph_outputs=True)
            if (cast := wide.producer()) is not None:
                cast.replace_input_with(0, value)


def _only_single(formals: Iterable[onnx.defs.OpSchema.FormalParameter], index: int) -> bool:
    formals = list(formals)
    types = formals[min(index, len(formals) - 1)].types if formals else ()
    return SINGLE in types and DOUBLE not in types


def _cast(node: ir.Node, value: ir.Value, dtype: ir.DataType, names: set[str], before: bool) -> ir.Value:
    name = unused(f"{value.name}_{dtype.name.lower()}", names)
    names.add(name)
    made = ir.Value(name=name, type=ir.TensorType(dtype), shape=value.shape)
    cast = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(dtype))], outputs=[made])
    (node.prepend if before else node.append)(cast)
    return made
