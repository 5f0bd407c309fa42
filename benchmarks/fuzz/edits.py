"""ONNX models in which fields are set to what no exporter writes."""

from __future__ import annotations

import functools
import random
from typing import Any

import onnx
from onnx import helper

from benchmarks.fuzz.broken import NUMBERS, TEXTS, broken


def _dims(proto: onnx.ModelProto, draw: random.Random) -> None:
    values = (*proto.graph.input, *proto.graph.output, *proto.graph.value_info)
    shape = draw.choice(values).type.tensor_type.shape
    match draw.randrange(4):
        case 0 if shape.dim:
            draw.choice(shape.dim).dim_value = draw.choice(NUMBERS)
        case 1 if shape.dim:
            draw.choice(shape.dim).dim_param = draw.choice(TEXTS)
        case 2:
            shape.dim.add().dim_value = draw.choice(NUMBERS)
        case 3:
            for _ in range(draw.choice((1, 10, 200))):
                shape.dim.add().dim_value = 1


def _tensor(proto: onnx.ModelProto, draw: random.Random) -> None:
    if not proto.graph.initializer:
        return
    tensor = draw.choice(proto.graph.initializer)
    match draw.randrange(4):
        case 0 if tensor.dims:
            tensor.dims[draw.randrange(len(tensor.dims))] = draw.choice(NUMBERS)
        case 1:
            tensor.data_type = draw.randrange(30)
        case 2:
            tensor.dims[:] = [1] * draw.choice((0, 1, 9, 200))
        case 3:
            tensor.raw_data = broken(tensor.raw_data, draw)


def _integers(proto: onnx.ModelProto, draw: random.Random) -> None:
    """Sizes, axes and repeats that the graph holds as constants."""
    found = [t for t in proto.graph.initializer if t.data_type == onnx.TensorProto.INT64 and t.int64_data]
    lists = [a.ints for node in proto.graph.node for a in node.attribute if a.ints]
    numbers: list[Any] = [*(tensor.int64_data for tensor in found), *lists]
    if numbers:
        chosen = draw.choice(numbers)
        chosen[draw.randrange(len(chosen))] = draw.choice(NUMBERS)


def _attribute(proto: onnx.ModelProto, draw: random.Random) -> None:
    node = draw.choice(proto.graph.node) if proto.graph.node else None
    if node is None or not node.attribute:
        return
    attribute = draw.choice(node.attribute)
    match draw.randrange(4):
        case 0:
            attribute.i = draw.choice(NUMBERS)
        case 1:
            attribute.ints[:] = [draw.choice(NUMBERS) for _ in range(draw.choice((0, 1, 2, 9)))]
        case 2:
            attribute.s = draw.choice(TEXTS).encode()
        case 3:
            attribute.type = draw.randrange(1, 15)


def _wiring(proto: onnx.ModelProto, draw: random.Random) -> None:
    """Other inputs and outputs, and so cycles, doubles and what nobody makes."""
    names = [name for node in proto.graph.node for name in (*node.input, *node.output)] or ["x"]
    node = draw.choice(proto.graph.node) if proto.graph.node else proto.graph.node.add()
    places = draw.choice((node.input, node.output))
    if places:
        places[draw.randrange(len(places))] = draw.choice((*names, draw.choice(TEXTS)))


def _node(proto: onnx.ModelProto, draw: random.Random) -> None:
    nodes = proto.graph.node
    node = draw.choice(nodes) if nodes else nodes.add()
    match draw.randrange(6):
        case 0:
            node.op_type = draw.choice(_operators())
        case 1:
            node.name = draw.choice(TEXTS)
        case 2:
            node.domain = draw.choice(("f", "bridge", "com.microsoft", *TEXTS))
        case 3:
            nodes.add().CopyFrom(node)
        case 4:
            nodes.remove(node)
        case 5:
            nodes.sort(key=lambda _: draw.random())


@functools.cache
def _operators() -> tuple[str, ...]:
    return tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas()}))


def _header(proto: onnx.ModelProto, draw: random.Random) -> None:
    graph = proto.graph
    match draw.randrange(6):
        case 0:
            proto.opset_import[0].version = draw.choice((0, -1, 1, 5, 9, 12, 23, 25, 999))
        case 1:
            proto.ir_version = draw.choice(NUMBERS)
        case 2:
            graph.input.add().CopyFrom(draw.choice((*graph.input, *graph.output)))
        case 3:
            draw.choice((*graph.input, *graph.output, *graph.initializer)).name = draw.choice(TEXTS)
        case 4:
            del (graph.output if draw.random() < 0.5 else graph.input)[:]
        case 5:
            kind = draw.choice((*graph.input, *graph.output)).type
            kind.tensor_type.elem_type = draw.randrange(30)


def _function(proto: onnx.ModelProto, draw: random.Random) -> None:
    """A function that calls itself, another that calls it twice, forty of which call the next twice."""
    count = draw.choice((1, 2, 40))
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("f", 1)]
    for i in range(count):
        follower = f"F{(i + 1) % count if draw.random() < 0.5 else i + 1}"
        nodes = [helper.make_node(follower, [a], [b], domain="f") for a, b in (("x", "z"), ("z", "y"))]
        proto.functions.append(helper.make_function("f", f"F{i}", ["x"], ["y"], nodes, imports))
    if proto.graph.node:
        node = draw.choice(proto.graph.node)
        node.op_type, node.domain = "F0", "f"


def _doubled(proto: onnx.ModelProto, draw: random.Random) -> None:
    """A value joined to itself, or multiplied by itself, again and again."""
    names = [tensor.name for tensor in proto.graph.initializer] + [
        name for n in proto.graph.node for name in n.output
    ]
    name, operator = draw.choice(names or ["x"]), draw.choice(("Concat", "Mul", "Add", "Einsum"))
    chain = []
    for i in range(draw.choice((5, 40, 200))):
        extra: dict[str, Any] = {"axis": 0} if operator == "Concat" else {}
        if operator == "Einsum":
            extra = {"equation": "a...,b...->ab..."}
        chain.append(helper.make_node(operator, [name, name], [f"double{i}"], **extra))
        name = f"double{i}"
    proto.graph.node.extend(chain)
    if draw.random() < 0.5:
        proto.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))


EDITS = (
    _dims,
    _tensor,
    _integers,
    _integers,
    _attribute,
    _wiring,
    _node,
    _node,
    _header,
    _function,
    _doubled,
)
