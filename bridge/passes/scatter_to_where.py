"""ScatterND of numbers that were picked by the same mask (torch's `x[mask] = f(x[mask])`) -> Where.

What is written may be made of numbers picked by that mask, element by element, and of single numbers: it is then made
of everything, and the mask picks at the end.
"""

from __future__ import annotations

import onnx_ir as ir

from bridge.graph.rewriting import (
    Emitter,
    all_nodes,
    attribute,
    constant,
    input_of,
    inputs_of,
    is_onnx,
    replace,
)
from bridge.graph.shapes import rank

ELEMENTWISE = (
    "Abs Add And Cast CastLike Ceil Clip Cos Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid "
    "HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Min Mod Mul Neg Not Or Pow Reciprocal Relu "
    "Round Sigmoid Sign Sin Softplus Sqrt Sub Tan Tanh Where Xor"
).split()


def scatter_to_where(model: ir.Model) -> None:
    for node in all_nodes(model):
        if is_onnx(node, "ScatterND") and attribute(node, "reduction", "none") == "none":
            _rewrite(node)


def _rewrite(node: ir.Node) -> None:
    data, indices, updates = inputs_of(node)
    chosen = _mask(indices)
    if chosen is None or chosen.shape is None or data.shape is None:
        return
    if list(chosen.shape) != list(data.shape)[: len(chosen.shape)]:  # it may mask the first places only
        return
    emit = Emitter(node)
    whole = _whole(emit, updates, chosen, data)
    if whole is None:
        return
    behind = len(data.shape) - len(chosen.shape)
    if behind:
        chosen = emit("Unsqueeze", chosen, emit.constant(list(range(-behind, 0))))
    replace(node.outputs[0], emit("Where", chosen, whole, data))


def _mask(indices: ir.Value | None) -> ir.Value | None:
    """The mask whose true places `indices` are, one in a row."""
    turned = indices.producer() if indices is not None else None
    if not is_onnx(turned, "Transpose") or tuple(attribute(turned, "perm", (1, 0))) != (1, 0):
        return None
    found = input_of(turned, 0).producer()
    return found.inputs[0] if is_onnx(found, "NonZero") else None


def _whole(emit: Emitter, value: ir.Value, chosen: ir.Value, data: ir.Value) -> ir.Value | None:
    """What `value` is at the places of the mask, for every place; None if it is not made element by element."""
    tensor, node = constant(value), value.producer()
    if tensor is not None:
        return value if tensor.size == 1 and len(tensor.shape) <= rank(data) else None
    if is_onnx(node, "Expand") and constant(node.inputs[0]) is not None:
        return _whole(emit, input_of(node, 0), chosen, data)
    if is_onnx(node, "GatherND") and not attribute(node, "batch_dims", 0):
        other = _mask(node.inputs[1])
        same = other is not None and _same(other, chosen) and input_of(node, 0).shape == data.shape
        return node.inputs[0] if same else None
    if not is_onnx(node, *ELEMENTWISE) or len(node.outputs) != 1:
        return None
    inputs = [None if operand is None else _whole(emit, operand, chosen, data) for operand in node.inputs]
    if any(new is None and old is not None for new, old in zip(inputs, node.inputs, strict=True)):
        return None
    attributes = {name: held.value for name, held in node.attributes.items()}
    return emit(node.op_type, *inputs, **attributes)


def _same(a: ir.Value | None, b: ir.Value | None) -> bool:
    """Whether two values are computed alike from the same."""
    if a is b:
        return True
    first, second = (None if value is None else value.producer() for value in (a, b))
    if first is None or second is None or first.op_identifier() != second.op_identifier():
        return a is not None and b is not None and _equal(a, b)
    alike = {k: v.value for k, v in first.attributes.items()} == {
        k: v.value for k, v in second.attributes.items()
    }
    return alike and len(first.inputs) == len(second.inputs) and all(map(_same, first.inputs, second.inputs))


def _equal(a: ir.Value, b: ir.Value) -> bool:
    """Whether two values are one small constant."""
    first, second = constant(a), constant(b)
    if first is None or second is None or first.size != 1 or second.size != 1 or first.dtype != second.dtype:
        return False
    return first.numpy().item() == second.numpy().item()
