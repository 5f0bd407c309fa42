"""What can be wrong with a node of a graph: each function puts it in and says so, or finds no place and says that."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from bridge.weights.weight import Weight

Sizes = dict[str, int]
TRAINING = ("momentum", "dropout rate", "frozen parameter")  # that nothing but training shows
RECURRENT = {"LSTM": 4, "GRU": 3}  # gates
BIASED = {
    "Gemm": 2,
    "Conv": 2,
    "ConvTranspose": 2,
    "LSTM": 3,
    "GRU": 3,
    "RNN": 3,
    "LayerNormalization": 2,
    "Linear": 2,
}
WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
SINGLE = "Relu Tanh Sigmoid Gelu Erf Exp Softplus LeakyRelu HardSigmoid HardSwish Sqrt BatchNormalization Swish".split()


def touched(model: ir.Model) -> set[str]:
    return {str(value.name) for node in model.graph for value in node.outputs}


def _constant(node: ir.Node, place: int) -> ir.TensorProtocol | None:
    value = node.inputs[place] if place < len(node.inputs) else None
    return None if value is None else ir.convenience.get_const_tensor(value)


def _put(node: ir.Node, place: int, tensor: ir.TensorProtocol) -> bool:
    """Another constant in the place of an input."""
    graph, old = node.graph, node.inputs[place]
    assert isinstance(graph, ir.Graph)
    name = f"wrong_{node.outputs[0].name}_{place}"
    type_ = ir.TensorType(tensor.dtype)
    value = ir.Value(name=name, type=type_, shape=ir.Shape(list(map(int, tensor.shape))), const_value=tensor)
    graph.initializers[name] = value
    node.replace_input_with(place, value)
    return old is not value


def _number(node: ir.Node, name: str, change: Callable[[float], float], default: float | None = None) -> bool:
    held = node.attributes.get(name)
    if held is None and default is None:
        return False
    old = float(held.value) if held is not None else default
    assert old is not None
    node.attributes.add(ir.AttrFloat32(name, change(old)))
    return True


def _epsilon(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    return "Normalization" in node.op_type and _number(node, "epsilon", lambda x: 3 * x, 1e-5)


def _momentum(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    return node.op_type == "BatchNormalization" and _number(node, "momentum", lambda x: 0.5 * x, 0.9)


def _rate(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    if node.op_type.endswith("Dropout") and "ratio" in node.attributes:
        return _number(node, "ratio", lambda x: 0.5 * x + 0.3)
    held = _constant(node, 1) if node.op_type == "Dropout" else None
    if held is None or not held.numpy().item():
        return False
    return _put(node, 1, ir.tensor(np.asarray(held.numpy() * 0.5 + 0.3, held.numpy().dtype)))


def _frozen_parameter(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    for place in range(len(node.inputs)):
        held = _constant(node, place)
        if isinstance(held, Weight) and held.trainable and held.is_parameter:
            names = dict.fromkeys(held.recipe.names, False)
            state = held.state
            return _put(node, place, held.of(replace(state, trainable={**state.trainable, **names})))
    return False


def _gates(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    gates = next((n for kind, n in RECURRENT.items() if kind in node.op_type), 0)
    if not gates or len(node.inputs) < 2 or node.inputs[1] is None:
        return False
    order, held = (1, 0, *range(2, gates)), _constant(node, 1)
    if isinstance(held, Weight):
        axis = 1 if len(held.dims) == 3 else 0
        return held.dims[axis] % gates == 0 and _put(node, 1, held.blocks(order, axis))
    if node.domain or "hidden_size" not in node.attributes:
        return False
    size = node.attributes["hidden_size"].as_int()
    places = np.concatenate([np.arange(k * size, (k + 1) * size) for k in order])
    return _insert_before(node, 1, "Gather", [places], axis=1)


def _insert_before(
    node: ir.Node, place: int, op: str, constants: list[np.ndarray], **attributes: int
) -> bool:
    value, graph = node.inputs[place], node.graph
    assert value is not None
    assert isinstance(graph, ir.Graph)
    held = []
    for number, array in enumerate(constants):
        name = f"wrong_{value.name}_{number}"
        one = ir.Value(name=name, type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
                       shape=ir.Shape(array.shape), const_value=ir.tensor(array, name=name))  # fmt: skip
        graph.initializers[name] = one
        held.append(one)
    made = ir.Value(name=f"wrong_{value.name}", type=value.type, shape=value.shape)
    node.prepend(
        ir.Node("", op, [value, *held], [ir.AttrInt64(k, v) for k, v in attributes.items()], outputs=[made])
    )
    node.replace_input_with(place, made)
    return True


def _lost_bias(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    place = BIASED.get(node.op_type, -1)
    if node.op_type == "Add":
        place = next((k for k in (0, 1) if len(getattr(_constant(node, k), "shape", ())) == 1), -1)
    held = _constant(node, place) if place >= 0 else None
    if held is None or not np.any(held.numpy()):
        return False
    zero = held.fill(0.0, held.dims) if isinstance(held, Weight) else ir.tensor(np.zeros_like(held.numpy()))
    return _put(node, place, zero)


def _transposed(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    place = 0 if node.op_type == "Transpose" else 1
    held = _constant(node, place)
    if held is None or len(held.shape) != 2 or held.shape[0] != held.shape[1] or held.shape[0] == 1:
        return False
    if node.op_type == "Transpose":
        node.attributes.add(ir.AttrInt64s("perm", [0, 1]))
        return True
    if node.op_type not in ("MatMul", "Gemm", "Linear") or not isinstance(held, Weight):
        return False
    return _put(node, place, held.transpose(1, 0))


def _padding(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    """One of the places behind an axis before it."""
    if node.op_type == "Pad":
        held = _constant(node, 1)
        moved = None if held is None else _moved(held.numpy().tolist())
        return moved is not None and _put(node, 1, ir.tensor(np.asarray(moved)))
    pads = node.attributes.get("pads") if node.op_type in WINDOWS else None
    moved = None if pads is None else _moved(list(pads.as_ints()))
    if moved is None:
        return False
    node.attributes.add(ir.AttrInt64s("pads", moved))
    return True


def _moved(pads: list[int]) -> list[int] | None:
    rank = len(pads) // 2
    for axis in range(rank):
        if pads[rank + axis] > 0:
            pads[axis] += 1
            pads[rank + axis] -= 1
            return pads
    return None


def _tanh(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    if node.op_type == "Erf":
        node.op_type = "Tanh"
        return True
    if node.op_type != "Gelu" or "approximate" in node.attributes:
        return False
    node.attributes.add(ir.AttrString("approximate", "tanh"))
    return True


def _slice(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    held = _constant(node, 1)
    if held is None or isinstance(held, Weight) or held.size != 1:
        return False
    place = int(held.numpy().item())
    if node.op_type == "Gather" and _constant(node, 0) is None and node.inputs[0].dtype == ir.DataType.FLOAT:
        return _put(node, 1, ir.tensor(np.asarray(held.numpy() + (1 if place == 0 else -1))))
    return node.op_type == "Slice" and _put(
        node, 1, ir.tensor(np.asarray(held.numpy() + (1 if place >= 0 else -1)))
    )


def _order(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    """Two layers that follow one another, each in the other's place."""
    after = node.outputs[0].consumers() if len(node.outputs) == 1 else ()
    if (
        node.op_type not in SINGLE
        or len(after) != 1
        or after[0].op_type not in SINGLE
        or node.outputs[0].is_graph_output()
    ):
        return False
    other = after[0]
    if other.op_type == node.op_type or other.inputs[0] is not node.outputs[0] or node.domain or other.domain:
        return False
    if len(node.inputs) != 1 and len(other.inputs) != 1:
        return False
    first, second = (list(x.attributes.values()) for x in (node, other))
    node.op_type, other.op_type = other.op_type, node.op_type
    rests = list(node.inputs[1:]), list(other.inputs[1:])
    for one, rest, attributes in ((node, rests[1], second), (other, rests[0], first)):
        one.resize_inputs(1 + len(rest))
        for place, value in enumerate(rest):
            one.replace_input_with(1 + place, value)
        one.attributes.clear()
        one.attributes.update({attribute.name: attribute for attribute in attributes})
    return True


def _direction(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    held = node.attributes.get("direction") if node.op_type in (*RECURRENT, "RNN") else None
    if held is None or held.as_string() != "reverse":
        return False
    node.attributes.add(ir.AttrString("direction", "forward"))
    return True


def _softmax(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    rank = (
        node.outputs[0].shape.rank()
        if node.op_type in ("Softmax", "LogSoftmax") and node.outputs[0].shape
        else 0
    )
    if rank < 2:
        return False
    axis = node.attributes["axis"].as_int() % rank if "axis" in node.attributes else rank - 1
    node.attributes.add(ir.AttrInt64("axis", (axis - 1) % rank))
    return True


def _scale(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    if node.op_type == "Attention" and "scale" in node.attributes:
        return _number(node, "scale", lambda x: 1.2 * x)
    held = _constant(node, 1) if node.op_type in ("Mul", "Div") else None
    if held is None or held.size != 1 or isinstance(held, Weight) or not held.dtype.is_floating_point():
        return False
    return _put(node, 1, ir.tensor(np.asarray(held.numpy() * 1.2, held.numpy().dtype)))


def _frozen_axis(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    """The size of an example in the place of a free one."""
    shape = node.outputs[0].shape if node.op_type in ("Reshape", "Expand") else None
    if shape is None or all(isinstance(dim, int) for dim in shape):
        return False
    found = [dim if isinstance(dim, int) else dim.evaluate(sizes) for dim in shape]
    return all(isinstance(dim, int) for dim in found) and _put(
        node, 1, ir.tensor(np.asarray(found, np.int64))
    )


def _half(node: ir.Node, draw: random.Random, sizes: Sizes) -> bool:
    value, graph = node.outputs[0], node.graph
    if (
        value.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE)
        or value.is_graph_output()
        or not value.uses()
    ):
        return False
    low = ir.Value(name=f"wrong_{value.name}", type=ir.TensorType(ir.DataType.FLOAT16), shape=value.shape)
    back = ir.Value(name=f"back_{value.name}", type=value.type, shape=value.shape)
    ir.convenience.replace_all_uses_with(value, back)
    down = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(ir.DataType.FLOAT16))], outputs=[low])
    up = ir.Node("", "Cast", [low], [ir.AttrInt64("to", int(value.dtype))], outputs=[back])
    graph.insert_after(node, [down, up])
    return True


GRAPHS: dict[str, Callable[[ir.Node, random.Random, Sizes], bool]] = {
    "epsilon": _epsilon,
    "momentum": _momentum,
    "dropout rate": _rate,
    "frozen parameter": _frozen_parameter,
    "gates": _gates,
    "lost bias": _lost_bias,
    "transposed kernel": _transposed,
    "padding": _padding,
    "tanh": _tanh,
    "slice": _slice,
    "order": _order,
    "direction": _direction,
    "softmax axis": _softmax,
    "scale": _scale,
    "frozen axis": _frozen_axis,
    "half": _half,
}
