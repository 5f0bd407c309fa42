"""ONNX models in which a value, a tensor, an attribute or a node is what no exporter writes."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from benchmarks.fuzz.broken import NUMBERS, TEXTS, broken

FEW = (-2, -1, 0, 0, 1, 1, 2, 3, 5, 64)  # of which a graph may make something
DTYPES = ("float32", "float64", "float16", "int64", "int32", "int8", "uint8", "bool")


def graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph and those inside of it."""
    waiting = [proto.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]


def nodes(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Of the graph, those inside of it, and functions; one without a name where there is none."""
    found = [node for graph in graphs(proto) for node in graph.node]
    found += [node for function in proto.functions for node in function.node]
    return found or [proto.graph.node.add()]


def number(draw: random.Random) -> int:
    return draw.choice(NUMBERS if draw.random() < 0.4 else FEW)


def dims(proto: onnx.ModelProto, draw: random.Random) -> None:
    """Of what the file says of a value."""
    values = [v for graph in graphs(proto) for v in (*graph.input, *graph.output, *graph.value_info)]
    type_ = draw.choice(values or [proto.graph.input.add()]).type
    shape = type_.tensor_type.shape
    match draw.randrange(7):
        case 0 | 1 if shape.dim:
            draw.choice(shape.dim).dim_value = number(draw)
        case 2 if shape.dim:
            draw.choice(shape.dim).dim_param = draw.choice(TEXTS)
        case 3:
            shape.dim.add().dim_value = number(draw)
        case 4:
            for _ in range(draw.choice((1, 10, 200))):
                shape.dim.add().dim_value = 1
        case 5:
            type_.tensor_type.ClearField("shape")
        case 6:
            del shape.dim[draw.randrange(len(shape.dim) + 1) :]


def tensor(proto: onnx.ModelProto, draw: random.Random) -> None:
    """One that does not hold what it says."""
    found = [tensor for graph in graphs(proto) for tensor in graph.initializer]
    if not found:
        return
    chosen = draw.choice(found)
    match draw.randrange(7):
        case 0 if chosen.dims:
            chosen.dims[draw.randrange(len(chosen.dims))] = number(draw)
        case 1:
            chosen.data_type = draw.randrange(30)
        case 2:
            chosen.dims[:] = [1] * draw.choice((0, 1, 9, 200))
        case 3:
            chosen.raw_data = broken(chosen.raw_data, draw)
        case 4:
            chosen.float_data.append(1.0)
        case 5:
            chosen.string_data.append(b"\xff")
        case 6:
            chosen.segment.begin, chosen.segment.end = number(draw), number(draw)


def operand(proto: onnx.ModelProto, draw: random.Random) -> None:
    """A tensor of another rank, of other sizes or of another type, all of it there."""
    found = [tensor for graph in graphs(proto) for tensor in graph.initializer]
    found += [a.t for node in nodes(proto) for a in node.attribute if a.HasField("t")]
    if not found:
        return
    chosen = draw.choice(found)
    try:
        array = numpy_helper.to_array(chosen)
    except (ValueError, TypeError, onnx.checker.ValidationError):  # another edit was there before
        return
    shape, dtype = list(array.shape), array.dtype
    match draw.randrange(6):
        case 0 if shape:
            del shape[draw.randrange(len(shape))]
        case 1:
            shape.insert(draw.randrange(len(shape) + 1), draw.choice((0, 1, 2)))
        case 2 if shape:
            shape[draw.randrange(len(shape))] = draw.choice((0, 1, 2, 3, 7))
        case 3:
            draw.shuffle(shape)
        case 4:
            dtype = np.dtype(draw.choice(DTYPES))
        case 5 if array.size and array.dtype.kind in "iu":
            array = array.copy()
            array.flat[draw.randrange(array.size)] = np.array(number(draw)).astype(array.dtype)
    name = chosen.name
    chosen.CopyFrom(numpy_helper.from_array(np.resize(array, shape).astype(dtype), name))


def integers(proto: onnx.ModelProto, draw: random.Random) -> None:
    """Sizes, axes and repeats that the graph holds as constants."""
    found = [t for t in proto.graph.initializer if t.data_type == TensorProto.INT64 and t.int64_data]
    lists = [a.ints for node in nodes(proto) for a in node.attribute if a.ints]
    numbers: list[Any] = [*(tensor.int64_data for tensor in found), *lists]
    if numbers:
        chosen = draw.choice(numbers)
        chosen[draw.randrange(len(chosen))] = number(draw)


def attribute(proto: onnx.ModelProto, draw: random.Random) -> None:
    """One that there is, of its type or of another, or twice."""
    found = [(node, a) for node in nodes(proto) for a in node.attribute]
    if not found:
        return
    node, chosen = draw.choice(found)
    match draw.randrange(6):
        case 0:
            chosen.type = draw.randrange(15)
        case 1:
            node.attribute.add().CopyFrom(chosen)
        case 2:
            chosen.ref_attr_name = draw.choice(TEXTS)
        case _:
            _set(chosen, draw)


def unset(proto: onnx.ModelProto, draw: random.Random) -> None:
    """An attribute that the operator has and the node has not."""
    node = draw.choice(nodes(proto))
    try:
        schema = onnx.defs.get_schema(node.op_type, 21)
    except onnx.defs.SchemaError:
        return
    names = sorted(set(schema.attributes) - {a.name for a in node.attribute})
    if names:
        name = draw.choice(names)
        made = AttributeProto(name=name, type=schema.attributes[name].type.value)
        _set(made, draw)
        node.attribute.add().CopyFrom(made)


def _set(chosen: AttributeProto, draw: random.Random) -> None:
    """A value of its type."""
    match chosen.type:
        case AttributeProto.INT:
            chosen.i = number(draw)
        case AttributeProto.INTS:
            length = draw.choice((0, 1, 2, 3, 4, 9, len(chosen.ints), len(chosen.ints)))
            chosen.ints[:] = [number(draw) for _ in range(length)]
        case AttributeProto.FLOAT:
            chosen.f = draw.choice((0.0, -1.0, 1e38, float("nan"), float("inf"), 1e-45))
        case AttributeProto.FLOATS:
            chosen.floats[:] = [draw.choice((0.0, -1.0, float("nan"))) for _ in range(draw.choice((0, 1, 5)))]
        case AttributeProto.STRING:
            chosen.s = draw.choice((b"\xff\xfe", *(text.encode() for text in TEXTS)))
        case AttributeProto.STRINGS:
            chosen.strings[:] = [draw.choice(TEXTS).encode() for _ in range(draw.choice((0, 1, 3)))]
        case AttributeProto.TENSOR:
            chosen.t.CopyFrom(helper.make_tensor(draw.choice(TEXTS), TensorProto.INT64, [1], [number(draw)]))
        case AttributeProto.GRAPH:
            del chosen.g.node[draw.randrange(len(chosen.g.node) + 1) :]


def wiring(proto: onnx.ModelProto, draw: random.Random) -> None:
    """Other inputs and outputs, more or fewer of them: cycles, doubles, what nobody makes, what does not fit."""
    names = [name for node in nodes(proto) for name in (*node.input, *node.output)]
    names += [value.name for value in (*proto.graph.input, *proto.graph.initializer)]
    node = draw.choice(nodes(proto))
    places = draw.choice((node.input, node.input, node.output))
    other = draw.choice((*names, *names, draw.choice(TEXTS), ""))
    match draw.randrange(5):
        case 0:
            places.append(other)
        case 1 if places:
            places.pop()
        case 2 if places:
            places[:] = draw.sample(list(places), len(places))
        case _ if places:
            places[draw.randrange(len(places))] = other


def node(proto: onnx.ModelProto, draw: random.Random) -> None:
    graph = draw.choice(list(graphs(proto)))
    chosen = draw.choice(graph.node or [graph.node.add()])
    match draw.randrange(7):
        case 0 | 1:
            chosen.op_type = draw.choice(_operators())
        case 2:
            chosen.name = draw.choice(TEXTS)
        case 3:
            chosen.domain = draw.choice(("f", "bridge", "com.microsoft", "ai.onnx", "ai.onnx.ml", *TEXTS))
        case 4:
            graph.node.add().CopyFrom(chosen)
        case 5:
            graph.node.remove(chosen)
        case 6:
            graph.node.sort(key=lambda _: draw.random())


@functools.cache
def _operators() -> tuple[str, ...]:
    return tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas()}))


EDITS = (dims, tensor, operand, operand, operand, integers, integers, attribute, unset, wiring, wiring, node)
