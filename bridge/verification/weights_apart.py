"""A graph as onnxruntime is given it: with weights as inputs, which are read where they lie. It copies initializers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from bridge.frontend.onnx.lowered import MICROSOFT
from bridge.graph.functions import DOMAIN
from bridge.graph.rewriting import Emitter, attribute, input_of, is_onnx, replace, sizes
from bridge.weights.weight import Weight

MAX_INLINE_BYTES = 1 << 10  # bytes of an initializer that onnxruntime gets within the model


def without_weights(model: ir.Model) -> tuple[ir.Model, dict[str, np.ndarray]]:
    """A copy of the model without its larger initializers, and these by the names of the inputs that they are. One that
    lies in another order of its axes than it has is turned while the graph runs, or is a product's turned side."""
    light, arrays = model.clone(), dict[str, np.ndarray]()
    for name, value in list(light.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= MAX_INLINE_BYTES or not _is_numpy(tensor.dtype):
            continue
        arrays[name], order = _as_it_lies(tensor)
        value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(sizes(tensor))
        value.const_value = None
        del light.graph.initializers[name]
        light.graph.inputs.append(value if order is None else _turned(light.graph, value, order))
    for node in list(light.graph):
        _multiply_turned(node)
    light.graph.opset_imports[MICROSOFT] = 1
    RemoveUnusedNodesPass()(light)
    return light, arrays


def _is_numpy(dtype: ir.DataType) -> bool:
    """Whether numpy has numbers of this type, and not somebody beside it."""
    return dtype != ir.DataType.STRING and dtype.numpy().isbuiltin == 1


def _as_it_lies(tensor: ir.TensorProtocol) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """The numbers of a tensor in one piece, and in which order of its axes, if not in its own."""
    view = tensor.view() if isinstance(tensor, Weight) else None
    if view is None:
        return np.ascontiguousarray(tensor.numpy()), None
    order = sorted(range(view.ndim), key=lambda axis: -view.strides[axis])
    if order != list(range(view.ndim)) and (whole := view.transpose(order)).flags.c_contiguous:
        return whole, tuple(order)
    return np.ascontiguousarray(view), None


def _turned(graph: ir.Graph, value: ir.Value, order: tuple[int, ...]) -> ir.Value:
    """What gives `value`, an input that it is turned from, which has its axes in `order`."""
    assert value.shape is not None
    given = ir.Value(name=value.name, type=value.type, shape=ir.Shape([value.shape[axis] for axis in order]))
    back = [int(axis) for axis in np.argsort(order)]
    turning = ir.node("Transpose", [given], {"perm": back}, outputs=[value])
    value.name = f"{given.name}_turned"
    graph.insert_before(graph[0], turning)
    return given


def _multiply_turned(node: ir.Node) -> None:
    """A product with a matrix that is turned before, as onnxruntime has it without turning."""
    found = _sides(node)
    if found is None:
        return
    emit = Emitter(node)
    made = emit("FusedMatMul", *found, domain=MICROSOFT, transB=1)
    if node.op_type == "Linear":
        made = emit("Add", made, input_of(node, 2))
    replace(node.outputs[0], made)


def _sides(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """What `node` multiplies, and the matrix that it does so by when its rows have become its columns; None if it does
    not, or not by one of the inputs."""
    if node.domain == DOMAIN and node.op_type == "TiedProjection":
        x, matrix = input_of(node, 0), input_of(node, 1)
    elif is_onnx(node, "MatMul") or (node.domain, node.op_type) == (DOMAIN, "Linear"):
        x, turned = input_of(node, 0), input_of(node, 1)
        turning = turned.producer()
        if not is_onnx(turning, "Transpose") or list(attribute(turning, "perm", ())) != [1, 0]:
            return None
        matrix = input_of(turning, 0)
    else:
        return None
    fits = matrix.is_graph_input() and matrix.dtype == ir.DataType.FLOAT
    return (x, matrix) if fits and x.shape is not None and x.shape.rank() > 1 else None
